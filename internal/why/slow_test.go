package why

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// slowRequest is a slow request of Front, with its heaviest spans.
func slowRequest(n int, took float64, heavy ...helvetype.Span) helvetype.RequestTrace {
	r := request(took, 200, append([]helvetype.Span{piece("call", "a", "r", "Front", 1, took-1)}, heavy...)...)
	r.ID = fmt.Sprintf("r%d", n)
	return *r
}

func at2(s helvetype.Span, replica string) helvetype.Span {
	s.Replica = replica
	return s
}

// TestMeasure: the common part of slow requests, a replica that is slower than its siblings, and blocked loops.
func TestMeasure(t *testing.T) {
	t.Parallel()
	inner := piece("call", "b", "a", "Ranker", 2, 1400)
	load := piece("span", "c", "b", "Ranker", 3, 1300)
	load.Name, load.Attributes = "load of model cats", map[string]any{"model": "cats"}
	stall := piece("stall", "c", "b", "Ranker", 3, 1300)
	stall.Name = "expand, search.py line 3"
	alone := piece("wait", "b", "a", "Ranker", 2, 1400)
	alone.WithoutReplica = 1400
	many := func(heavy ...helvetype.Span) (all []helvetype.RequestTrace) {
		for i := range 4 {
			all = append(all, slowRequest(i, 1500+float64(i), heavy...))
		}
		return all
	}
	gone := func(replicas ...string) map[string]bool {
		all := map[string]bool{}
		for _, r := range replicas {
			all["Ranker/"+r] = true
		}
		return all
	}
	quick := many(at2(inner, "R#1"))
	for i := range quick {
		quick[i] = slowRequest(i, 20, piece("call", "b", "a", "Ranker", 2, 17))
	}
	latencies := []Latency{{"Ranker", "run", "R#1", 5, 5 * 2500 * time.Millisecond}, {"Ranker", "run", "R#2", 90, 90 * 60 * time.Millisecond}, {"Ranker", "run", "R#3", 90, 90 * 64 * time.Millisecond}, {"Front", "run", "F#1", 9, time.Second}}
	app, of := shop(), shop("Ranker")
	for name, c := range map[string]struct {
		of         helvetype.Object
		load       Load
		want, next string // "" for nothing
	}{
		"one replica":         {app, Load{Requests: many(at2(inner, "R#1"))}, "all 4 requests of the last 5 minutes that were slow or timed out spent most of their time in Ranker.run itself, all in replica R#1", "helve profile shop/Ranker/R#1 --cpu, or --block for code that waits; helve why r3 is the slowest"},
		"most in one replica": {app, Load{Requests: append(many(at2(inner, "R#1")), slowRequest(9, 1500, at2(inner, "R#2")))}, "4 of them in replica R#1", "R#1"},
		"one that is gone":    {app, Load{Requests: many(at2(inner, "R#1")), Gone: gone("R#1")}, "all 4 requests of the last 5 minutes that were slow or timed out spent most of their time in Ranker.run itself, all in replica R#1, which is gone", "helve why r3 is the slowest"},
		"most in one gone":    {app, Load{Requests: append(many(at2(inner, "R#1")), slowRequest(9, 1500, at2(inner, "R#2"))), Gone: gone("R#1")}, "all 5 requests of the last 5 minutes that were slow or timed out spent most of their time in Ranker.run itself, 4 of them in replica R#1, which is gone", "helve profile shop/Ranker/R#2 --cpu"},
		"some are gone":       {app, Load{Requests: append(many(at2(inner, "R#1"))[:2], many(at2(inner, "R#2"))[:2]...), Gone: gone("R#1")}, "in Ranker.run itself, in 2 replicas (gone: 1)", "helve profile shop/Ranker/R#2 --cpu"},
		"all are gone":        {app, Load{Requests: append(many(inner, at2(stall, "R#1"))[:2], many(inner, at2(stall, "R#2"))[:2]...), Gone: gone("R#1", "R#2")}, "in 2 replicas that are gone", "helve why r1 is the slowest"},
		"several replicas":    {app, Load{Requests: []helvetype.RequestTrace{slowRequest(1, 1500, at2(inner, "R#1")), slowRequest(2, 1500, at2(inner, "R#2")), slowRequest(3, 1500, at2(inner, "R#3"))}}, "in Ranker.run itself, in 3 replicas", "helve profile"},
		"waits":               {app, Load{Requests: many(piece("wait", "b", "a", "Ranker", 2, 1400))}, "in the wait for a slot of Ranker", "helve calls shop/Ranker"},
		"no replica":          {app, Load{Requests: many(alone)}, "in the wait for a replica of Ranker, because none was ready", "helve why shop/Ranker"},
		"models":              {app, Load{Requests: many(inner, load)}, "in the wait for models of Ranker that were not loaded (1 different ones)", "max_num_models_per_replica"},
		"a stall":             {app, Load{Requests: many(inner, at2(stall, "R#1"))}, "in the wait for an event loop of Ranker that was blocked in expand, search.py line 3, all in replica R#1", "helve profile shop/Ranker/R#1 --cpu"},
		"of the deployment":   {of, Load{Requests: many(at2(inner, "R#1"))}, "in Ranker.run itself", "helve profile"},
		"of another one":      {shop("Front"), Load{Requests: many(at2(inner, "R#1"))}, "", ""},
		"quick ones":          {app, Load{Requests: quick}, "", ""},
		"too few":             {app, Load{Requests: many(inner)[:2]}, "", ""},
		"nothing in common":   {app, Load{Requests: append(many(inner)[:3], many(piece("wait", "b", "a", "A", 2, 1400), piece("call", "d", "r", "X", 2, 1))[0], slowRequest(7, 1500), slowRequest(8, 1500, piece("wait", "b", "a", "B", 2, 1400)), slowRequest(9, 1500, piece("wait", "b", "a", "C", 2, 1400)), slowRequest(6, 1500, piece("wait", "b", "a", "D", 2, 1400)))}, "", ""},
		"a slow replica":      {app, Load{Latencies: latencies}, "calls of Ranker.run take 2500 ms at replica R#1, 40 times as long as at its other 2 replicas (62.0 ms), in the last 5 minutes", "helve profile shop/Ranker/R#1"},
		"few calls":           {app, Load{Latencies: []Latency{{"Ranker", "run", "R#1", 2, time.Minute}, latencies[1]}}, "", ""},
		"short, few calls":    {app, Load{Latencies: []Latency{{"Ranker", "run", "R#1", 12, 12 * 68 * time.Millisecond}, {"Ranker", "run", "R#2", 90, 90 * 6 * time.Millisecond}}}, "", ""},
		"short, many calls":   {app, Load{Latencies: []Latency{{"Ranker", "run", "R#1", 40, 40 * 68 * time.Millisecond}, {"Ranker", "run", "R#2", 90, 90 * 6 * time.Millisecond}}}, "11 times as long", "helve profile shop/Ranker/R#1"},
		"itself":              {shop("Ranker", "R#1"), Load{Latencies: latencies}, "40 times as long as at its other 2 replicas", "helve profile shop/Ranker/R#1"},
		"a sibling":           {shop("Ranker", "R#2"), Load{Latencies: latencies[1:]}, "its calls of Ranker.run take 60.0 ms, those of its other 1 replica 64.0 ms", ""},
		"blocked":             {app, Load{Stalls: []Stall{{"Ranker", "R#1", 3, 2 * time.Second, "expand, search.py line 3", "r7"}}}, "the event loop of replica R#1 was blocked 3 times in the last 5 minutes, for up to 2000 ms, and its calls waited meanwhile: it stood in expand, search.py line 3", "helve why r7"},
		"blocked elsewhere":   {shop("Front"), Load{Stalls: []Stall{{Deployment: "Ranker", Replica: "R#1"}}}, "", ""},
	} {
		c.load.SlowFrom = time.Second
		e := helvetype.Explanation{Object: c.of, Sentence: "it runs", Next: "helve why --failed shop"}
		Measure(&e, helvetype.ApplicationStatus{}, c.load)
		if !strings.Contains(e.Sentence, c.want) || (c.want == "") != (e.Sentence == "it runs") || !strings.Contains(e.Next, c.next) {
			t.Errorf("%s: %s\nwant %s\nnext %s, want %s", name, e.Sentence, c.want, e.Next, c.next)
		}
	}
	e := helvetype.Explanation{Object: app, Next: "deploy a corrected revision"}
	if Measure(&e, helvetype.ApplicationStatus{}, Load{Latencies: latencies}); e.Next != "deploy a corrected revision" {
		t.Errorf("the advice of a failure has gone: %s", e.Next)
	}
}

