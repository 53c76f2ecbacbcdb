// Package room gives replicas that start their part of the node, and has them wait while the node does not have it. The ledger has the holdings of all replicas; this package puts the reason of each wait
// into the status and the events, and has a replica of a former revision make room for its successor: see [placement.Room].
//
// A replica that does not fit is no failure. For example, an application wants the one GPU, which another application holds: its replica stays STARTING, the status says
// "needs 1 GPU, and 0 of 1 are free: shop/Model#001 holds 1", and the replica starts when shop has ended.
package room

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/devices"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/ledger"
	"github.com/helve-serve/helve/internal/placement"
)

// ErrWithdrawn is the end of the wait of a replica that is not wanted any more.
var ErrWithdrawn = errors.New("the replica is not wanted any more, and has not got its place on the node yet")

// Keeper has the replicas that wait for their part of the node. Make one with [New].
type Keeper struct {
	fleet   *fleet.Fleet
	ledger  *ledger.Ledger
	stop    func(r *fleet.Replica)           // takes a replica out of service. Fleet.Mu is held
	log     *slog.Logger                     // may be a user's: not used with Fleet.Mu held
	run     func(f func())                   // on a goroutine that the owner waits for
	waiting map[*fleet.Replica]chan struct{} // closed when the replica is not wanted any more. Guarded by Fleet.Mu
}

// New makes the keeper of a node's room. stop takes a replica out of service, under the mutex of the fleet, and run runs a function on a goroutine that the owner waits for.
func New(f *fleet.Fleet, l *ledger.Ledger, stop func(*fleet.Replica), run func(func())) *Keeper {
	return &Keeper{fleet: f, ledger: l, stop: stop, log: f.Log, run: run, waiting: map[*fleet.Replica]chan struct{}{}}
}

// demand has the resources that a replica of a deployment asks for.
func demand(of *host.Deployment) placement.Demand {
	return placement.DemandOf(of.Spec.Language, of.Options)
}

func name(r *fleet.Replica) string { return r.Dep.App.Name + "/" + r.Dep.Name }

// Take is Reserve for a Go replica, which has no process of its own and has its holding until [Keeper.Gone]. runs says that the node before has started it.
func (k *Keeper) Take(ctx context.Context, r *fleet.Replica, of *host.Deployment, runs bool, reserve func(context.Context) (placement.Holding, error)) (err error) {
	d := demand(of)
	switch {
	case !runs:
		_, err = reserve(ctx)
	case !d.Zero():
		k.ledger.Keep(placement.HoldingOf(r.ID, name(r), d, nil))
	}
	return err
}

// Gone takes back the holding of a Go replica.
func (k *Keeper) Gone(r *fleet.Replica, of *host.Deployment) {
	if of.Spec.Language != "python" {
		k.ledger.Free(r.ID)
	}
}

// Reserve takes the part of the node that a replica asks for, and waits while the node has no room for it. waits says in the status that it waits, until done is called. The error is
// [ErrWithdrawn], or the end of ctx.
func (k *Keeper) Reserve(ctx context.Context, r *fleet.Replica, of *host.Deployment, waits func(reason string) (done func())) (h placement.Holding, err error) {
	d := demand(of)
	if d.Zero() && len(d.Labels) == 0 {
		return h, nil
	}
	w := k.ledger.Ask(r.ID, name(r), d)
	select {
	case <-w.Done():
		return w.Holding(), nil
	default:
	}
	defer func() {
		if err != nil {
			w.Leave()
			k.ledger.Free(r.ID) // the ledger may have given it a place just now
		}
	}()
	done := waits(fleet.WaitsForRoom)
	defer done()
	withdrawn := make(chan struct{})
	k.fleet.Mu.Lock()
	k.waiting[r] = withdrawn
	k.fleet.Mu.Unlock()
	defer func() {
		k.fleet.Mu.Lock()
		delete(k.waiting, r)
		k.fleet.Mu.Unlock()
	}()
	for said := ""; ; {
		noted := k.ledger.Noted()
		k.fleet.Mu.Lock()
		k.makeRoomLocked(r, w)
		said = k.sayLocked(r, w, said)
		gone, ready := k.fleet.Changed.Next(), k.fleet.Readier.Next()
		k.fleet.Mu.Unlock()
		select {
		case <-w.Done():
			return w.Holding(), nil
		case <-gone:
		case <-ready: // perhaps the replica that makes room
		case <-noted: // the reason says how much of a GPU is in use
		case <-withdrawn:
			return h, ErrWithdrawn
		case <-ctx.Done():
			return h, call.EndOf(ctx)
		}
	}
}

