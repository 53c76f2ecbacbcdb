package serving

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/router"
)

// placed records how a place in the queue ended.
type placed struct {
	name string
	all  *[]string
	slot Replica
}

func (p *placed) Assigned(r Replica) {
	p.slot = r
	*p.all = append(*p.all, p.name)
}

func (p *placed) Failed(e *call.Error) {
	*p.all = append(*p.all, fmt.Sprintf("%s failed: %s", p.name, e.Reason))
}

// TestPlace: places get slots in their order, a place that was cancelled gets none, and a place that can never get one fails within Enter.
func TestPlace(t *testing.T) {
	t.Parallel()
	d := New(slog.New(slog.DiscardHandler), "node", "app", "D")
	d.Become(State{InProcess: true}, 2, nil)
	r := &fakeReplica{}
	r.Init(t.Context(), "D#1", "node", 1)
	d.Router.Update(nil, []router.Replica{r})
	at := &call.Place{App: "app", Deployment: "D", Method: "M"}
	var ends []string
	place := func(name string, info *call.Info) (*Place, *placed) {
		to := &placed{name: name, all: &ends}
		return d.NewPlace(info, to), to
	}
	want := func(what string, names ...string) {
		t.Helper()
		if !reflect.DeepEqual(ends, names) {
			t.Errorf("%s: %q, want %q", what, ends, names)
		}
	}

	first, holds := place("first", &call.Info{Place: at})
	first.Enter("one")
	want("a free slot", "first")
	second, then := place("second", &call.Info{Place: at})
	second.Enter("one")
	third, _ := place("third", &call.Info{Place: at})
	third.Enter("one")
	fourth, _ := place("fourth", &call.Info{Place: at})
	fourth.Enter("one")
	want("a full queue", "first", "fourth failed: backpressure")
	third.Cancel(nil, context.Canceled)
	third.Cancel(nil, context.Canceled)
	early, _ := place("early", &call.Info{Place: at})
	early.Cancel(nil, context.Canceled)
	early.Enter("one")
	if queued := d.Router.Queued(); queued != 1 {
		t.Errorf("%d places are in the queue, want 1", queued)
	}
	above := &call.Info{Place: at, Replica: holds.slot.ID()}
	cycle, _ := place("cycle", &call.Info{Above: above, Link: call.Awaited, Place: at})
	cycle.Enter("two")
	want("a cycle", "first", "fourth failed: backpressure", "cycle failed: cycle")
	holds.slot.Gate().Release(nil)
	want("the slot", "first", "fourth failed: backpressure", "cycle failed: cycle", "second")
	second.Cancel(nil, context.Canceled) // no effect: the call has left the queue
	then.slot.Gate().Release(nil)
	if load := then.slot.Gate().Load(); load != 0 {
		t.Errorf("%d slots are lost", load)
	}
	r.Slots().Close()
	d.Router.Update(nil, nil)
	d.Why = func() string { return "the disk is full" }
	late, _ := place("late", &call.Info{Place: at})
	late.Enter("one")
	if e := late.Explain(call.FromCause(context.DeadlineExceeded)); !strings.Contains(e.Error(), "has no replica: the disk is full") {
		t.Error(e)
	}
	d.Router.Close(call.NewError(helvetype.ReasonDeploymentUnavailable, "deleted"))
	if e := late.Explain(call.FromCause(context.DeadlineExceeded)); strings.Contains(e.Error(), "has no replica") {
		t.Errorf("a call that does not wait: %v", e)
	}
	d.Refuse(call.NewError(helvetype.ReasonDeploymentUnavailable, "deleted"))
	refused, _ := place("refused", &call.Info{Place: at})
	refused.Enter("one")
	if last := ends[len(ends)-2:]; !reflect.DeepEqual(last, []string{"late failed: deployment_unavailable", "refused failed: deployment_unavailable"}) {
		t.Errorf("after the end of the deployment: %q", last)
	}
}
