// Package moves has the models of a replica that stops loaded by replicas that stay, before it stops. For example, a deployment goes from two replicas to one, and only the
// replica that stops has the model fr:
//
//   - The router sends no new call to it, but for those with the model fr ([router.Router.Leave]).
//   - The node asks the replica which of these models it has loaded and when each was used, and decides where each goes ([Plan]).
//   - The node asks the other replica to load fr. Until it has done so, or has refused or failed, the calls for fr go on to the replica that stops: no call waits for the load.
//   - From then on the calls for fr go to the other replica, and the replica that stops takes no call any more ([router.Router.Left]). It finishes the calls that it executes, and closes.
//
// A model that does not move, because it was not used lately or no replica has room for it, is loaded by the next call for it, if one comes.
package moves

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/router"
)

// Stay is a replica that stays.
type Stay struct {
	Candidate
	Replica router.Replica
}

// Leaving is a replica that stops, with models that only it has. Its functions are called from several goroutines.
type Leaving struct {
	Replica router.Replica
	Models  []string // the result of [router.Router.Leave]
	Router  *router.Router
	// Stay gives the replicas that stay. It is called once: when the replicas that stop with this one are known.
	Stay func() []Stay
	// Stays says whether one of them stays still.
	Stays func(Stay) bool
	// Moved is told of a model that another replica has loaded.
	Moved func(model string, to Stay, took time.Duration)
	// Left is told of a model that was used lately and did not move, and why.
	Left func(model, why string)
}

// Run moves the models, until ctx ends at the latest. When it returns the router sends no call to the replica any more.
func (l *Leaving) Run(ctx context.Context) {
	pending := map[string]bool{}
	for _, id := range l.Models {
		pending[id] = true
	}
	defer func() {
		for id := range pending {
			l.Router.Left(l.Replica, id, nil)
		}
	}()
	loaded, err := loadedAt(ctx, l.Replica)
	if err != nil { // a worker of a version that does not know the question is one
		for id := range pending {
			l.Left(id, "the replica has not said when it was used: "+err.Error())
		}
		return
	}
	loaders := map[string][]protocol.LoadedModel{} // of each model
	for _, m := range loaded.Models {
		if pending[m.Model] {
			loaders[m.Model] = append(loaders[m.Model], m)
		}
	}
	var models []Model
	for id, by := range loaders {
		latest := slices.MinFunc(by, func(a, b protocol.LoadedModel) int { return cmp.Compare(a.UnusedS, b.UnusedS) })
		models = append(models, Model{id, latest.UnusedS.Duration()})
	}
	stay := l.Stay()
	candidates := make([]Candidate, len(stay))
	for i, s := range stay {
		candidates[i] = s.Candidate
	}
	queues := map[int][]Move{} // by the replica that is asked first: it loads one model at a time, and the others load meanwhile
	moving := map[string]bool{}
	for _, m := range Plan(models, candidates) {
		queues[m.To[0]] = append(queues[m.To[0]], m)
		moving[m.Model.ID] = true
	}
	for id := range maps.Clone(pending) {
		if !moving[id] {
			l.Router.Left(l.Replica, id, nil)
			delete(pending, id)
		}
	}
	var wg sync.WaitGroup
	for _, queue := range queues {
		wg.Go(func() {
			for _, m := range queue {
				l.move(ctx, m.Model.ID, loaders[m.Model.ID], stay, m.To)
			}
		})
	}
	wg.Wait()
	clear(pending)
}

// move moves one model.
func (l *Leaving) move(ctx context.Context, id string, loaders []protocol.LoadedModel, stay []Stay, to []int) {
	why := "no replica stays that could load it"
	for _, i := range to {
		at, begun := stay[i], time.Now()
		if !l.Stays(at) {
			continue
		}
		l.Router.Coming(id, at.Replica)
		refused, err := load(ctx, at.Replica, loaders)
		switch {
		case err != nil && ctx.Err() != nil:
			why = "the time to move models is over: " + call.EndOf(ctx).Error()
		case err != nil:
			why = fmt.Sprintf("replica %s has failed to load it: %s", at.ID, err)
		case refused != "":
			why = fmt.Sprintf("replica %s has not loaded it: %s", at.ID, refused)
			continue
		case !l.Stays(at): // the other replica stops too, by now
			continue
		default:
			l.Router.Left(l.Replica, id, at.Replica)
			l.Moved(id, at, time.Since(begun))
			return
		}
		break // a load that has failed here would fail elsewhere
	}
	l.Router.Left(l.Replica, id, nil)
	l.Left(id, why)
}

// lateTime is how much later than the node a worker gives a load up.
const lateTime = time.Second

// load has a replica load a model, by each loader that had loaded it.
func load(ctx context.Context, at router.Replica, loaders []protocol.LoadedModel) (refused string, err error) {
	for _, m := range loaders {
		if err := ctx.Err(); err != nil {
			return "", call.EndOf(ctx)
		}
		req := protocol.LoadModel{Model: m.Model, Loader: m.Loader, UnusedS: m.UnusedS}
		if until, ok := ctx.Deadline(); ok {
			req.TimeoutS = protocol.SecondsOf(time.Until(until) + lateTime) // ctx ends first, and its error says which time is over
		}
		if out, err := loadAt(ctx, at, req); err != nil || out.Refused != "" {
			return out.Refused, err
		}
	}
	return "", nil
}
