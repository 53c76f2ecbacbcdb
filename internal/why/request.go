package why

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// Request says in one sentence why a request has failed, or why it took its time, and which command or option comes next.
//
// A failure is followed down to the innermost call that has it: for example, an HTTP request with the status 500 is that of Front, which has let the error of its
// call to Ranker through, so the sentence names Ranker. A slow request has a piece of work with the most time of its own, which is its time without the times
// of the calls inside of it: for example, a call of 900 ms that waits 800 ms for a call of its own has 100 ms.
func Request(r *helvetype.RequestTrace, s helvetype.Status, events Events) (sentence, next string) {
	t := treeOf(r)
	q := question{r, t, s, events}
	name := fmt.Sprintf("request %s to %s", r.ID, place(r.App, r.Deployment, r.Method))
	if r.Kind == "span" {
		name = fmt.Sprintf("span %q of a program, request %s,", r.Name, r.ID)
	}
	took := ms(r.Milliseconds)
	if t.root < 0 {
		if r.Kept == "" {
			return name + " has not ended, or its end has left nothing: the node has only what is below", "helve calls lists the requests that run"
		}
		return fmt.Sprintf("%s took %s", name, took), ""
	}
	switch failed := r.Reason != "" || r.Status >= 500; {
	case failed:
		what := " has failed"
		if r.Status != 0 {
			what = fmt.Sprintf(" has failed with the status %d", r.Status)
		}
		cause, next := q.failure()
		return name + what + " after " + took + ": " + cause + q.lost(), next
	case r.Kept == "":
		took += " and is not kept, because it did not fail and was not slow"
	case r.Kept == helvetype.KeptSampled:
		took += " and is kept because it is sampled"
	}
	cause, next := q.time(t.heaviest())
	return name + " took " + took + ": " + cause + q.lost(), next
}

// blockedBy is the attribute of a stall with the request that has blocked the loop, if that is another one.
const blockedBy = "request_id"

// question has the values that an answer about a request reads.
type question struct {
	r      *helvetype.RequestTrace
	t      tree
	s      helvetype.Status
	events Events
}

// failure is the cause of a failure.
func (q *question) failure() (cause, next string) {
	at := q.t.origin()
	f := q.t.spans[at]
	on := place(f.App, f.Deployment, f.Method)
	message := firstLine(cmp.Or(f.Message, q.r.Message))
	through := q.through(at)
	switch helvetype.Reason(cmp.Or(f.Reason, q.r.Reason)) {
	case helvetype.ReasonBackpressure:
		if f.Deployment == "" && f.FailedAt == "" {
			return "it was rejected: " + message, ""
		}
		full := deploymentOf(f)
		if f.FailedAt != "" { // the call of the full queue has left no span
			through = fmt.Sprintf(" (called by %s)", place("", f.Deployment, f.Method))
			full = withoutMethod(f.FailedAt)
		}
		return fmt.Sprintf("the queue of %s was full, so the call was rejected (max_queued_requests)%s: %s", full, through, message),
			fmt.Sprintf("%s; max_queued_requests of %s is how many calls of one caller may wait: a larger one takes longer bursts", q.more(full), full)
	case helvetype.ReasonDeadline, helvetype.ReasonCancelled:
		return q.cut(at)
	case helvetype.ReasonReplicaDied, helvetype.ReasonMayHaveRun:
		cause = fmt.Sprintf("replica %s of %s died while it ran the call%s", cmp.Or(f.Replica, "(unknown)"), deploymentOf(f), through)
		if end := q.endOf(f); end != "" {
			return cause + ": " + end, "helve why " + deploymentOf(f) + "/" + f.Replica
		}
		return cause + ": " + message, "helve why " + deploymentOf(f)
	case helvetype.ReasonCycle:
		return fmt.Sprintf("calls waited for each other in a circle%s: %s", through, message),
			fmt.Sprintf("raise max_ongoing_requests of %s, or have the method not wait for a call that leads back to it", deploymentOf(f))
	case helvetype.ReasonDeploymentUnavailable:
		cause = fmt.Sprintf("%s did not take calls%s: %s", deploymentOf(f), through, message)
		if d, ok := q.deployment(f); ok && d.Message != "" && !strings.Contains(cause, firstLine(d.Message)) {
			cause += "; it is " + string(d.Status) + " now: " + firstLine(d.Message)
		}
		return cause, "helve why " + deploymentOf(f)
	case helvetype.ReasonUser:
		if f.Kind == "span" && f.Deployment == "" {
			return fmt.Sprintf("the code of the program has failed in its span %q: %s", f.Name, message), ""
		}
		next = "helve logs " + deploymentOf(f)
		if f.Replica != "" {
			next += " --replica " + f.Replica
			on += " of replica " + f.Replica
		}
		return fmt.Sprintf("the code of %s has failed%s: %s", on, through, message), next
	case "":
		return fmt.Sprintf("the answer of %s has this status%s", on, through), "helve logs " + f.App
	}
	return fmt.Sprintf("%s at %s%s: %s", cmp.Or(f.Reason, q.r.Reason), on, through, message), ""
}

