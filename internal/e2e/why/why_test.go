// Package why_test breaks a node in many ways, and asks it why: each answer names the cause.
package why_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/attach"
	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/rest"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// node is a system with a client of its admin interface.
type node struct {
	t    *testing.T
	sys  *helve.System
	labs map[string]fixture.RunningLab
	ask  *rest.Client
}

// begin runs the application labs.
func begin(t *testing.T, os map[string]helve.Options, replica func(name string) *fixture.Lab) *node {
	t.Helper()
	c := helvetest.Local.Config
	c.Admin = "127.0.0.1:0"
	sys := helvetest.Start(t, c, fixture.BuildLabs("labs", os, replica))
	n := &node{t: t, sys: sys, labs: fixture.LabsOf(t, sys, "labs", os)}
	address := strings.TrimPrefix(sys.AdminURL(), "http://")
	var err error
	if n.ask, err = rest.Open(address, rest.Access{Tokens: attach.Tokens(address)}); err != nil {
		t.Fatal(err)
	}
	return n
}

// request is the answer about the newest request that is kept for a reason, once it has all texts.
func (n *node) request(kept string, texts ...string) {
	n.t.Helper()
	fixture.Eventually(n.t, func() string {
		l, err := n.ask.Requests(n.t.Context(), "labs", kept)
		if err != nil || len(l.Requests) == 0 {
			return "no request is kept"
		}
		r, err := n.ask.Request(n.t.Context(), l.Requests[0].ID)
		if err != nil {
			return err.Error()
		}
		return lacks(r.Sentence, texts)
	})
}

func lacks(sentence string, texts []string) string {
	for _, text := range texts {
		if !strings.Contains(sentence, text) {
			return "no " + text + " in: " + sentence
		}
	}
	return ""
}

// waiting returns when so many calls wait.
func (n *node) waiting(want int) {
	n.t.Helper()
	fixture.Eventually(n.t, func() string {
		if got := n.sys.Status().Applications["labs"].Deployments["B"].Calls.Queued; got != want {
			return "the queue has another length"
		}
		return ""
	})
}

var errLicence = errors.New("no licence for the model")

