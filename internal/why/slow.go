package why

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// Window is the time before a question whose requests, calls and stalls an answer about an application, a deployment or a replica takes into account.
const Window = 5 * time.Minute

// Load is the knowledge of a node about the speed of an application in the last minutes ([Window]).
type Load struct {
	// Requests are kept by the node because they were slow, have passed their deadline, or were left by their client.
	Requests []helvetype.RequestTrace
	// SlowFrom is the time from which on a request is slow; 0 for none.
	SlowFrom time.Duration
	// Latencies are the times of calls of a millisecond or more, by method and replica.
	Latencies []Latency
	// Stalls are the times in which event loops of replicas did not turn.
	Stalls []Stall
	// Gone are replicas of the application that executed a part of the requests and do not run any more, by [goneKey]; see [Load.Present].
	Gone map[string]bool
}

func goneKey(deployment, replica string) string { return deployment + "/" + replica }

// LoadFrom is the time from which on requests say something about an application as it is now, at most [Window] ago. false: it is being deleted, or its deploy has failed, and its
// speed is no answer. For example, 2 minutes after a deploy the requests of these 2 minutes count, because those before have had other code.
func LoadFrom(a helvetype.ApplicationStatus, now time.Time) (since time.Time, ok bool) {
	switch a.Status {
	case helvetype.ApplicationDeleting, helvetype.ApplicationDeployFailed, helvetype.ApplicationNotStarted:
		return since, false
	}
	if since = now.Add(-Window); a.DeployedAt.After(since) {
		since = a.DeployedAt
	}
	return since, true
}

// Present is the part of a load about the replicas of an application that run now. For example, the calls of a replica that a scale-down has stopped make no other replica look slow. Its requests count all
// the same, because users have waited for them; the replica is among the replicas that are gone, and no advice names it.
func (l Load) Present(app string, a helvetype.ApplicationStatus) Load {
	runs := func(deployment, replica string) bool {
		return slices.ContainsFunc(a.Deployments[deployment].Replicas, func(r helvetype.ReplicaStatus) bool { return r.ID == replica && r.State == helvetype.ReplicaRunning })
	}
	l.Latencies = slices.DeleteFunc(slices.Clone(l.Latencies), func(x Latency) bool { return !runs(x.Deployment, x.Replica) })
	l.Stalls = slices.DeleteFunc(slices.Clone(l.Stalls), func(x Stall) bool { return !runs(x.Deployment, x.Replica) })
	l.Gone = map[string]bool{}
	for _, r := range l.Requests {
		t := treeOf(&r)
		if t.root < 0 || len(t.spans) == 0 {
			continue
		}
		if h := t.spans[t.heaviest()]; h.Replica != "" && (h.App == "" || h.App == app) && !runs(h.Deployment, h.Replica) {
			l.Gone[goneKey(h.Deployment, h.Replica)] = true
		}
	}
	return l
}

// Latency is the time of the calls of a method at a replica.
type Latency struct {
	Deployment, Method, Replica string
	Number                      int
	Sum                         time.Duration
}

// Stall is how often and how long the event loop of a replica did not turn. The place and the request are of the longest time.
type Stall struct {
	Deployment, Replica string
	Number              int
	Longest             time.Duration
	Place, Request      string
}

// The least differences that an answer tells of.
const (
	slowerBy      = 3                     // times as long as at the other replicas
	slowerAtLeast = 20 * time.Millisecond // longer
	fewCalls      = 3                     // of a replica, from which on its mean says something
	shortTime     = 100 * time.Millisecond
	shortCalls    = 30 // the same, for a mean below the short time: the first calls of a replica are slower
	fewSlow       = 3  // requests with the same cause
)

// Measure adds to an answer where the slow requests of the last minutes have spent their time, which replica is slower than the others of its deployment, and which event loops did not turn.
// A state shows none of them: for example, one of four replicas has a device that is throttled, and is healthy. a is the status of the application.
func Measure(e *helvetype.Explanation, a helvetype.ApplicationStatus, load Load) {
	of := e.Object
	var next string
	say := func(text, goesOn string) {
		if text != "" {
			e.Sentence += "; " + text
			next = cmp.Or(next, goesOn)
		}
	}
	if of.Kind == helvetype.KindReplica {
		say(sibling(of, load.Latencies))
	} else {
		for _, s := range slowest(of, load.Latencies) {
			say(s.text(), fmt.Sprintf("helve profile %s/%s/%s --cpu, or --block for code that waits", of.App, s.Deployment, s.Replica))
		}
	}
	text, goesOn, where := spent(of, a, load) // before stalls, which may have held up few of the requests
	if before, rest, ok := failing(e.Sentence, where); ok && text != "" {
		e.Sentence = before + "; " + text + rest
		next = cmp.Or(next, goesOn)
	} else {
		say(text, goesOn)
	}
	for _, s := range load.Stalls {
		if s.Number == 1 && strings.Contains(s.Place, "<frozen importlib") { // the first call imports a module: that is over
			continue
		}
		if (of.Deployment == "" || of.Deployment == s.Deployment) && (of.Replica == "" || of.Replica == s.Replica) {
			say(fmt.Sprintf("the event loop of replica %s was blocked %s in the last %s, for up to %s, and its calls waited meanwhile: it stood in %s", s.Replica, times(s.Number), minutes(Window), ms(float64(s.Longest)/float64(time.Millisecond)), s.Place),
				fmt.Sprintf("helve profile %s/%s/%s --cpu; helve why %s is the request of the longest", of.App, s.Deployment, s.Replica, s.Request))
		}
	}
	if next != "" && (e.Next == "" || strings.HasPrefix(e.Next, failedList)) {
		e.Next = next
	}
}