// TestStall: a call that waited for a blocked loop, and the call that has blocked it.
func TestStall(t *testing.T) {
	t.Parallel()
	stall := at2(piece("stall", "c", "b", "Ranker", 3, 800), "Ranker#1")
	stall.Name = "expand, search.py line 3"
	other := stall
	other.Attributes = map[string]any{blockedBy: "culprit"}
	inner := piece("call", "b", "a", "Ranker", 2, 900)
	sentence, next := Request(request(1000, 200, piece("call", "a", "r", "Front", 1, 998), inner, other), helvetype.Status{}, kept(nil))
	if !strings.Contains(sentence, "the call waited 800 ms of 1000 ms for the event loop of replica Ranker#1 of shop/Ranker (called by Ranker.run, and that by Front.run), which another request had blocked: it stood in expand, search.py line 3") || !strings.Contains(next, "helve why culprit") {
		t.Errorf("%s\n%s", sentence, next)
	}
	sentence, next = Request(request(1000, 200, piece("call", "a", "r", "Front", 1, 998), inner, stall), helvetype.Status{}, kept(nil))
	if !strings.Contains(sentence, "the call blocked the event loop of replica Ranker#1 of shop/Ranker") || !strings.Contains(next, "helve profile shop/Ranker/Ranker#1 --cpu") {
		t.Errorf("%s\n%s", sentence, next)
	}
}

