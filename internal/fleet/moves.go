package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/moves"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/states"
)

// MovesLocked begins the move of the models that only this replica has, which stops by the event: the router keeps the replica for the calls of these models. The function move moves them. It is called
// when the router has the set without the replica, and returns when the router sends no call to the replica any more: when ctx ends or half of the grace is over, at the latest. The other half is for
// the calls that the replica has taken meanwhile.
//
// The function is nil if there are no such models, if no replica of the deployment stays, as when its application is deleted, and for a replica that is stopped because it fails.
func (r *Replica) MovesLocked(event states.Event, grace time.Duration) (move func(ctx context.Context)) {
	d := r.Dep
	models := serving.BaseOf(r.Running).Models()
	if event != states.Stop || len(models) == 0 || grace <= 0 || d.App.fleet.Draining || d.App.EndingLocked() || d.App.Failure != nil || d.Dropped || d.Over || d.App.Deployments[d.Name] != d {
		return nil
	}
	stay := d.stayLocked(r)
	if len(stay) == 0 {
		return nil
	}
	kept := d.Serving.Router.Leave(r.Running, models, func(of router.Replica) bool {
		return slices.ContainsFunc(stay, func(s moves.Stay) bool { return s.Replica == of })
	})
	if len(kept) == 0 {
		return nil
	}
	var mu sync.Mutex
	left := map[string][]string{} // models that have not moved, by the reason
	l := moves.Leaving{
		Replica: r.Running, Models: kept, Router: d.Serving.Router,
		Stay: func() []moves.Stay {
			d.App.fleet.Mu.Lock()
			defer d.App.fleet.Mu.Unlock()
			return d.stayLocked(r)
		},
		Stays: func(s moves.Stay) bool {
			d.App.fleet.Mu.Lock()
			defer d.App.fleet.Mu.Unlock()
			other := d.Replicas[s.ID]
			return other != nil && other != r && other.Running == s.Replica && other.TakesLocked()
		},
		Moved: func(model string, to moves.Stay, took time.Duration) { r.noteMoved(model, to.ID, took) },
		Left: func(model, why string) {
			mu.Lock()
			defer mu.Unlock()
			left[why] = append(left[why], model)
		},
	}
	ended := r.Running.Ended()
	return func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, grace/2)
		defer cancel()
		go func() {
			select {
			case <-ended: // its process has ended; the channel is nil for a replica in this process, which has none
				cancel()
			case <-ctx.Done():
			}
		}()
		l.Run(ctx)
		r.noteLeft(left)
	}
}

// stayLocked are the replicas of the deployment that get calls, without the replica but.
func (d *Deployment) stayLocked(but *Replica) (stay []moves.Stay) {
	for _, r := range d.Replicas {
		if r == but || !r.TakesLocked() {
			continue
		}
		base := serving.BaseOf(r.Running)
		stay = append(stay, moves.Stay{Replica: r.Running, Candidate: moves.Candidate{
			ID: r.ID, Newest: r.Of == d.Now && !r.Outdated, Models: len(base.Models()), Calls: base.Running(),
		}})
	}
	return stay
}

// noteMoved records that another replica has loaded a model of this one, which stops. The event is one of the other replica, whose model it is now, and its cause is the stop of this one.
func (r *Replica) noteMoved(model, to string, took time.Duration) {
	f := r.Dep.App.fleet
	f.Mu.Lock()
	at, cause := r.Dep.Replicas[to], r.LastEvent
	if at != nil {
		f.Journal.NoteWith(at.Object(), string(at.State), "model_moved", fmt.Sprintf("the model %s was loaded before a call asked for it, because replica %s stops", model, r.ID), cause,
			map[string]string{"model": model, "from": r.ID, "load_s": short(took.Seconds())})
	}
	f.Mu.Unlock()
	f.Log.Info("a model has moved, because its replica stops", "app", r.Dep.App.Name, "deployment", r.Dep.Name, "model", model, "from", r.ID, "to", to, "after", took.Round(time.Millisecond))
}

// noteLeft records which models have not moved, and why.
func (r *Replica) noteLeft(left map[string][]string) {
	f := r.Dep.App.fleet
	for why, models := range left {
		slices.Sort(models)
		names := strings.Join(models, ", ")
		f.Mu.Lock()
		f.Journal.NoteWith(r.Object(), string(r.State), "model_not_moved", fmt.Sprintf("no other replica has loaded %s: %s; the next call loads it", names, why), r.LastEvent, map[string]string{"models": names})
		f.Mu.Unlock()
		f.Log.Warn("models have not moved, and their replica stops", "app", r.Dep.App.Name, "deployment", r.Dep.Name, "models", names, "from", r.ID, "reason", why)
	}
}