// failing finds the first clause of a sentence that says how many calls of a deployment have failed. false: there is none, or it is of the deployment in which requests have timed out. For example, History has spent
// the time of the requests, and the calls of Ranker are cut off by their deadlines after it: History is to be named before Ranker.
func failing(sentence, where string) (before, rest string, ok bool) {
	clauses := strings.SplitAfter(sentence, "; ")
	for i, c := range clauses {
		if name, found := strings.CutPrefix(c, "deployment "); i > 0 && found && strings.HasSuffix(strings.TrimSuffix(c, "; "), haveFailed) {
			name, _, _ = strings.Cut(name, ":")
			return strings.TrimSuffix(strings.Join(clauses[:i], ""), "; "), "; " + strings.Join(clauses[i:], ""), where != "" && name != where
		}
	}
	return "", "", false
}

// haveFailed is the end of the clause about the failed calls of a deployment.
const haveFailed = " have failed"

// failedList is the begin of the advice of an answer that knows nothing better.
const failedList = "helve why --failed"

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func minutes(d time.Duration) string { return count(int(d/time.Minute), "minute") }

// slow is a replica whose calls of a method take much longer than the calls of the others.
type slow struct {
	Latency
	mean, others time.Duration
	siblings     int
}

func (s slow) text() string {
	return fmt.Sprintf("calls of %s take %s at replica %s, %.0f times as long as at its other %s (%s), in the last %s",
		place("", s.Deployment, s.Method), ms(float64(s.mean)/float64(time.Millisecond)), s.Replica, float64(s.mean)/float64(s.others), count(s.siblings, "replica"), ms(float64(s.others)/float64(time.Millisecond)), minutes(Window))
}

func mean(sum time.Duration, n int) time.Duration { return sum / time.Duration(max(n, 1)) }

// compare is a latency beside that of the other replicas of the same method; false if one of the two has too few calls.
func compare(l Latency, all []Latency) (s slow, ok bool) {
	n, sum := 0, time.Duration(0)
	for _, o := range all {
		if o.Deployment == l.Deployment && o.Method == l.Method && o.Replica != l.Replica {
			n, sum = n+o.Number, sum+o.Sum
			s.siblings++
		}
	}
	s.Latency, s.mean, s.others = l, mean(l.Sum, l.Number), mean(sum, n)
	return s, l.Number >= fewCalls && n >= fewCalls
}

// much says that a replica is so much slower than the others that an answer tells of it.
func (s slow) much() bool {
	return s.mean >= slowerBy*s.others && s.mean-s.others >= slowerAtLeast && (s.mean >= shortTime || s.Number >= shortCalls)
}

// slowest are the replicas that are much slower than the others, the slowest first, at most three.
func slowest(of helvetype.Object, all []Latency) (found []slow) {
	for _, l := range all {
		if of.Deployment != "" && of.Deployment != l.Deployment {
			continue
		}
		if s, ok := compare(l, all); ok && s.much() {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b slow) int { return cmp.Or(cmp.Compare(b.mean, a.mean), cmp.Compare(a.Replica, b.Replica)) })
	return found[:min(len(found), 3)]
}

// sibling compares a replica with the others of its deployment, by the method whose calls took most of its time.
func sibling(of helvetype.Object, all []Latency) (text, next string) {
	var best Latency
	for _, l := range all {
		if l.Deployment == of.Deployment && l.Replica == of.Replica && l.Sum > best.Sum {
			best = l
		}
	}
	s, ok := compare(best, all)
	switch {
	case !ok:
		return "", ""
	case s.much():
		return s.text(), fmt.Sprintf("helve profile %s --cpu, or --block for code that waits", of)
	}
	return fmt.Sprintf("its calls of %s take %s, those of its other %s %s, in the last %s",
		place("", s.Deployment, s.Method), ms(float64(s.mean)/float64(time.Millisecond)), count(s.siblings, "replica"), ms(float64(s.others)/float64(time.Millisecond)), minutes(Window)), ""
}

// group has the slow requests that have spent most of their time in the same way.
type group struct {
	kind               string
	deployment, method string
	without            bool // of a wait: no replica was ready
	name               string
	replicas           map[string]int
	names              map[string]bool
	slowest            helvetype.RequestTrace
	cut                bool // some of them were cut off by a deadline, or by their client
	number             int
}

// loadOf is the model of the span of a call that waits for its load.
func loadOf(s helvetype.Span) (model string, ok bool) {
	model, ok = s.Attributes["model"].(string)
	return model, ok && s.Kind == "span" && s.Name == "load of model "+model
}

