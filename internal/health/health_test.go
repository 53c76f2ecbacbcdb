package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
)

// patient is a replica whose answers the test says. The changes that its owner is told are in told.
type patient struct {
	*Replica
	checks bool

	mu           sync.Mutex
	out          bool // of service
	ready, lives error
	told         []string
	ended        uint64
}

func (p *patient) set(change func(*patient)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *patient) CheckHealth(context.Context) error { return nil }
func (p *patient) HasHealthCheck() bool              { return false }
func (p *patient) HasReadyCheck() bool               { return p.checks }

func (p *patient) CheckReady(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ready
}

func (p *patient) Sign(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lives
}

func (p *patient) AutoscalingStats(context.Context) (map[string]float64, error) { return nil, nil }
func (p *patient) RoutingStats(context.Context) (json.RawMessage, error)        { return nil, nil }

func (p *patient) Counts() telemetry.Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	var k telemetry.Counts
	k.Buckets[0] = p.ended
	return k
}

// changes are the reasons of the changes since the last question.
func (p *patient) changes() string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	all := strings.Join(p.told, " ")
	p.told = nil
	return all
}

// options have a check each second, and an ejection of 5 s after three failures.
func options() (o spec.Effective) {
	o.ReadinessPeriod, o.ReadinessTimeout, o.ReadinessFailures, o.ReadinessSuccesses, o.HealthCheckTimeout = time.Second, time.Second, 1, 1, time.Second
	o.Ejection.Enabled, o.Ejection.Failures, o.Ejection.EjectFor, o.Ejection.MaxPercent = true, 3, 5*time.Second, 50
	return o
}

// admit watches a replica.
func admit(d *Deployment, checks bool, ready error) *patient {
	p := &patient{checks: checks, ready: ready}
	p.Replica = d.Watch(p, options(), Owner{
		Options: func() (spec.Effective, bool) {
			p.mu.Lock()
			defer p.mu.Unlock()
			return options(), !p.out
		},
		Changed: func(c Change) {
			reason := c.Reason
			if c.First {
				reason = "first"
			}
			p.set(func(p *patient) { p.told = append(p.told, reason) })
		},
	})
	return p
}

// leave takes the replica out of service.
func (p *patient) leave() {
	p.set(func(p *patient) { p.out = true })
	p.Leave()
}

// on runs f with a deployment on a node of its own. The time is false time.
func on(t *testing.T, f func(t *testing.T, d *Deployment)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		f(t, NewNode(ctx, running.Go, slog.New(slog.DiscardHandler)).Deployment())
		cancel()
		running.Wait()
	})
}

// want compares the changes of replicas, and which of them get calls: '+' for one that does.
func want(t *testing.T, step, changes, takes string, of ...*patient) {
	t.Helper()
	var told []string
	got := ""
	for _, p := range of {
		told = append(told, p.changes())
		if p.Takes() {
			got += "+"
		} else {
			got += "-"
		}
	}
	if all := strings.Join(told, ","); all != changes || got != takes {
		t.Errorf("%s: changes %q, want %q; calls %s, want %s", step, all, changes, got, takes)
	}
}

var errCold = errors.New("the cache is cold")

