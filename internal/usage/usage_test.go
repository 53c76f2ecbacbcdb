package usage

import (
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/telemetry"
)

// begin is the time of the first look.
var begin = time.Unix(10000, 0)

// of is a snapshot of the deployment app/D.
func of(c *telemetry.Calls, rejected uint64) telemetry.Snapshot {
	return telemetry.Snapshot{Applications: []telemetry.Application{{Name: "app", Deployments: []telemetry.Deployment{{Name: "D", Calls: c.Counts(), Rejected: rejected, Replicas: []telemetry.Replica{{ID: "D#1"}, {ID: "D#2"}}}}}}}
}

func calls(c *telemetry.Calls, n int, took time.Duration, failed bool) {
	for range n {
		c.Begin()
		c.End(took, failed)
	}
}

// filled is the status of app/D after a look.
func filled(m *Meter, replicas ...helvetype.ReplicaStatus) helvetype.DeploymentStatus {
	s := helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"app": {Deployments: map[string]helvetype.DeploymentStatus{"D": {Replicas: replicas}}}}}
	m.Fill(&s)
	return s.Applications["app"].Deployments["D"]
}

func none(int) (Process, bool) { return Process{}, false }

// TestLastMinute: the calls of the last minute count, and calls before do not, also if questions come between the periods. A deployment that begins anew has no calls of before.
func TestLastMinute(t *testing.T) {
	t.Parallel()
	var m Meter
	var c telemetry.Calls
	calls(&c, 1000, 50*time.Millisecond, false)
	m.Look(begin, of(&c, 3), nil, none)
	if got := filled(&m).LastMinute; got != nil {
		t.Errorf("after one look: %+v", got)
	}
	at := begin
	for range 3600 / 5 { // an hour without calls
		at = at.Add(Period)
		m.Look(at, of(&c, 3), nil, none)
		m.Look(at.Add(time.Second), of(&c, 3), nil, none)
	}
	if n := len(m.calls[deployment{"app", "D"}]); n > 2*int(window/Period)+3 {
		t.Errorf("%d looks are kept", n)
	}
	calls(&c, 90, 40*time.Millisecond, false)
	calls(&c, 10, 90*time.Millisecond, true)
	at = at.Add(Period)
	m.Look(at, of(&c, 5), nil, none)
	want := &helvetype.LastMinute{Seconds: 60, Calls: 100, Errors: 10, Rejected: 2, Mean: 45, P50: 36.66666666666667, P90: 50, P99: 90}
	if diff := cmp.Diff(want, filled(&m).LastMinute); diff != "" {
		t.Error(diff)
	}
	for range 13 {
		at = at.Add(Period)
		m.Look(at, of(&c, 5), nil, none)
	}
	if got := filled(&m).LastMinute; got.Calls != 0 || got.Errors != 0 || got.Rejected != 0 || got.Mean != 0 || got.P99 != 0 {
		t.Errorf("a minute later: %+v", got)
	}
	m.Look(at.Add(Period), of(new(telemetry.Calls), 0), nil, none)
	if got := filled(&m).LastMinute; got != nil {
		t.Errorf("of a new deployment: %+v", got)
	}
	m.Look(at.Add(2*Period), telemetry.Snapshot{}, nil, none)
	var young telemetry.Calls
	young.Resume(100, 50) // by replicas of the node before
	calls(&young, 2, 40*time.Millisecond, true)
	m.Look(at.Add(3*Period), of(&young, 1), nil, none)
	if got := filled(&m).LastMinute; got == nil || got.Calls != 2 || got.Errors != 2 || got.Rejected != 1 || got.Seconds != Period.Seconds() {
		t.Errorf("of a deployment that has begun since the last look: %+v", got)
	}
}

