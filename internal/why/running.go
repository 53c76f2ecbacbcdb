package why

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// Link says of the calls of a list which calls they wait for, and which of them their callers have left. all has the calls of the node: a call of the list may wait for one that is not on it. For example, of
// the calls of Front a list says that one waits for its call to Back.
func Link(list *helvetype.CallList, all helvetype.CallList) {
	known, children := map[string]bool{}, map[string]helvetype.Call{}
	for _, c := range all.Calls {
		known[c.ID] = true
		if _, ok := children[c.Parent]; c.Parent != "" && !ok {
			children[c.Parent] = c
		}
	}
	for i := range list.Calls {
		c := &list.Calls[i]
		if child, ok := children[c.ID]; ok && c.State == helvetype.CallRunning {
			c.WaitsFor = "its call " + child.ID + " to " + child.Deployment + "." + cmp.Or(child.Method, "(default)")
		}
		c.CallerEnded = all.Unlisted == 0 && c.Parent != "" && !known[c.Parent]
	}
}

// Held adds to an answer which calls hold slots although nothing reads their streams: calls whose callers have ended, if calls wait for the slots, and else calls whose readers have read nothing for a while. calls
// are the calls of the node, after [Link].
func Held(e *helvetype.Explanation, a helvetype.ApplicationStatus, calls []helvetype.Call, now time.Time) {
	for _, name := range slices.Sorted(maps.Keys(a.Deployments)) {
		if e.Object.Deployment != "" && e.Object.Deployment != name {
			continue
		}
		var running []helvetype.Call
		for _, c := range calls {
			if c.App == e.Object.App && c.Deployment == name && c.State == helvetype.CallRunning {
				running = append(running, c)
			}
		}
		queued := a.Deployments[name].Calls.Queued > 0
		if !queued || e.Object.Replica != "" || !abandoned(e, name, running, now) {
			unread(e, name, queued, running, calls, now)
		}
	}
}

// abandoned says that slots of a deployment, for which calls wait, are held by calls whose callers have ended. For example, a method begins a stream, returns, and nothing reads the stream or ends it: it holds its
// slot until its replica ends, and more slots are held as soon.
func abandoned(e *helvetype.Explanation, name string, running []helvetype.Call, now time.Time) bool {
	left, oldest := 0, helvetype.Call{}
	for _, c := range running {
		if c.Stream && c.CallerEnded && now.Sub(c.Since) >= abandonedAfter { // a call without a stream ends by itself
			if left++; left == 1 || c.Since.Before(oldest.Since) {
				oldest = c
			}
		}
	}
	if left == 0 || left*2 < len(running) {
		return false
	}
	on := place(e.Object.App, name, "")
	e.Sentence += fmt.Sprintf("; %d of the %s that hold slots of %s were left by their callers, the oldest for %s: the method that has called %s has returned, and has neither read its stream to the end nor ended it",
		left, count(len(running), "call"), name, lasts(now, oldest.Since), place("", name, oldest.Method))
	e.Next = fmt.Sprintf("helve calls %s lists them; helve why --request %s is the oldest; helve restart %s frees their slots after the drain (graceful_shutdown_timeout_s), until new streams hold them. More slots would only last longer: the code that begins the streams has to end them", on, oldest.RequestID, on)
	return true
}

// unread says that streams of a deployment wait for their readers. For example, a client of HTTP asks for a stream and reads nothing of it: the method waits, and holds its slot.
func unread(e *helvetype.Explanation, name string, queued bool, running, calls []helvetype.Call, now time.Time) {
	waiting, oldest := 0, helvetype.Call{}
	for _, c := range running {
		if (e.Object.Replica == "" || c.Replica == e.Object.Replica) && stuck(c, now, unreadAfter) {
			if waiting++; waiting == 1 || c.UnreadSince.Before(oldest.UnreadSince) {
				oldest = c
			}
		}
	}
	if waiting == 0 {
		return
	}
	by, next := reader(oldest, calls)
	if waiting == 1 {
		e.Sentence += fmt.Sprintf("; a stream of %s waits for its reader: ", place("", name, cmp.Or(oldest.Method, "(default)")))
	} else {
		e.Sentence += fmt.Sprintf("; %d of the %s that run in %s wait for the readers of their streams: of the oldest, ", waiting, count(len(running), "call"), name)
	}
	e.Sentence += fmt.Sprintf("%s has read nothing, or too little, for %s", by, lasts(now, oldest.UnreadSince))
	if e.Next == "" || queued && waiting*2 >= len(running) {
		e.Next = fmt.Sprintf("helve calls %s lists them; helve why --request %s is the oldest; %s. A limit of time for the request or the call ends such a stream", place(e.Object.App, name, ""), oldest.RequestID, next)
	}
}

// stuck says that a call waits for its reader for at least that long.
func stuck(c helvetype.Call, now time.Time, least time.Duration) bool {
	return c.State == helvetype.CallRunning && !c.UnreadSince.IsZero() && now.Sub(c.UnreadSince) >= least
}