// cut is the cause of the end of a request whose deadline has passed, or whose client has gone away: the piece of work that took the time until then.
func (q *question) cut(at int) (cause, next string) {
	f, main := q.t.spans[at], q.t.heaviest()
	cause = "its deadline passed"
	if helvetype.Reason(cmp.Or(f.Reason, q.r.Reason)) == helvetype.ReasonCancelled {
		cause = "it was cancelled, or its client went away,"
	}
	if main != at && f.Deployment != "" && !q.t.under(main, at) && q.t.self[main] > f.Milliseconds {
		spent, next := q.time(main)
		return fmt.Sprintf("%s in the call to %s, %s after that had begun; most of the time was spent before: %s", cause, place(f.App, f.Deployment, f.Method), ms(f.Milliseconds), spent), next
	}
	spent, next := q.time(main)
	return cause + ": " + spent, next
}

// time says that one piece of work took so much of the time of the request, and why.
func (q *question) time(at int) (cause, next string) {
	w := q.t.spans[at]
	of := fmt.Sprintf("%s of %s", ms(q.t.self[at]), ms(q.r.Milliseconds))
	through := q.through(at)
	switch w.Kind {
	case "wait":
		on := deploymentOf(w)
		if id, ok := q.cold(w); ok {
			cause = fmt.Sprintf("the call waited %s for the first replica of %s%s", of, on, through)
			if id != "" {
				return cause + ", because " + id + " was in its start", "helve why " + on + "/" + id
			}
			if d, ok := q.deployment(w); ok && d.Message != "" {
				cause += ", which has none: " + firstLine(d.Message)
			}
			return cause, "helve why " + on
		}
		if w.WithoutReplica*2 >= w.Milliseconds && w.WithoutReplica > 0 {
			cause = fmt.Sprintf("the call waited %s for a replica of %s%s, because none was ready for %s of that", of, on, through, ms(w.WithoutReplica))
			if why := without(q.events, w); why != "" {
				cause += ": " + why
			}
			return cause, "helve why " + on
		}
		if w.Origin == "broadcast" {
			return fmt.Sprintf("the call waited %s for the broadcasts before it at replica %s of %s%s, which runs one at a time", of, w.Replica, on, through), "helve calls " + on + " lists the calls that run"
		}
		if w.Replica != "" && w.Origin == "" {
			return fmt.Sprintf("the call waited %s for a slot of replica %s of %s%s", of, w.Replica, on, through), ""
		}
		return fmt.Sprintf("the call waited %s for a slot of %s%s, because all its replicas ran as many calls as max_ongoing_requests allows", of, on, through),
			fmt.Sprintf("%s; helve calls %s lists the calls that hold the slots", q.more(on), on)
	case "http":
		return fmt.Sprintf("%s were spent outside of calls that have left a record: with the client, in calls shorter than a millisecond, or in a call that has not ended", of),
			"helve calls " + w.App + " lists the calls that still run"
	case "stall":
		replica := deploymentOf(w) + "/" + w.Replica
		if other, ok := w.Attributes[blockedBy].(string); ok {
			return fmt.Sprintf("the call waited %s for the event loop of replica %s of %s%s, which another request had blocked: it stood in %s", of, w.Replica, deploymentOf(w), through, w.Name),
				fmt.Sprintf("helve why %s is that request; helve profile %s --cpu shows what its code does", other, replica)
		}
		return fmt.Sprintf("the call blocked the event loop of replica %s of %s%s for %s: it ran or waited in %s without an await, and the other calls of the replica waited", w.Replica, deploymentOf(w), through, of, w.Name),
			fmt.Sprintf("helve profile %s --cpu; a method without async runs in a thread, and blocks no loop", replica)
	case "span", "batch":
		if model, ok := loadOf(w); ok {
			cause = fmt.Sprintf("the call waited %s for the load of model %s at replica %s of %s%s", of, model, w.Replica, deploymentOf(w), through)
			if old, ok := w.Attributes["unloaded"].(string); ok {
				cause += ", which took the place of model " + old
			}
			return cause, "max_num_models_per_replica is how many models a replica keeps; " + q.more(deploymentOf(w))
		}
		if w.Kind == "span" && w.Deployment == "" {
			return fmt.Sprintf("%s were spent in the code of the program itself, in its span %q", of, w.Name), ""
		}
		return fmt.Sprintf("%s were spent in %s %q of %s%s", of, map[string]string{"span": "the part", "batch": "the batch function"}[w.Kind], w.Name, deploymentOf(w), through), ""
	}
	on := place(w.App, w.Deployment, w.Method)
	if w.Replica != "" {
		replica := deploymentOf(w) + "/" + w.Replica
		next = fmt.Sprintf("helve profile %s --cpu, or --block for code that waits; helve logs %s --replica %s", replica, deploymentOf(w), w.Replica)
		on += " of replica " + w.Replica
	}
	return fmt.Sprintf("%s ran in %s itself%s%s", of, on, through, q.stalled(at)), next
}