// TestLongest: the 99th percentile is not above the longest call, and a call that its caller has ended has not failed.
func TestLongest(t *testing.T) {
	t.Parallel()
	var m Meter
	var c telemetry.Calls
	now := time.Now()
	m.Look(now, of(&c, 0), nil, none)
	calls(&c, 9, 50*time.Millisecond, false)
	c.Begin()
	c.Cancel(12 * time.Second)
	m.Look(now.Add(Period), of(&c, 0), nil, none)
	if got := filled(&m).LastMinute; got.P99 != 12000 || got.Calls != 10 || got.Errors != 0 {
		t.Errorf("%+v", got)
	}
}

// TestDue: a question after less than a second has the look before.
func TestDue(t *testing.T) {
	t.Parallel()
	var m Meter
	if !m.Due(begin) {
		t.Error("the first question has no look")
	}
	m.Look(begin, telemetry.Snapshot{}, nil, none)
	if m.Due(begin.Add(fresh-1)) || !m.Due(begin.Add(fresh)) {
		t.Error("Due")
	}
}

// TestLooksAtOnce: of questions that come together one looks, so that a count that is older than another one is never taken for that of a new deployment.
func TestLooksAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m Meter
		var c telemetry.Calls
		m.Look(time.Now(), of(&c, 0), nil, none)
		time.Sleep(2 * time.Second)
		var asked atomic.Int32
		for range 8 {
			go m.LookNow(func() telemetry.Snapshot {
				asked.Add(1)
				for range 1000 { // the others ask meanwhile
					runtime.Gosched()
				}
				return of(&c, 0)
			}, nil)
		}
		synctest.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("%d looks were taken", n)
		}
	})
}

// TestProcesses: memory is that of now, and the use of processors that of the last period. A process that takes the number of another begins at 0. Two replicas of one process count once.
func TestProcesses(t *testing.T) {
	t.Parallel()
	var m Meter
	p := Process{Memory: 10 << 20, CPU: time.Minute, Started: 1}
	read := func(pid int) (Process, bool) { return p, pid == 7 }
	replicas := []helvetype.ReplicaStatus{{ID: "D#1", PID: 7, State: helvetype.ReplicaRunning}, {ID: "D#2", PID: 7, State: helvetype.ReplicaRunning}, {ID: "D#3", State: helvetype.ReplicaStarting}, {ID: "D#4", PID: 8, State: helvetype.ReplicaRunning}}
	pids := map[string]int{"D#1": 7, "D#2": 7, "D#4": 8}
	see := func(after time.Duration, memory uint64, cpu float64) {
		t.Helper()
		m.Look(begin.Add(after), of(new(telemetry.Calls), 0), pids, read)
		got := filled(&m, replicas...).Replicas
		if got[0].Memory != memory || got[0].CPU != cpu || got[1].Memory != memory || got[2].Memory != 0 || got[3].Memory != 0 {
			t.Errorf("after %s: %+v, want %d bytes, %g %%", after, got, memory, cpu)
		}
	}
	see(0, 10<<20, 0)
	p.CPU += time.Second
	see(time.Second, 10<<20, 100)
	p.Memory, p.CPU = 20<<20, p.CPU+9*time.Second
	see(5*time.Second, 20<<20, 200)
	p.CPU += 5 * time.Second
	see(10*time.Second, 20<<20, 100)
	see(15*time.Second, 20<<20, 0)
	s := of(new(telemetry.Calls), 0)
	m.Measure(&s)
	d := s.Applications[0].Deployments[0]
	if d.Memory != 20<<20 || d.Replicas[0].Memory != 20<<20 || d.Replicas[1].CPU != p.CPU {
		t.Errorf("%+v", d)
	}
	p = Process{Memory: 1 << 20, CPU: time.Second, Started: 2}
	see(20*time.Second, 1<<20, 0)
	if got := Processes(helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"app": {Deployments: map[string]helvetype.DeploymentStatus{"D": {Replicas: append(replicas[2:], helvetype.ReplicaStatus{ID: "D#5", State: helvetype.ReplicaRunning})}}}}}); len(got) != 2 || got["D#4"] != 8 || got["D#5"] != os.Getpid() {
		t.Errorf("the processes are %v", got)
	}
}

