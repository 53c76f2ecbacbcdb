package why

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// piece makes a span of shop: kind, id, parent, deployment, begin and duration in milliseconds.
func piece(kind, id, parent, deployment string, begin, took float64) helvetype.Span {
	s := helvetype.Span{
		Kind: kind, ID: id, Parent: parent, App: "shop", Deployment: deployment, Milliseconds: took,
		Started: at.Add(time.Minute + time.Duration(begin*float64(time.Millisecond))),
	}
	switch kind {
	case "wait":
		s.Origin = "shop/Front"
	case "call":
		s.Method, s.Replica = "run", deployment+"#1"
	}
	return s
}

func fails(s helvetype.Span, reason helvetype.Reason, message string) helvetype.Span {
	s.Reason, s.Message = string(reason), message
	return s
}

// request has an HTTP request of so many milliseconds, whose first call Front#1 is the span a.
func request(took float64, status int, spans ...helvetype.Span) *helvetype.RequestTrace {
	root := piece("http", "r", "", "", 0, took)
	r := &helvetype.RequestTrace{Request: helvetype.Request{
		ID: "id", Kind: "http", App: "shop", Route: "/", Status: status, Started: root.Started, Milliseconds: took, Kept: helvetype.KeptSlow,
	}, Spans: append([]helvetype.Span{root}, spans...)}
	if status >= 500 || status == 408 {
		r.Kept = helvetype.KeptFailed
	}
	return r
}