// stalled says that a call has blocked the event loop of its replica, for the longest time; "" if it has not. The watchdog of the loop does not see the begin of a stall, which counts as time of the call.
func (q *question) stalled(at int) string {
	longest := -1
	for i, s := range q.t.spans {
		if s.Kind == "stall" && q.t.parent[i] == at && s.Attributes[blockedBy] == nil && (longest < 0 || s.Milliseconds > q.t.spans[longest].Milliseconds) {
			longest = i
		}
	}
	if longest < 0 {
		return ""
	}
	s := q.t.spans[longest]
	return fmt.Sprintf(", and for %s or more it blocked the event loop of its replica: it stood in %s, without an await", ms(s.Milliseconds), s.Name)
}

// through names the calls that have led to a call, the last one first.
func (q *question) through(at int) string {
	var names []string
	for up := q.t.parent[at]; up >= 0; up = q.t.parent[up] {
		if s := q.t.spans[up]; s.Kind != "http" && s.Kind != "span" && s.Kind != "batch" && s.Deployment != "" {
			names = append(names, place("", s.Deployment, s.Method))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " (called by " + strings.Join(names, ", and that by ") + ")"
}

// lost names the first attempt that was lost.
func (q *question) lost() string {
	for _, s := range q.t.spans {
		if s.RunsAgain {
			return fmt.Sprintf("; an attempt of %s at replica %s was lost after %s and ran again", place(s.App, s.Deployment, s.Method), s.Replica, ms(s.Milliseconds))
		}
	}
	return ""
}

// more is the advice for a request that has waited for a deployment, which is named with its application.
func (q *question) more(of string) string {
	app, name, _ := strings.Cut(of, "/")
	return more(of, q.s.Applications[app].Deployments[name], true)
}

func (q *question) deployment(s helvetype.Span) (d helvetype.DeploymentStatus, ok bool) {
	d, ok = q.s.Applications[s.App].Deployments[s.Deployment]
	return d, ok
}

// endOf is the message of the end of the replica that ran a call; "" if the events have none.
func (q *question) endOf(s helvetype.Span) string {
	for _, e := range slices.Backward(q.events.History(helvetype.Object{Kind: helvetype.KindReplica, App: s.App, Deployment: s.Deployment, Replica: s.Replica})) {
		if e.To == "" && e.From != "" {
			return firstLine(cmp.Or(e.Message, e.Reason))
		}
	}
	return ""
}

// cold says that a deployment had no replica when a wait began, and names the first replica that was ready afterwards; "" for none. Replicas that have gone meanwhile do not count.
func (q *question) cold(wait helvetype.Span) (replica string, ok bool) {
	d, known := q.deployment(wait)
	if !known || len(d.Replicas) == 0 && d.Ready > 0 {
		return "", false
	}
	var first time.Time
	for _, r := range d.Replicas {
		if r.State == helvetype.ReplicaStarting || r.State == helvetype.ReplicaRecovering {
			continue
		}
		ready := r.StartedAt
		for _, e := range q.events.History(helvetype.Object{Kind: helvetype.KindReplica, App: wait.App, Deployment: wait.Deployment, Replica: r.ID}) {
			if e.To == string(helvetype.ReplicaRunning) {
				ready = e.Time
			}
		}
		if first.IsZero() || ready.Before(first) {
			first, replica = ready, r.ID
		}
	}
	if e := d.LastExit; e != nil && e.At.After(wait.Started) { // a replica was there then
		return "", false
	}
	end := wait.Started.Add(time.Duration(wait.Milliseconds * float64(time.Millisecond)))
	switch {
	case first.IsZero() || first.After(end):
		return "", true
	case first.After(wait.Started):
		return replica, true
	}
	return "", false
}

// tree has the spans of a request by their parents, which are indexes, -1 for none.
type tree struct {
	spans  []helvetype.Span
	parent []int
	self   []float64 // milliseconds
	root   int       // -1 for a request that has not ended
}

func treeOf(r *helvetype.RequestTrace) tree {
	t := tree{spans: r.Spans, parent: make([]int, len(r.Spans)), self: make([]float64, len(r.Spans)), root: -1}
	byID := map[string][]int{}
	for i, s := range r.Spans {
		if s.Kind != "wait" && s.Kind != "arguments" { // a wait has the id of its call
			byID[s.ID] = append(byID[s.ID], i)
		}
		if t.root < 0 && s.Started.Equal(r.Started) && s.Milliseconds == r.Milliseconds && s.Kind == r.Kind {
			t.root = i
		}
	}
	if t.root < 0 && r.Kept != "" { // a first call that failed while it waited
		t.root = slices.IndexFunc(r.Spans, func(s helvetype.Span) bool { return s.Kind == r.Kind && s.Started.Equal(r.Started) })
	}
	children := map[int][]int{}
	first := -1 // the call that an HTTP request makes
	for i, s := range r.Spans {
		t.parent[i] = -1
		up := byID[s.Parent]
		if len(up) == 0 { // another library has the span, or its report comes later
			up = byID[s.Caller]
		}
		for _, p := range up { // of several attempts, the last that had begun
			if p != i && (t.parent[i] < 0 || !r.Spans[p].Started.After(s.Started)) {
				t.parent[i] = p
			}
		}
		if t.root >= 0 && t.parent[i] == t.root && r.Kind == "http" { // a request makes one call: others are of code that hands its context on
			switch {
			case first < 0 && s.Kind != "wait" && s.Kind != "arguments":
				first = i
			case first >= 0 && s.ID != r.Spans[first].ID:
				t.parent[i] = first
			}
		}
		if t.parent[i] >= 0 {
			children[t.parent[i]] = append(children[t.parent[i]], i)
		}
	}
	for i := range r.Spans {
		if t.looped(i) { // ids that a broken program has sent
			t.parent[i] = -1
		}
	}
	for i, s := range r.Spans {
		if s.Kind == "arguments" { // other calls have taken this time
			continue
		}
		t.self[i] = s.Milliseconds - covered(s, children[i], r.Spans)
	}
	return t
}

// Step is a span of a request with its place in the tree of calls.
type Step struct {
	helvetype.Span
	// Depth is the number of spans around it.
	Depth int
	// After is the time from the begin of the request, in milliseconds.
	After float64
}

// Steps are the spans of a request as a tree: each stands behind the span that it is inside of, and the spans inside of one stand in the order of their begins.
func Steps(r *helvetype.RequestTrace) (steps []Step) {
	t := treeOf(r)
	var add func(of, depth int)
	add = func(of, depth int) {
		for i, s := range t.spans {
			if t.parent[i] == of {
				steps = append(steps, Step{s, depth, float64(s.Started.Sub(r.Started)) / float64(time.Millisecond)})
				add(i, depth+1)
			}
		}
	}
	add(-1, 0)
	return steps
}

func (t *tree) looped(i int) bool {
	up := t.parent[i]
	for range t.spans {
		if up < 0 {
			return false
		}
		up = t.parent[up]
	}
	return up >= 0
}

// covered is how many milliseconds of a span its children take: two that overlap count once.
func covered(s helvetype.Span, children []int, all []helvetype.Span) (sum float64) {
	type part struct{ from, to float64 }
	var parts []part
	for _, c := range children {
		if all[c].Kind == "arguments" {
			continue
		}
		from := float64(all[c].Started.Sub(s.Started)) / float64(time.Millisecond)
		parts = append(parts, part{max(from, 0), min(from+all[c].Milliseconds, s.Milliseconds)})
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.from, b.from) })
	end := 0.0
	for _, p := range parts {
		if p.to > end {
			sum += p.to - max(p.from, end)
			end = p.to
		}
	}
	return sum
}