// TestParse: the files of a process, whose name may have brackets.
func TestParse(t *testing.T) {
	t.Parallel()
	stat := []byte("7 (py) thon) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 4 0 12345 1000 200")
	got, ok := parse([]byte("1000 250 30 1 0 40 0\n"), stat, 4096)
	if want := (Process{Memory: 250 * 4096, CPU: 2 * time.Second, Started: 12345}); !ok || got != want {
		t.Errorf("%+v %v, want %+v", got, ok, want)
	}
	for _, c := range [][2]string{{"", string(stat)}, {"1000 x", string(stat)}, {"1000 250", "7 (python"}, {"1000 250", "7 (p) S 1"}} {
		if got, ok := parse([]byte(c[0]), []byte(c[1]), 4096); ok {
			t.Errorf("%q: %+v", c, got)
		}
	}
}

// TestRequests: an application has its HTTP requests of the last minute, of which those with a status of 500 or more have failed.
func TestRequests(t *testing.T) {
	t.Parallel()
	var m Meter
	var good, missing, bad telemetry.Calls
	snapshot := func() telemetry.Snapshot {
		return telemetry.Snapshot{Requests: []telemetry.RequestCounts{
			{Application: "app", Status: 200, Calls: good.Counts()}, {Application: "app", Status: 404, Calls: missing.Counts()}, {Application: "app", Status: 502, Calls: bad.Counts()},
			{Application: "other", Status: 200, Calls: telemetry.Counts{}}, {Status: 404, Calls: missing.Counts()},
		}}
	}
	m.Look(begin, snapshot(), nil, none)
	calls(&good, 6, 5*time.Millisecond, false)
	calls(&missing, 3, 5*time.Millisecond, true)
	calls(&bad, 1, 5*time.Millisecond, true)
	m.Look(begin.Add(Period), snapshot(), nil, none)
	s := helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"app": {}, "new": {}}}
	m.Fill(&s)
	if got := s.Applications["app"].Requests; got == nil || got.Calls != 10 || got.Errors != 1 {
		t.Errorf("app: %+v", got)
	}
	if got := s.Applications["new"].Requests; got != nil {
		t.Errorf("an application without requests: %+v", got)
	}
	if r, ok := m.Recent("app", ""); !ok || r != (Rate{Calls: 2, Errors: 0.2}) {
		t.Errorf("app: %+v", r)
	}
	if r, ok := m.Recent("", ""); !ok || r != (Rate{Calls: 2.6, Errors: 0.2}) {
		t.Errorf("the node: %+v", r)
	}
}

// TestRecent: rates are of the last 5 to 10 seconds, also if questions come in between; those of a replica that has begun since the last look, or counts anew, too.
func TestRecent(t *testing.T) {
	t.Parallel()
	var m Meter
	var c, one telemetry.Calls
	look := func(at time.Duration) {
		s := of(&c, 0)
		s.Applications[0].Deployments[0].Replicas[0] = telemetry.Replica{ID: "D#1", State: helvetype.ReplicaRunning, Calls: one.Counts(), Loop: telemetry.LoopDelays{Sum: 3 * at.Seconds(), Number: uint64(at / time.Second)}}
		m.Look(begin.Add(at), s, nil, none)
	}
	look(0)
	if _, ok := m.Recent("app", "D"); ok {
		t.Error("after one look")
	}
	if _, _, ok := m.RecentAt("D#1"); ok {
		t.Error("after one look")
	}
	calls(&c, 50, time.Millisecond, false)
	calls(&one, 20, time.Millisecond, true)
	look(2 * time.Second) // a young node has what there is
	if r, _ := m.Recent("app", "D"); r != (Rate{Calls: 25}) {
		t.Errorf("after 2 s: %+v", r)
	}
	look(5 * time.Second)
	look(6 * time.Second)
	look(11 * time.Second)
	calls(&c, 30, time.Millisecond, true)
	for i := range 4 {
		look(time.Duration(12+i) * time.Second)
	}
	if r, ok := m.Recent("app", "D"); !ok || r.Calls < 3 || r.Calls > 6 || r.Errors != r.Calls {
		t.Errorf("of 30 calls in the last 5 to 10 s: %+v", r)
	}
	if r, late, ok := m.RecentAt("D#1"); !ok || r != (Rate{}) || late != 3 {
		t.Errorf("of a replica without calls: %+v, %g ms late", r, late)
	}
	if r, _, ok := m.RecentAt("D#2"); ok {
		t.Errorf("of a replica that is gone: %+v", r)
	}
	one = telemetry.Calls{}
	look(16 * time.Second)
	if _, _, ok := m.RecentAt("D#1"); ok {
		t.Error("of counts that have begun anew")
	}
	if n := len(m.tallies["D#1"]); n > 3 {
		t.Errorf("%d looks are kept", n)
	}
}