func TestRequest(t *testing.T) {
	t.Parallel()
	front := piece("call", "a", "r", "Front", 1, 998)
	long, ended := front, front
	long.Milliseconds = 19000
	ended.Milliseconds = 20
	load := piece("span", "c", "b", "Ranker", 3, 800)
	load.Replica, load.Name, load.Attributes = "Ranker#1", "load of model cats", map[string]any{"model": "cats", "unloaded": "dogs"}
	again := fails(piece("call", "b", "a", "Ranker", 2, 100), helvetype.ReasonReplicaDied, "the replica's process ended")
	again.RunsAgain = true
	second := piece("call", "b", "a", "Ranker", 110, 800)
	second.Attempt, second.Replica = 1, "Ranker#2"
	died := fails(piece("call", "b", "a", "Ranker", 2, 10), helvetype.ReasonReplicaDied, "the replica's process ended")
	died.Replica = "R#2"
	below := fails(ended, helvetype.ReasonBackpressure, "x")
	below.FailedAt = "shop/Ledger.Append"
	deadline := request(1000, 408, fails(front, helvetype.ReasonDeadline, ""), piece("call", "b", "a", "Slow", 2, 950), fails(piece("call", "c", "a", "Ranker", 960, 30), helvetype.ReasonDeadline, "late"))
	deadline.Reason = string(helvetype.ReasonDeadline)
	for name, c := range map[string]struct {
		r          *helvetype.RequestTrace
		want, next string
	}{
		"a wait for a slot": {request(1000, 200, front, piece("wait", "b", "a", "Ranker", 2, 900), piece("call", "b", "a", "Ranker", 902, 90)),
			"request id to shop took 1000 ms: the call waited 900 ms of 1000 ms for a slot of shop/Ranker (called by Front.run), because all its replicas ran as many calls as max_ongoing_requests allows",
			"helve scale shop/Ranker N adds replicas"},
		"an inner call": {request(1000, 200, front, piece("call", "b", "a", "Ranker", 2, 900)), "900 ms of 1000 ms ran in shop/Ranker.run of replica Ranker#1 itself (called by Front.run)", "helve logs shop/Ranker --replica Ranker#1"},
		"calls at once count once": {request(1000, 200, front, piece("call", "b", "a", "A", 2, 300), piece("call", "c", "a", "B", 2, 310)),
			"688 ms of 1000 ms ran in shop/Front.run of replica Front#1 itself", "helve logs shop/Front"},
		"outside of calls": {request(1000, 200), "1000 ms of 1000 ms were spent outside of calls", "helve calls shop"},
		"a call whose program hands on the context of the request": {request(1000, 200, front, piece("wait", "b", "r", "Ranker", 2, 3), piece("call", "b", "r", "Ranker", 5, 900)),
			"900 ms of 1000 ms ran in shop/Ranker.run of replica Ranker#1 itself (called by Front.run)", "helve logs shop/Ranker"},
		"a model was loaded": {request(1000, 200, front, piece("call", "b", "a", "Ranker", 2, 900), load),
			"the call waited 800 ms of 1000 ms for the load of model cats at replica Ranker#1 of shop/Ranker (called by Ranker.run, and that by Front.run), which took the place of model dogs", "max_num_models_per_replica"},
		"an attempt was lost": {request(1000, 200, front, again, second),
			"800 ms of 1000 ms ran in shop/Ranker.run of replica Ranker#2 itself (called by Front.run); an attempt of shop/Ranker.run at replica Ranker#1 was lost after 100 ms and ran again", "helve logs"},
		"a first replica in its start": {request(20000, 200, long, piece("wait", "b", "a", "Cold", 2, 18000)), "for the first replica of shop/Cold (called by Front.run), because C#1 was in its start", "helve why shop/Cold/C#1"},
		"no replica":                   {request(20000, 200, long, piece("wait", "b", "a", "None", 2, 18000)), "for the first replica of shop/None (called by Front.run), which has none: no memory", "helve why shop/None"},
		"the queue was full": {request(20, 503, fails(ended, helvetype.ReasonBackpressure, "x"), fails(piece("wait", "b", "a", "Ranker", 2, 0), helvetype.ReasonBackpressure, "num_queued_requests=2")),
			"has failed with the status 503 after 20.0 ms: the queue of shop/Ranker was full, so the call was rejected (max_queued_requests) (called by Front.run): num_queued_requests=2", "helve scale shop/Ranker"},
		"the queue was full two calls below": {request(20, 503, fails(ended, helvetype.ReasonBackpressure, "x"), fails(piece("call", "b", "a", "Ranker", 2, 1), helvetype.ReasonBackpressure, "x"),
			fails(piece("wait", "c", "b", "Ledger", 2, 0), helvetype.ReasonBackpressure, "x")),
			"the queue of shop/Ledger was full, so the call was rejected (max_queued_requests) (called by Ranker.run, and that by Front.run)", "helve scale shop/Ledger"},
		"the queue was full in a call without a span": {request(20, 503, below), "the queue of shop/Ledger was full, so the call was rejected (max_queued_requests) (called by Front.run)", "helve scale shop/Ledger"},
		"a program answers 500 after a death two calls below": {request(20, 500, ended, piece("call", "b", "a", "Page", 2, 12), fails(piece("call", "c", "b", "Ranker", 3, 10), helvetype.ReasonReplicaDied, "gone")),
			"replica Ranker#1 of shop/Ranker died while it ran the call (called by Page.run, and that by Front.run)", "helve why shop/Ranker"},
		"a program raises its own error after a death two calls below": {request(20, 500, fails(ended, helvetype.ReasonUser, "no page"), piece("call", "b", "a", "Page", 2, 12), fails(piece("call", "c", "b", "Ranker", 3, 10), helvetype.ReasonReplicaDied, "gone")),
			"replica Ranker#1 of shop/Ranker died while it ran the call", "helve why shop/Ranker"},
		"an error of user code that was handled below": {request(20, 500, fails(ended, helvetype.ReasonUser, "no page"), piece("call", "b", "a", "Page", 2, 12), fails(piece("call", "c", "b", "Ranker", 3, 10), helvetype.ReasonUser, "handled")),
			"the code of shop/Front.run of replica Front#1 has failed: no page", "helve logs shop/Front"},
		"a replica died":          {request(20, 500, fails(ended, helvetype.ReasonReplicaDied, ""), died), "replica R#2 of shop/Ranker died while it ran the call (called by Front.run): killed by SIGKILL", "helve why shop/Ranker/R#2"},
		"a replica died long ago": {request(20, 500, fails(ended, helvetype.ReasonReplicaDied, "the replica's process ended")), "replica Front#1 of shop/Front died while it ran the call: the replica's process ended", "helve why shop/Front"},
		"a circle": {request(20, 500, fails(ended, helvetype.ReasonCycle, ""), fails(piece("wait", "b", "a", "Front", 2, 1), helvetype.ReasonCycle, "Front.run -> Front.run")),
			"calls waited for each other in a circle (called by Front.run): Front.run -> Front.run", "raise max_ongoing_requests of shop/Front"},
		"user code": {request(20, 500, fails(ended, helvetype.ReasonUser, "through"), fails(piece("call", "b", "a", "Ranker", 2, 10), helvetype.ReasonUser, "ValueError: no model\nline 2")),
			"the code of shop/Ranker.run of replica Ranker#1 has failed (called by Front.run): ValueError: no model", "helve logs shop/Ranker --replica Ranker#1"},
		"the deployment does not run": {request(20, 503, fails(piece("wait", "a", "r", "Ranker", 1, 19), helvetype.ReasonDeploymentUnavailable, "it has failed to start")),
			"shop/Ranker did not take calls: it has failed to start; it is UNHEALTHY now: killed by SIGKILL", "helve why shop/Ranker"},
		"a deadline spent before":    {deadline, "its deadline passed in the call to shop/Ranker.run, 30.0 ms after that had begun; most of the time was spent before: 950 ms of 1000 ms ran in shop/Slow.run", "helve logs shop/Slow"},
		"a deadline while it waited": {request(1000, 408, fails(piece("wait", "a", "r", "Ranker", 1, 999), helvetype.ReasonDeadline, "")), "its deadline passed: the call waited 999 ms of 1000 ms for a slot of shop/Ranker", "helve scale"},
		"a status of the program":    {request(20, 502, ended), "has failed with the status 502 after 20.0 ms: the answer of shop has this status", "helve logs shop"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, events := crash()
			if strings.Contains(name, "deadline") && c.r.Reason == "" {
				c.r.Reason = string(helvetype.ReasonDeadline)
			}
			s.Applications["shop"].Deployments["Cold"] = helvetype.DeploymentStatus{Replicas: []helvetype.ReplicaStatus{{ID: "C#1", State: helvetype.ReplicaRunning, StartedAt: at}}}
			s.Applications["shop"].Deployments["None"] = helvetype.DeploymentStatus{Message: "no memory", Wanted: 1, Replicas: []helvetype.ReplicaStatus{{ID: "N#1", State: helvetype.ReplicaStarting}}}
			events = append(events, helvetype.Event{ID: 9, Object: shop("Cold", "C#1"), From: "STARTING", To: "RUNNING", Time: at.Add(time.Minute + 17*time.Second)})
			sentence, next := Request(c.r, s, events)
			if !strings.Contains(sentence, c.want) || !strings.Contains(next, c.next) || strings.Contains(sentence, "\n") {
				t.Errorf("%s\nwant\n%s\nnext %q, want %q", sentence, c.want, next, c.next)
			}
		})
	}
}