// spent says where most of the slow requests of the last minutes have spent their time; "" where they have nothing in common. late is the deployment, if some of them have failed for lack of time.
func spent(of helvetype.Object, a helvetype.ApplicationStatus, load Load) (text, next, late string) {
	type key struct {
		kind, deployment, method string
		without                  bool
	}
	groups, all := map[key]*group{}, 0
	for _, r := range load.Requests {
		t := treeOf(&r)
		if t.root < 0 || len(t.spans) == 0 {
			continue
		}
		cut := r.Kept == helvetype.KeptFailed
		if !cut && (load.SlowFrom == 0 || r.Milliseconds < float64(load.SlowFrom)/float64(time.Millisecond)) {
			continue // the slowest of its route, and quick all the same
		}
		all++
		h := t.spans[t.heaviest()]
		if _, ok := loadOf(h); ok {
			h.Kind = "load"
		}
		k := key{h.Kind, h.Deployment, h.Method, h.Kind == "wait" && h.WithoutReplica*2 >= h.Milliseconds}
		if k.kind == "stall" {
			k.method = ""
		}
		g := groups[k]
		if g == nil {
			g = &group{kind: k.kind, deployment: k.deployment, method: k.method, without: k.without, name: h.Name, replicas: map[string]int{}, names: map[string]bool{}}
			groups[k] = g
		}
		g.number++
		g.cut = g.cut || cut
		g.names[h.Name] = true
		g.replicas[h.Replica]++
		if r.Milliseconds > g.slowest.Milliseconds {
			g.slowest, g.name = r, h.Name
		}
	}
	var best *group
	for _, g := range groups {
		mine := of.Deployment == "" || of.Deployment == g.deployment && (of.Replica == "" || g.replicas[of.Replica] > 0)
		if mine && (best == nil || g.number > best.number || g.number == best.number && g.slowest.Milliseconds > best.slowest.Milliseconds) {
			best = g
		}
	}
	if best == nil || best.number < fewSlow || of.Deployment == "" && best.number*2 < all {
		return "", "", ""
	}
	if best.cut {
		late = best.deployment
	}
	where, next := best.where(of.App, a.Deployments[best.deployment], load.Gone)
	which := fmt.Sprintf("%d of the %d", best.number, all)
	if best.number == all {
		which = fmt.Sprintf("all %d", all)
	}
	return fmt.Sprintf("%s requests of the last %s that were slow or timed out spent most of their time %s", which, minutes(Window), where),
		strings.TrimPrefix(next+"; ", "; ") + "helve why " + best.slowest.ID + " is the slowest of them", late
}

// where is the way in which the requests of a group have spent their time, and the command that comes next. gone are replicas that do not run any more, and that cannot be profiled: the command names another
// replica of the requests, and is "" without one.
func (g *group) where(app string, d helvetype.DeploymentStatus, gone map[string]bool) (text, next string) {
	on := place(app, g.deployment, "")
	ids := slices.SortedFunc(maps.Keys(g.replicas), func(a, b string) int { return cmp.Or(cmp.Compare(g.replicas[b], g.replicas[a]), strings.Compare(a, b)) })
	first, left := ids[0], 0
	profile := ""
	for _, id := range ids {
		if gone[goneKey(g.deployment, id)] {
			left++
		} else if profile == "" && id != "" {
			profile = fmt.Sprintf("helve profile %s/%s --cpu", on, id)
		}
	}
	named := first
	if gone[goneKey(g.deployment, first)] {
		named += ", which is gone"
	}
	at := ""
	switch n := g.replicas[first]; {
	case first == "":
	case n == g.number:
		at = ", all in replica " + named
	case n*10 >= g.number*8:
		at = fmt.Sprintf(", %d of them in replica %s", n, named)
	case left == len(ids):
		at = fmt.Sprintf(", in %d replicas that are gone", left)
	case left > 0:
		at = fmt.Sprintf(", in %d replicas (gone: %d)", len(ids), left)
	default:
		at = fmt.Sprintf(", in %d replicas", len(ids))
	}
	both := profile
	if both != "" {
		both += ", or --block for code that waits"
	}
	switch g.kind {
	case "wait":
		if g.without {
			return "in the wait for a replica of " + g.deployment + ", because none was ready", "helve why " + on
		}
		return "in the wait for a slot of " + g.deployment, fmt.Sprintf("helve calls %s lists the calls that hold the slots; %s", on, more(on, d, true))
	case "load":
		return fmt.Sprintf("in the wait for models of %s that were not loaded (%d different ones)%s", g.deployment, len(g.names), at),
			"more requests for different models than max_num_models_per_replica keeps make replicas unload and load all the time: raise it; " + more(on, d, true)
	case "stall":
		return fmt.Sprintf("in the wait for an event loop of %s that was blocked in %s%s", g.deployment, g.name, at), profile
	case "http":
		return "outside of calls: with the client, or in a call that has not ended", "helve calls " + app
	case "span", "batch":
		return fmt.Sprintf("in %q of %s%s", g.name, g.deployment, at), both
	}
	return "in " + place("", g.deployment, g.method) + " itself" + at, both
}
