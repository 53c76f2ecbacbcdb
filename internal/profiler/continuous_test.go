package profiler

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/profile"
	"github.com/helve-serve/helve/internal/protocol"
)

// node is a fake with replicas A#1 and A#2 in one process and B#1 in another, each of which answers with a stack of its process.
type node struct {
	mu    sync.Mutex
	gone  bool           // B#1 has ended
	taken map[string]int // profiles by replica that was asked
	busy  map[string]bool
	ended int
	size  int // of a profile, at least
}

func (n *node) Status() helvetype.Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	replicas := func(pid int, ids ...string) (all []helvetype.ReplicaStatus) {
		for _, id := range ids {
			all = append(all, helvetype.ReplicaStatus{ID: id, PID: pid, State: helvetype.ReplicaRunning})
		}
		return all
	}
	deployments := map[string]helvetype.DeploymentStatus{"A": {Replicas: replicas(1, "A#1", "A#2")}}
	if !n.gone {
		deployments["B"] = helvetype.DeploymentStatus{Replicas: replicas(2, "B#1")}
	}
	return helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"app": {Deployments: deployments}}}
}

func (n *node) Asked(_, deployment, replica string) (host.Asked, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if deployment == "B" && n.gone {
		return nil, errors.New("B#1 has ended")
	}
	return fakeReplica{of: n, process: deployment, id: replica}, nil
}

// fakeReplica is a replica of a worker.
type fakeReplica struct {
	host.Replica
	of          *node
	process, id string
}

func (r fakeReplica) Worker() protocol.Caller { return r }
func (r fakeReplica) Process() host.Process   { return host.Process{} }

// Control answers as a worker does: it takes one profile at a time, and ends it when it is told to.
func (r fakeReplica) Control(ctx context.Context, request, reply any) error {
	var asked struct {
		Op      string  `json:"op"`
		Seconds float64 `json:"seconds"`
	}
	if err := json.Unmarshal(request.(json.RawMessage), &asked); err != nil {
		return err
	}
	n := r.of
	n.mu.Lock()
	defer n.mu.Unlock()
	if asked.Op == (protocol.EndProfile{}).Op() {
		n.ended++
		return nil
	}
	answer := reply.(*protocol.Profiled)
	if n.busy[r.process] {
		*answer = protocol.Profiled{Busy: "another"}
		return nil
	}
	n.busy[r.process] = true
	n.taken[r.id]++
	n.mu.Unlock()
	select {
	case <-time.After(time.Duration(asked.Seconds * float64(time.Second))):
	case <-ctx.Done():
	}
	n.mu.Lock()
	n.busy[r.process] = false
	p := &profile.Profile{Types: []profile.Type{{Kind: "cpu", Unit: "nanoseconds"}}, Functions: []profile.Function{{Name: "work_" + r.process}}, Duration: time.Second, Start: time.Now()}
	p.Samples = []profile.Sample{{Stack: []profile.Frame{{}}, Values: []int64{7}}}
	if answer.Pprof = p.Encode(); len(answer.Pprof) < n.size {
		answer.Pprof = append(answer.Pprof, make([]byte, n.size-len(answer.Pprof))...)
	}
	return ctx.Err()
}

// times is how often a replica was asked for a profile.
func (n *node) times(replica string) int {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.taken[replica]
}

func fake() *node { return &node{taken: map[string]int{}, busy: map[string]bool{}} }

func object(deployment, replica string) helvetype.Object {
	return helvetype.Object{Kind: helvetype.KindReplica, App: "app", Deployment: deployment, Replica: replica}
}

// read gives the folded stacks of the last time of a replica.
func read(t *testing.T, p *Profiler, of helvetype.Object, last time.Duration) string {
	t.Helper()
	file, err := p.Last(of, last)
	if err != nil {
		return err.Error()
	}
	joined, err := profile.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	return joined.Folded()
}

// TestContinuous: each process is measured once every ten seconds, whichever of its replicas is asked for; a replica that has ended keeps its profiles; turned off, there are none.
func TestContinuous(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := fake()
		p := New(t.Context(), n)
		if got := read(t, p, object("A", "A#1"), time.Minute); !strings.Contains(got, "are off") {
			t.Error(got)
		}
		p.SetContinuous(true)
		p.SetContinuous(true)
		time.Sleep(65 * time.Second)
		for _, c := range []struct {
			deployment, replica string
			last                time.Duration
			want                string
		}{
			{"A", "A#1", time.Hour, "work_A 49\n"}, {"A", "A#2", time.Hour, "work_A 49\n"}, {"B", "B#1", time.Hour, "work_B 49\n"},
			{"B", "B#1", 25 * time.Second, "work_B 21\n"}, {"B", "B#2", time.Hour, "there is no profile of app/B/B#2 in the last 1h0m0s"},
		} {
			if got := read(t, p, object(c.deployment, c.replica), c.last); !strings.HasPrefix(got, c.want) {
				t.Errorf("%s in the last %s: %q, want %q", c.replica, c.last, got, c.want)
			}
		}
		if a, b := n.times("A#1")+n.times("A#2"), n.times("B#1"); a != 7 || b != 7 {
			t.Errorf("A was measured %d times, B %d times", a, b)
		}
		if now := p.Continuous(); !now.On || now.Profiles != 14 || now.Bytes == 0 || time.Since(*now.Since) != 65*time.Second {
			t.Errorf("%+v", now)
		}
		n.mu.Lock()
		n.gone = true
		n.mu.Unlock()
		time.Sleep(time.Minute)
		if got := read(t, p, object("B", "B#1"), 3*time.Minute); got != "work_B 49\n" {
			t.Errorf("after its end: %q", got)
		}
		time.Sleep(continuousAge)
		if got := read(t, p, object("B", "B#1"), time.Hour); !strings.HasPrefix(got, "there is no profile") {
			t.Errorf("long after its end: %q", got)
		}
		p.SetContinuous(false)
		if now := p.Continuous(); now != (profile.Continuous{}) {
			t.Errorf("off: %+v", now)
		}
	})
}

// TestOnDemandComesFirst: a profile that an operator asks for waits for the continuous one under way, and none begins while it is taken.
func TestOnDemandComesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := fake()
		p := New(t.Context(), n)
		p.SetContinuous(true)
		time.Sleep(200 * time.Millisecond)
		begun := time.Now()
		if _, err := p.Take(t.Context(), object("A", "A#2"), profile.CPU, 30*time.Second); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took != 30*time.Second+800*time.Millisecond {
			t.Errorf("it took %s", took)
		}
		if got := n.times("B#1"); got != 1 {
			t.Errorf("B#1 was measured %d times", got)
		}
		time.Sleep(10 * time.Second)
		if got := n.times("B#1"); got != 2 {
			t.Errorf("B#1 was measured %d times", got)
		}
	})
}

// TestBoundOfContinuous: large profiles push the oldest out.
func TestBoundOfContinuous(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := fake()
		n.size = 1 << 20
		p := New(t.Context(), n)
		p.SetContinuous(true)
		time.Sleep(5 * time.Minute)
		if now := p.Continuous(); now.Bytes > continuousBytes || now.Profiles != continuousBytes/n.size {
			t.Errorf("%+v", now)
		}
	})
}