// TestRatesOfOneTime: the rates of a deployment, of its only caller and of its only replica are of the same seconds, whenever these have begun.
func TestRatesOfOneTime(t *testing.T) {
	t.Parallel()
	for begins := range 14 {
		var m Meter
		var calls telemetry.Calls
		from := telemetry.Caller{Kind: telemetry.FromHTTP}
		for second := range 30 {
			s := of(&calls, 0)
			d := &s.Applications[0].Deployments[0]
			if second >= begins {
				for range second % 7 {
					calls.Begin()
					calls.End(time.Millisecond, false)
				}
				d.Calls = calls.Counts()
				d.Replicas = []telemetry.Replica{{ID: "D#1", State: helvetype.ReplicaRunning, Calls: d.Calls}}
				d.Callers = map[telemetry.Caller]telemetry.CallerCounts{from: {Ended: d.Calls.Ended()}}
			}
			m.Look(begin.Add(time.Duration(second)*time.Second), s, nil, none)
			all, _ := m.Recent("app", "D")
			edge, _, known := m.RecentFrom("app", "D", from)
			replica, _, _ := m.RecentAt("D#1")
			if known && (edge != all || replica != all) {
				t.Fatalf("begun at %d s, after %d s: %+v, of the caller %+v, of the replica %+v", begins, second, all, edge, replica)
			}
		}
	}
}

// TestRecentFrom: the calls of a caller have their rate and their wait; of a caller that is new all calls came since the last look.
func TestRecentFrom(t *testing.T) {
	t.Parallel()
	var m Meter
	gateway, http := telemetry.Caller{Kind: telemetry.FromDeployment, App: "app", Deployment: "Gateway"}, telemetry.Caller{Kind: telemetry.FromHTTP}
	look := func(at time.Duration, callers map[telemetry.Caller]telemetry.CallerCounts) {
		s := of(new(telemetry.Calls), 0)
		s.Applications[0].Deployments[0].Callers = callers
		m.Look(begin.Add(at), s, nil, none)
	}
	look(0, map[telemetry.Caller]telemetry.CallerCounts{gateway: {Ended: 100}})
	look(Period, map[telemetry.Caller]telemetry.CallerCounts{gateway: {Ended: 120, Failed: 5, Waited: 40 * time.Millisecond}, http: {Ended: 10}})
	if r, wait, ok := m.RecentFrom("app", "D", gateway); !ok || r != (Rate{Calls: 4, Errors: 1}) || wait != 2 {
		t.Errorf("%+v, %g ms", r, wait)
	}
	if r, wait, ok := m.RecentFrom("app", "D", http); !ok || r != (Rate{Calls: 2}) || wait != 0 {
		t.Errorf("of a new caller: %+v, %g ms", r, wait)
	}
	if _, _, ok := m.RecentFrom("app", "D", telemetry.Caller{Kind: telemetry.FromDriver}); ok {
		t.Error("a caller without calls is known")
	}
}