// TestWhy has a situation in each row.
func TestWhy(t *testing.T) {
	t.Parallel()
	ab := func(b helve.Options) map[string]helve.Options {
		return map[string]helve.Options{"A": {MaxOngoingRequests: new(10), Uses: nil}, "B": b}
	}
	for name, situation := range map[string]func(t *testing.T){
		"the queue is full": func(t *testing.T) {
			hold := make(chan struct{})
			n := begin(t, ab(helve.Options{MaxOngoingRequests: new(1), MaxQueuedRequests: new(1)}), func(string) *fixture.Lab { return fixture.Constant(1, hold) })
			done := n.start("B", 2)
			n.waiting(1)
			if _, err := n.labs["B"].Do.Call(t.Context(), 1); err == nil {
				t.Error("the third call was not rejected")
			}
			if c := n.sys.Status().Applications["labs"].Deployments["B"].Calls; c.Rejected != 1 || c.Errors != 0 {
				t.Errorf("%+v, want 1 rejected, which is no error of a started call", c)
			}
			close(hold)
			done()
			n.request("failed", "the queue of labs/B was full", "max_queued_requests")
		},
		"a model was put out": func(t *testing.T) {
			models, err := helve.NewModels(t.Context(), func(_ context.Context, id string) (string, error) {
				time.Sleep(time.Second + 100*time.Millisecond) // so that the request is slow
				return id, nil
			}, helve.ModelsOptions[string]{Max: 1})
			if err != nil {
				t.Fatal(err)
			}
			n := begin(t, ab(helve.Options{}), func(string) *fixture.Lab {
				return &fixture.Lab{OnDo: func(ctx context.Context, i int) (int, error) {
					_, release, err := models.GetID(ctx, []string{"cats", "dogs"}[i%2])
					release()
					return i, err
				}}
			})
			for i := range 3 {
				if _, err := n.labs["B"].Do.Call(t.Context(), i); err != nil {
					t.Fatal(err)
				}
			}
			n.request("slow", "for the load of model cats at replica", "of labs/B", "took the place of model dogs")
		},
		"all replicas are full": func(t *testing.T) {
			hold := make(chan struct{})
			n := begin(t, ab(helve.Options{MaxOngoingRequests: new(1)}), func(string) *fixture.Lab { return fixture.Constant(1, hold) })
			done := n.start("B", 1)
			n.running(1)
			second := n.start("B", 1)
			n.waiting(1)
			// The deadline of a third call passes while it waits: its answer is about the wait alone.
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if _, err := n.labs["B"].Do.Call(ctx, 1); err == nil {
				t.Error("the third call has ended well")
			}
			close(hold)
			done()
			second()
			n.request("failed", "its deadline passed", "for a slot of labs/B", "max_ongoing_requests")
		},
		"calls wait in a circle": func(t *testing.T) {
			var n *node
			n = begin(t, ab(fixture.OneSlot()), func(name string) *fixture.Lab {
				return &fixture.Lab{OnDo: func(ctx context.Context, i int) (int, error) { return n.labs["B"].In(ctx).Do.Call(ctx, i) }}
			})
			if _, err := n.labs["B"].Do.Call(t.Context(), 1); err == nil {
				t.Error("the circle has ended well")
			}
			n.request("failed", "calls waited for each other in a circle", "B")
		},
		"user code fails below another call": func(t *testing.T) {
			var n *node
			n = begin(t, ab(fixture.OneSlot()), func(name string) *fixture.Lab {
				return &fixture.Lab{OnDo: func(ctx context.Context, i int) (int, error) {
					if name == "B" {
						return 0, errLicence
					}
					return n.labs["B"].In(ctx).Do.Call(ctx, i)
				}}
			})
			if _, err := n.labs["A"].Do.Call(t.Context(), 1); err == nil {
				t.Error("the call has ended well")
			}
			n.request("failed", "the code of labs/B.Do", "(called by A.Do)", errLicence.Error())
		},
		"the deadline is spent upstream": func(t *testing.T) {
			var n *node
			n = begin(t, ab(fixture.OneSlot()), func(name string) *fixture.Lab {
				return &fixture.Lab{OnDo: func(ctx context.Context, i int) (int, error) {
					if name == "A" {
						end, _ := ctx.Deadline()
						spend, cancel := context.WithDeadline(ctx, end.Add(-40*time.Millisecond))
						defer cancel()
						<-spend.Done()
						return n.labs["B"].In(ctx).Do.Call(ctx, i)
					}
					<-ctx.Done()
					return 0, ctx.Err()
				}}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if _, err := n.labs["A"].Do.Call(ctx, 1); err == nil {
				t.Error("the call has ended well")
			}
			n.request("failed", "its deadline passed", "ran in labs/A.Do")
		},
		"a request is not kept": func(t *testing.T) {
			n := begin(t, ab(fixture.OneSlot()), func(string) *fixture.Lab { return fixture.Constant(1, nil) })
			_, err := n.ask.Request(t.Context(), "nothing")
			fixture.WantText(t, err, "the node knows nothing of a request", "helve why --failed")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			situation(t)
		})
	}
}

// start makes calls beside the test. The function waits for their ends.
func (n *node) start(deployment string, calls int) (wait func()) {
	done := make(chan error, calls)
	for range calls {
		go func() {
			_, err := n.labs[deployment].Do.Call(n.t.Context(), 1)
			done <- err
		}()
	}
	return func() {
		for range calls {
			if err := <-done; err != nil {
				n.t.Error(err)
			}
		}
	}
}

// running returns when so many calls run.
func (n *node) running(want int) {
	n.t.Helper()
	fixture.Eventually(n.t, func() string {
		if got := n.sys.Status().Applications["labs"].Deployments["B"].Calls.Running; got != want {
			return "another number of calls runs"
		}
		return ""
	})
}