// WithdrawLocked ends the wait of a replica that is not wanted any more. Others are left alone.
func (k *Keeper) WithdrawLocked(r *fleet.Replica) {
	if withdrawn, ok := k.waiting[r]; ok {
		delete(k.waiting, r)
		close(withdrawn)
	}
}

// sayLocked puts the reason why a replica waits into its status, and into an event when it begins to wait. said is the reason so far.
func (k *Keeper) sayLocked(r *fleet.Replica, w *ledger.Wait, said string) string {
	why := w.Reason()
	if why == nil || why.Error() == said || r.Wait == nil {
		return said
	}
	r.Wait.Reason = why.Error()
	r.Dep.WakeLocked() // its message
	if said == "" {
		k.fleet.Journal.Note(r.Object(), string(r.State), "waits_for_room", why.Error(), r.LastEvent)
		id, dep, text := r.ID, r.Dep.Name, why.Error()
		k.run(func() {
			k.log.Warn("a replica waits for room on the node", "app", r.Dep.App.Name, "deployment", dep, "replica", id, "reason", text)
		})
	}
	return why.Error()
}

// makeRoomLocked has a replica of a former revision end, if r takes its place and needs its holding.
func (k *Keeper) makeRoomLocked(r *fleet.Replica, w *ledger.Wait) {
	if r.Of != r.Dep.Now {
		return
	}
	k.passLocked(r, w)
	var seats []placement.Seat
	for o := range k.fleet.ReplicasLocked {
		d := o.Dep
		leaves := d.App == r.Dep.App && d.Now.Revision != d.App.Current
		seats = append(seats, placement.Seat{
			Holder: placement.Holder{ID: o.ID, Own: d == r.Dep, StartedAt: o.StartedAt}, Serves: o.ServesLocked(), Ends: o.EndsLocked(),
			Former: leaves || d == r.Dep && former(o),
		})
	}
	d := demand(r.Of.Definition)
	var may []string
	_, id := placement.Room(seats, k.ledger.Holds, func(held []string) bool {
		may = held
		return k.ledger.Fits(name(r), d, held)
	})
	if id == "" {
		return
	}
	w.Claim(id, may)
	var oldest *fleet.Replica
	for o := range k.fleet.ReplicasLocked {
		if o.ID == id {
			oldest = o
		}
	}
	if oldest.Dep != r.Dep {
		oldest.Dep.Yielded++
	} else {
		r.Dep.MadeRoom = true
		k.fleet.Journal.Note(r.Dep.Object(), string(r.Dep.Shown.State), "surge_does_not_fit",
			"the node has no room for a replica beside the wanted number: "+id+" stops before its successor starts", r.LastEvent)
	}
	k.stop(oldest)
	oldest.Dep.App.WakeLocked() // its end is noted
}

// former says that a replica is to be replaced by one of the version that its deployment has now.
func former(r *fleet.Replica) bool { return r.Of.Version != r.Dep.Now.Version || r.Outdated }

// passLocked has a replica get its part of the node before replicas of former versions of its deployment that wait for theirs, unless replicas of its version fail: the former ones are known to be good.
func (k *Keeper) passLocked(r *fleet.Replica, w *ledger.Wait) {
	if former(r) || r.Dep.Failures.Number() > 0 {
		return
	}
	var holders map[string]bool
	for o := range k.waiting {
		if o.Dep == r.Dep && former(o) {
			if holders == nil {
				holders = map[string]bool{}
			}
			holders[o.ID] = true
		}
	}
	if holders != nil {
		w.Pass(holders)
	}
}

// NoteLocked says once for each deploy that the replicas of a deployment ask for more than the machine has, of amounts that were not stated: they start all the same.
func (k *Keeper) NoteLocked(d *fleet.Deployment) {
	o := d.Now.Definition.Options
	if before := d.Former; before != nil && reflect.DeepEqual(before.Definition.Options.Resources, o.Resources) && d.FormerAsked == d.Asked {
		return
	}
	for _, text := range deploy.Excess(devices.This(), k.ledger.Node(), o, d.Wanted) {
		k.fleet.Journal.Note(d.Object(), string(d.Shown.State), "resources_exceeded", text, 0)
		// The log may be a user's, and the mutex is held.
		k.run(func() { k.log.Warn(fmt.Sprintf("deployment %s: %s", d.Name, text), "app", d.App.Name) })
	}
}