// heaviest is the span with the most time of its own; of several the first.
func (t *tree) heaviest() int {
	best := 0
	for i := range t.spans {
		if t.self[i] > t.self[best] {
			best = i
		}
	}
	return best
}

// under says that a span is the other, or inside of it.
func (t *tree) under(i, of int) bool {
	for ; i >= 0; i = t.parent[i] {
		if i == of {
			return true
		}
	}
	return false
}

// origin is the innermost span with the failure of the request: from the root on, the failed child that ended last. Where a failed call has no failed child, and does not say
// with which error it failed, the program may have made an error of its own out of that of a call further below. For example, Gallery answers 500 when its call to Page does, and Page
// returns an error as a value when Thumbs dies: for the node only the call to Thumbs has failed.
func (t *tree) origin() int {
	at := t.root
	for {
		inner := t.lastFailed(func(i int) bool { return t.parent[i] == at })
		if inner < 0 && (t.spans[at].Reason == "" || t.spans[at].Reason == string(helvetype.ReasonUser)) {
			inner = t.lastFailed(func(i int) bool {
				return i != at && t.under(i, at) && t.spans[i].Reason != string(helvetype.ReasonUser)
			})
		}
		if inner < 0 && t.spans[at].Reason == "" {
			inner = t.lastFailed(func(i int) bool { return i != at && t.under(i, at) })
		}
		if inner < 0 {
			return at
		}
		at = inner
	}
}