// TestPresent: replicas that are gone are not compared with, their requests count and have them among those that are gone, and requests from before the last deploy, or of an application that has failed, say nothing.
func TestPresent(t *testing.T) {
	t.Parallel()
	a := helvetype.ApplicationStatus{Deployments: map[string]helvetype.DeploymentStatus{
		"Ranker": {Replicas: []helvetype.ReplicaStatus{{ID: "R#2", State: helvetype.ReplicaRunning}, {ID: "R#3", State: helvetype.ReplicaRunning}, {ID: "R#4", State: helvetype.ReplicaStopping}}},
		"Front":  {Replicas: []helvetype.ReplicaStatus{{ID: "F#1", State: helvetype.ReplicaRunning}}},
	}}
	call := func(replica string) helvetype.Span { return at2(piece("call", "b", "a", "Ranker", 2, 1400), replica) }
	other := call("X#1")
	other.App, other.Deployment = "search", "X" // a replica of another application: its state is not in a
	l := Load{
		Requests:  []helvetype.RequestTrace{slowRequest(1, 1500, call("R#1")), slowRequest(2, 1500, call("R#2")), slowRequest(3, 1500, piece("wait", "b", "a", "Ranker", 2, 1400)), slowRequest(4, 1500, other)},
		Latencies: []Latency{{Deployment: "Ranker", Replica: "R#1"}, {Deployment: "Ranker", Replica: "R#2"}, {Deployment: "Ranker", Replica: "R#4"}, {Deployment: "Gone", Replica: "R#2"}},
		Stalls:    []Stall{{Deployment: "Ranker", Replica: "R#1"}, {Deployment: "Ranker", Replica: "R#3"}},
	}
	got := l.Present("shop", a)
	if len(got.Latencies) != 1 || got.Latencies[0].Replica != "R#2" || len(got.Stalls) != 1 || got.Stalls[0].Replica != "R#3" || len(got.Requests) != 4 || len(got.Gone) != 1 || !got.Gone["Ranker/R#1"] || len(l.Latencies) != 4 {
		t.Errorf("%+v", got)
	}
	now := time.Unix(10_000, 0)
	for name, c := range map[string]struct {
		status   helvetype.ApplicationState
		deployed time.Duration // ago
		want     time.Duration // ago; 0 for none
	}{
		"long ago":    {helvetype.ApplicationRunning, time.Hour, Window},
		"just now":    {helvetype.ApplicationRunning, time.Minute, time.Minute},
		"unhealthy":   {helvetype.ApplicationUnhealthy, time.Hour, Window},
		"failed":      {helvetype.ApplicationDeployFailed, time.Hour, 0},
		"deleted":     {helvetype.ApplicationDeleting, time.Hour, 0},
		"not started": {helvetype.ApplicationNotStarted, time.Hour, 0},
	} {
		since, ok := LoadFrom(helvetype.ApplicationStatus{Status: c.status, DeployedAt: now.Add(-c.deployed)}, now)
		if ok != (c.want > 0) || ok && now.Sub(since) != c.want {
			t.Errorf("%s: %s, %t", name, now.Sub(since), ok)
		}
	}
}