// TestReadiness: a replica gets calls while its readiness check passes, and the last one gets them all the same until another is ready.
func TestReadiness(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, d *Deployment) {
		a, b := admit(d, true, errCold), admit(d, true, nil)
		want(t, "at first", "not_ready,first", "-+", a, b)
		if v := a.View(); v.NotReady == nil || v.NotReady.Kept != "" || !strings.Contains(v.Why, "(1 in a row): the cache is cold") || v.NotReady.NextAt.IsZero() {
			t.Errorf("the first: %+v", v)
		}
		a.set(func(p *patient) { p.ready = nil })
		time.Sleep(2 * time.Second)
		want(t, "both pass", "ready_again,", "++", a, b)
		a.set(func(p *patient) { p.ready = errCold })
		time.Sleep(2 * time.Second)
		want(t, "one fails", "not_ready,", "-+", a, b)
		failed := fmt.Errorf("wrapped: %w", &call.Error{Message: "LookupError: no stock", Traceback: "Traceback (most recent call last):"})
		b.set(func(p *patient) { p.ready = failed })
		time.Sleep(5 * time.Second)
		want(t, "the last fails", ",kept", "-+", a, b)
		if v := b.View(); v.NotReady == nil || v.NotReady.Kept != "the last replica" || !strings.Contains(v.NotReady.Reason, "no stock") || v.NotReady.Traceback == "" || v.Why == "" {
			t.Errorf("the last: %+v", v)
		}
		a.set(func(p *patient) { p.ready = nil })
		time.Sleep(2 * time.Second)
		want(t, "another passes", "ready_again,not_ready", "+-", a, b)
		if v := b.View(); v.NotReady.Kept != "" {
			t.Errorf("the one that was kept: %+v", v)
		}
		c := admit(d, false, nil)
		want(t, "one without a check", "", "+", c)
		a.leave()
		c.leave()
		want(t, "the others end", ",kept", "-+", a, b)
		b.set(func(p *patient) { p.ready = nil })
		time.Sleep(2 * time.Second)
		want(t, "it passes", "ready_again", "+", b)
		if v := b.View(); v.NotReady != nil || v.Why != "" {
			t.Errorf("at the end: %+v", v)
		}
	})
}

// TestNewReplicaReleases: a replica without a readiness check takes the place of the last one at once, whose check fails.
func TestNewReplicaReleases(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, d *Deployment) {
		a := admit(d, true, nil)
		want(t, "at first", "first", "+", a)
		a.set(func(p *patient) { p.ready = errCold })
		time.Sleep(2 * time.Second)
		want(t, "it fails", "kept", "+", a)
		b := admit(d, false, nil)
		want(t, "another one comes", "not_ready,", "-+", a, b)
	})
}

// TestEjection: a replica whose calls fail is ejected, is probed until a probe passes, and stays if it is the last.
func TestEjection(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, d *Deployment) {
		a, b := admit(d, false, nil), admit(d, false, nil)
		fail := func(p *patient, n int) {
			for range n {
				p.Failed("deadline")
			}
		}
		fail(a, 2)
		a.set(func(p *patient) { p.ended++ }) // a call has ended well
		fail(a, 2)
		want(t, "two in a row", ",", "++", a, b)
		a.set(func(p *patient) { p.lives = errCold })
		fail(a, 1)
		want(t, "three in a row", "ejected,", "-+", a, b)
		if v := a.View(); v.Ejected == nil || v.Ejected.NextAt.Sub(v.Ejected.Since) != 5*time.Second || !strings.Contains(v.Why, "3 calls in a row") || !strings.Contains(v.Why, "deadline") {
			t.Errorf("%+v", v)
		}
		fail(b, 6)
		want(t, "the last fails", ",not_ejected", "-+", a, b)
		time.Sleep(6 * time.Second)
		want(t, "its probe fails", ",", "-+", a, b)
		if v := a.View(); v.Ejected.Reason != "its probe failed: the cache is cold" || !strings.Contains(v.Why, "3 calls in a row") {
			t.Errorf("%+v", v)
		}
		a.set(func(p *patient) { p.lives = nil })
		time.Sleep(10 * time.Second)
		want(t, "its probe passes", "returned,", "++", a, b)
		fail(a, 3)
		want(t, "again", "ejected,", "-+", a, b)
		b.leave()
		want(t, "the other ends", "returned,", "+-", a, b)
	})
}

// TestChangesAreInOrder: the changes of a node are told one after the other, and none is lost, while replicas come, fail and go at the same time.
func TestChangesAreInOrder(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, d *Deployment) {
		admit(d, false, nil)
		a := admit(d, false, nil)
		for range 50 {
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() { a.Failed("lost") })
			}
			all.Go(func() { admit(d, false, nil).leave() })
			all.Wait()
			time.Sleep(2 * time.Minute)
		}
		told := strings.Fields(a.changes())
		if want := slices.Repeat([]string{"ejected", "returned"}, 50); !slices.Equal(told, want) {
			t.Errorf("the changes are %v", told)
		}
	})
}

// TestUnwatchedReplica: a replica that is not watched gets calls.
func TestUnwatchedReplica(t *testing.T) {
	t.Parallel()
	var r *Replica
	r.Follow(options())
	r.Leave()
	if !r.Takes() || !r.View().Takes {
		t.Error("it gets no calls")
	}
}
