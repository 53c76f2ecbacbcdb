package router

import (
	"fmt"
	"sync"
	"testing"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
)

// listed is a replica of the tests of lists.
type listed struct {
	id   string
	gate *gate.Gate
}

func (m *listed) ID() string   { return m.id }
func (m *listed) Node() string { return "local" }
func (m *listed) Gate() Gate   { return m.gate }

// holder is a call that keeps its slot until it is told to give it back.
type holder struct {
	ticket Ticket
	info   call.Info
	got    chan Replica
}

func (h *holder) Assigned(_ *call.Batch, r Replica)   { h.info.Replica = r.ID(); h.got <- r }
func (h *holder) Failed(_ *call.Batch, _ *call.Error) { close(h.got) }

func submit(r *Router, origin, model string, id uint64) *holder {
	h := &holder{got: make(chan Replica, 1)}
	h.info.Call, h.info.Place = id, &call.Place{App: "app", Deployment: "D", Method: "M"}
	if model != "" {
		h.info.Affinity = &call.Affinity{Model: model}
	}
	r.Submit(nil, &h.ticket, origin, &h.info, h)
	return h
}

// TestWaiting: waiting calls of all origins and models are listed in the order of their wait, and calls that hold a slot are not.
func TestWaiting(t *testing.T) {
	t.Parallel()
	r := New("local")
	r.Update(nil, []Replica{&listed{"D#1", gate.New(1)}})
	running := submit(r, "a", "", 1)
	slot := <-running.got
	var waiting []*holder
	for i := range uint64(6) {
		model := ""
		if i%3 == 2 {
			model = "m"
		}
		waiting = append(waiting, submit(r, fmt.Sprint("origin ", i%2), model, 10+i))
	}
	for limit, want := range map[int]int{100: 6, 6: 6, 3: 3, 1: 1} {
		calls, more := r.Waiting(limit)
		if len(calls) != want || more != 6-want {
			t.Fatalf("limit %d: %d calls and %d more", limit, len(calls), more)
		}
		for i, c := range calls {
			if c.Info.Call != 10+uint64(i) || c.Origin != fmt.Sprint("origin ", i%2) || c.Info.Deployment != "D" || c.Since == 0 {
				t.Errorf("limit %d: call %d is %+v", limit, i, c)
			}
		}
	}
	slot.Gate().Release(nil)
	for range waiting {
		for _, h := range waiting {
			select {
			case slot := <-h.got:
				slot.Gate().Release(nil)
			default:
			}
		}
	}
	if calls, more := r.Waiting(10); len(calls) > 0 || more > 0 {
		t.Errorf("when all have run: %+v, %d more", calls, more)
	}
}

// TestWaitingWhileCallsComeAndGo is for the race detector: calls are copied while others are assigned.
func TestWaitingWhileCallsComeAndGo(t *testing.T) {
	t.Parallel()
	r := New("local")
	r.Update(nil, []Replica{&listed{"D#1", gate.New(1)}, &listed{"D#2", gate.New(1)}})
	over := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				for _, c := range first(r.Waiting(10)) {
					if c.Info.Place == nil || c.Info.Replica != "" {
						t.Errorf("%+v", c)
					}
				}
			}
		}
	})
	var calling sync.WaitGroup
	for g := range 8 {
		calling.Go(func() {
			for i := range uint64(200) {
				(<-submit(r, fmt.Sprint(g%3), []string{"", "m"}[i%2], i).got).Gate().Release(nil)
			}
		})
	}
	calling.Wait()
	close(over)
	reading.Wait()
}

func first(calls []WaitingCall, _ int) []WaitingCall { return calls }