// TestStallOfTheCall: a call of which a part has blocked its event loop says so, although its own time is longer: the begin of a stall is not seen.
func TestStallOfTheCall(t *testing.T) {
	t.Parallel()
	stall := piece("stall", "s", "a", "D", 965, 611)
	stall.Name = "D.run, app.py line 10"
	r := request(1575, 200, piece("call", "a", "r", "D", 0, 1575), stall)
	got, _ := Request(r, helvetype.Status{}, kept{})
	if want := "and for 611 ms or more it blocked the event loop of its replica: it stood in D.run, app.py line 10, without an await"; !strings.HasSuffix(got, want) {
		t.Error(got)
	}
}

// TestStallOfImports: an import at the first call is no trouble of now; imports again and again are one.
func TestStallOfImports(t *testing.T) {
	t.Parallel()
	for n, says := range map[int]bool{1: false, 2: true} {
		e := helvetype.Explanation{Object: shop()}
		Measure(&e, helvetype.ApplicationStatus{}, Load{Stalls: []Stall{{Deployment: "D", Replica: "D#1", Number: n, Longest: time.Second, Place: "_path_stat, <frozen importlib._bootstrap_external> line 147"}}})
		if got := strings.Contains(e.Sentence, "event loop"); got != says {
			t.Errorf("%d: %q", n, e.Sentence)
		}
	}
}

// TestTimeBeforeFailure: where requests that were cut off have spent their time comes before the deployment whose calls were cut off.
func TestTimeBeforeFailure(t *testing.T) {
	t.Parallel()
	const failed = "deployment Front: 57 of the 358 calls of the last 50 s have failed"
	for _, c := range []struct {
		kept  string
		first bool // the time is named first
	}{{helvetype.KeptFailed, true}, {helvetype.KeptSlow, false}} {
		var requests []helvetype.RequestTrace
		for i := range 3 {
			r := slowRequest(i, 1500, at2(piece("call", "b", "a", "Ranker", 2, 1400), "R#1"))
			r.Kept = c.kept
			requests = append(requests, r)
		}
		e := helvetype.Explanation{Object: shop(), Sentence: "application shop is RUNNING: each of its 2 deployments has its replicas; " + failed + "; and more"}
		Measure(&e, helvetype.ApplicationStatus{}, Load{SlowFrom: time.Second, Requests: requests})
		spent, other := strings.Index(e.Sentence, "spent most of their time"), strings.Index(e.Sentence, failed)
		if spent < 0 || other < 0 || spent < other != c.first || !strings.HasSuffix(e.Sentence, "and more") == c.first {
			t.Errorf("%s: %s", c.kept, e.Sentence)
		}
	}
}