// TestRequestThatRuns: a request whose end is not known has an answer too, and so has one whose spans name each other as parents.
func TestRequestThatRuns(t *testing.T) {
	t.Parallel()
	s, events := crash()
	a, b := piece("call", "a", "b", "A", 0, 5), piece("call", "b", "a", "B", 1, 3)
	r := &helvetype.RequestTrace{Request: helvetype.Request{ID: "id", App: "shop", Milliseconds: 7}, Spans: []helvetype.Span{a, b}}
	if sentence, next := Request(r, s, events); !strings.Contains(sentence, "has not ended") || !strings.Contains(next, "helve calls") {
		t.Errorf("%s, %s", sentence, next)
	}
	if sentence, _ := Request(&helvetype.RequestTrace{Request: helvetype.Request{ID: "id", Kept: "slow"}}, s, events); sentence == "" {
		t.Error("no sentence without spans")
	}
	if steps := Steps(r); len(steps) != 2 {
		t.Errorf("%+v", steps)
	}
	steps := Steps(request(9, 200, piece("call", "a", "r", "A", 1, 8), piece("wait", "b", "a", "B", 2, 1), piece("call", "c", "a", "C", 4, 1), piece("span", "d", "", "", 5, 1)))
	var depths []int
	for _, s := range steps {
		depths = append(depths, s.Depth)
	}
	if want := []int{0, 1, 2, 2, 0}; !slices.Equal(depths, want) || steps[2].After != 2 {
		t.Errorf("%v", steps)
	}
}

// TestStepsWithoutSpans: a call of a request stands below the span in which it was made, or, where the node does not have that span, below the call whose method has made it. Spans of workers come after the
// end of their request, and the spans of another library not at all.
func TestStepsWithoutSpans(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		type node struct {
			helvetype.Span
			up, caller int
			kept       bool
		}
		begun := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
		all := []node{{Span: helvetype.Span{ID: "0", Kind: "http", Started: begun, Milliseconds: 1000}, up: -1, kept: true}}
		for i := 1; i < 30; i++ {
			up := 0 // the request makes one call
			if i > 1 {
				up = 1 + r.IntN(i-1)
			}
			n := node{up: up, caller: up, kept: true}
			for all[n.caller].Kind == "span" {
				n.caller = all[n.caller].up
			}
			n.Span = helvetype.Span{ID: strconv.Itoa(i), Parent: strconv.Itoa(up), Kind: "call", App: "shop", Deployment: "D" + strconv.Itoa(i), Started: begun.Add(time.Duration(i) * time.Millisecond), Milliseconds: 900}
			if n.caller != up {
				n.Caller = strconv.Itoa(n.caller)
			}
			if i > 1 && r.IntN(2) == 0 {
				n.Kind, n.Name, n.kept = "span", "part", r.IntN(2) == 0
			}
			all = append(all, n)
		}
		trace := helvetype.RequestTrace{Request: helvetype.Request{Kind: "http", Started: begun, Milliseconds: 1000, Kept: "slow"}}
		for _, n := range all {
			if n.kept {
				trace.Spans = append(trace.Spans, n.Span)
			}
		}
		path := []string{}
		for _, s := range Steps(&trace) {
			path = append(path[:s.Depth], s.ID)
			i, _ := strconv.Atoi(s.ID)
			want := all[i].up
			if want >= 0 && !all[want].kept {
				want = all[i].caller
			}
			if s.Depth > 0 && path[s.Depth-1] != strconv.Itoa(want) || s.Depth == 0 && want >= 0 {
				t.Fatalf("seed %d: %s stands below %v, want %d", seed, s.ID, path, want)
			}
		}
	}
}