// lastFailed is the wanted span that has failed for good and ended last; -1 for none.
func (t *tree) lastFailed(wanted func(int) bool) int {
	last, end := -1, time.Time{}
	for i, s := range t.spans {
		if i == t.root || s.Reason == "" || s.RunsAgain || s.Kind == "batch" || !wanted(i) {
			continue
		}
		if e := s.Started.Add(time.Duration(s.Milliseconds * float64(time.Millisecond))); last < 0 || !e.Before(end) {
			last, end = i, e
		}
	}
	return last
}

func place(app, deployment, method string) string {
	name := app
	if deployment != "" {
		name = strings.TrimPrefix(app+"/"+deployment, "/")
	}
	if method != "" {
		name += "." + method
	}
	return cmp.Or(name, "the node")
}

// withoutMethod is the deployment of a call such as shop/Ledger.Append.
func withoutMethod(call string) string {
	slash := strings.LastIndexByte(call, '/')
	if dot := strings.IndexByte(call[slash+1:], '.'); dot >= 0 {
		return call[:slash+1+dot]
	}
	return call
}

func deploymentOf(s helvetype.Span) string { return place(s.App, s.Deployment, "") }

// ms is a number of milliseconds with the digits that matter.
func ms(n float64) string {
	switch {
	case n >= 10000:
		return fmt.Sprintf("%.1f s", n/1000)
	case n >= 100:
		return fmt.Sprintf("%.0f ms", n)
	}
	return fmt.Sprintf("%.1f ms", n)
}

func firstLine(s string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return first
}