// reader names the reader of a stream, with the command that says where it stands. It is the method that has made the call, if that runs in a replica.
func reader(of helvetype.Call, calls []helvetype.Call) (name, next string) {
	for _, c := range calls {
		if of.Parent != "" && c.ID == of.Parent && c.Replica != "" {
			return fmt.Sprintf("the method %s of replica %s", place("", c.Deployment, cmp.Or(c.Method, "(default)")), c.Replica),
				fmt.Sprintf("helve profile %s/%s --stacks shows where the reader stands", place(c.App, c.Deployment, ""), c.Replica)
		}
	}
	if of.CallerEnded {
		return "a method that has returned", "the code that begins the stream has to read it or to end it"
	}
	return fmt.Sprintf("the client of request %s", of.RequestID), "the client has to read its answer"
}

// lasts is the time since an event.
func lasts(now, since time.Time) string {
	return ms(float64(now.Sub(since)) / float64(time.Millisecond))
}

// The times from which on a stream that waits for its reader is named: in the answer about its request, and in those about applications and the node. A slow reader makes room from time to time.
const (
	readerPauses = time.Second
	unreadAfter  = 10 * time.Second
)

// abandonedAfter is the age from which on a call without a caller counts as abandoned: others may just be ending.
const abandonedAfter = 5 * time.Second

// Running adds the calls of a request that wait or run now. A request that the node does not know otherwise (the zero request) has them alone. For example, a request whose one call to Ranker waits for a slot
// runs, and waits for that slot; a request that has been answered may still have a stream whose reader has gone. false: no call is of the request.
func Running(r *helvetype.RequestTrace, id string, calls []helvetype.Call, now time.Time) bool {
	parents, own := map[string]bool{}, []helvetype.Call{}
	for _, c := range calls {
		if c.RequestID == id {
			own = append(own, c)
			parents[c.Parent] = true
		}
	}
	if len(own) == 0 {
		return false
	}
	leaf := own[0]
	for _, c := range own {
		if parents[leaf.ID] || !parents[c.ID] && c.Since.After(leaf.Since) { // the newest: calls of workers may have no parent here
			leaf = c
		}
	}
	on := place(leaf.App, leaf.Deployment, cmp.Or(leaf.Method, "(default)"))
	since := lasts(now, leaf.Since)
	text := fmt.Sprintf("its call %s runs since %s at replica %s", on, since, leaf.Replica)
	next := fmt.Sprintf("helve profile %s/%s/%s --stacks shows where it stands", leaf.App, leaf.Deployment, leaf.Replica)
	if leaf.State == helvetype.CallWaiting {
		text = fmt.Sprintf("its call %s waits since %s for %s", on, since, cmp.Or(leaf.WaitsFor, "a slot"))
		next = fmt.Sprintf("helve calls %s/%s lists the calls that hold the slots; helve why %s/%[2]s", leaf.App, leaf.Deployment, leaf.App)
	}
	if leaf.Stream {
		text += ", as a stream or for HTTP"
	}
	if stuck(leaf, now, readerPauses) {
		by, reads := reader(leaf, calls)
		text, next = fmt.Sprintf("%s, and waits for its reader: %s has read nothing, or too little, for %s", text, by, lasts(now, leaf.UnreadSince)), reads
	}
	switch {
	case r.ID == "":
		first := own[0]
		for _, c := range own {
			if c.Since.Before(first.Since) {
				first = c
			}
		}
		r.Request = helvetype.Request{ID: id, Kind: "call", App: first.App, Deployment: first.Deployment, Method: first.Method, Started: first.Since, Milliseconds: float64(now.Sub(first.Since)) / float64(time.Millisecond)}
		r.Sentence = fmt.Sprintf("request %s to %s has not ended, after %s: %s", id, place(first.App, first.Deployment, first.Method), ms(r.Milliseconds), text)
	case r.Kept == "" && r.Status == 0:
		r.Sentence = fmt.Sprintf("request %s to %s has not ended: %s", id, place(r.App, r.Deployment, r.Method), text)
	default:
		r.Sentence += "; it has ended, and " + text + " all the same"
	}
	r.Next, r.Running, r.TraceID = next, true, cmp.Or(r.TraceID, own[0].TraceID)
	for _, c := range own {
		s := helvetype.Span{ID: c.ID, Parent: c.Parent, Kind: "call", App: c.App, Deployment: c.Deployment, Method: c.Method, Replica: c.Replica, Started: c.Since, Milliseconds: float64(now.Sub(c.Since)) / float64(time.Millisecond), Open: true, WaitsFor: c.WaitsFor}
		if c.State == helvetype.CallWaiting {
			s.Kind, s.Origin = "wait", c.Origin
		}
		r.Spans = append(r.Spans, s)
	}
	return true
}
