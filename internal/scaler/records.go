package scaler

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/records"
)

// The number of a deployment, its reason and the memory of package autoscale are in one record, scale/A/D, so that windows, delays and decisions survive a restart of the node.
//
// One goroutine writes the records, one after the other, in the order in which deployments have asked for that. A record is made when its turn comes: of a deployment that has asked several times
// the newest state is written, once. For example, D goes from 1 to 4 and then to 9 replicas while the store hangs: its record has 9, and 4 was never written.
//
// A decision is written at once. Without one the memory of a deployment is written each 10 s while it may change a decision: while there is load, and until the number is at its least. So a node
// that is killed forgets at most that time. A delay that was set has its time on the clock, also where the node is killed, so its begin and its end are written within a second, and the memory each
// 5 s while it runs. For example, with an upscale_delay_s of 15 the load grows at 12:00:00, and the node is killed at 12:00:08 and is back at 12:00:10: the number grows at 12:00:15. Where the store cannot be written, as with a full disk, the number holds in this node all the same, and is written again with the memory.

// savePeriod is the time between two records of a memory that changes, and after a record that could not be written.
const savePeriod = 10 * time.Second

// The same while a delay runs, where the newest sample and an absence of the node are together shorter than [autoscale.LongestHold]; and the shortest time after a record until the one of a delay that
// has begun or ended, unless it was written because of a delay too. A load that begins and ends a delay again and again, such as one call each second with a downscale_to_zero_delay_s, has a record each 5 s.
const (
	delayPeriod = 5 * time.Second
	turnPeriod  = time.Second
)

// errLate is the end of the time for a record.
var errLate = errors.New("the store was not reached in time")

// writes are the deployments whose records are to be written, in their order, each once.
type writes struct {
	kick chan struct{}

	mu  sync.Mutex
	due []*fleet.Deployment
}

func newWrites() writes { return writes{kick: make(chan struct{}, 1)} }

// put has the record of a deployment written.
func (w *writes) put(d *fleet.Deployment) {
	w.mu.Lock()
	if !slices.Contains(w.due, d) {
		w.due = append(w.due, d)
	}
	w.mu.Unlock()
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// take gives the first deployment, nil if there is none.
func (w *writes) take() *fleet.Deployment {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.due) == 0 {
		return nil
	}
	d := w.due[0]
	w.due = slices.Delete(w.due, 0, 1)
	return d
}

// writeAll writes the records until ctx ends.
func (s *Scaler) writeAll(ctx context.Context) {
	for ctx.Err() == nil {
		if d := s.records.take(); d != nil {
			s.write(ctx, d)
			continue
		}
		select {
		case <-s.records.kick:
		case <-ctx.Done():
		}
	}
}

// write puts the record of a deployment into the store. One that the autoscaler does not scale any more has no record of it. A store that cannot be written is reported once until it can be.
func (s *Scaler) write(ctx context.Context, d *fleet.Deployment) {
	ctx, cancel := context.WithTimeoutCause(ctx, records.Timeout, errLate)
	defer cancel()
	f, target := s.set.Fleet, s.set.Target
	if err := target.Lock(ctx); err != nil {
		return // the deployment is still dirty
	}
	defer target.Unlock()
	f.Mu.Lock()
	follows, record := d.FollowsLoadLocked(), d.MemoryLocked()
	f.Mu.Unlock()
	s.mu.Lock()
	e := s.scaled[d]
	if !follows || e == nil {
		s.mu.Unlock()
		return
	}
	record.State, _ = json.Marshal(e.memory) //nolint:errcheck // it has nothing that JSON cannot have
	since := e.memory.State.DelayedSince()
	e.turned = !since.Equal(e.savedDelay)
	e.saved, e.savedDelay, e.dirty = s.set.Now(), since, false
	s.mu.Unlock()
	written, err := target.WriteScale(records.LeavesGeneration(ctx), e.app, e.name, record)
	s.noteStored(e.app, err)
	if err != nil {
		s.mu.Lock()
		e.dirty = true
		s.mu.Unlock()
		return
	}
	f.Mu.Lock()
	d.NoteWrittenLocked(written)
	f.Mu.Unlock()
}

// noteStored says once that the records of an application cannot be written.
func (s *Scaler) noteStored(app string, err error) {
	s.mu.Lock()
	was := s.failing[app]
	if s.failing[app] = err != nil; err == nil {
		delete(s.failing, app)
	}
	s.mu.Unlock()
	if err != nil && !was {
		s.set.Fleet.NoteUnstored(app, err)
	}
}

// save has the memories written that have changed, of each deployment no more often than its period.
func (s *Scaler) save(now time.Time) {
	for _, d := range s.changed(func(e *scaled) bool { return now.Sub(e.saved) >= e.period() }) {
		s.records.put(d)
	}
}

// period is the time from the last record of a memory to the next one.
func (e *scaled) period() time.Duration {
	switch since := e.memory.State.DelayedSince(); {
	case !since.Equal(e.savedDelay) && !e.turned:
		return turnPeriod
	case !since.Equal(e.savedDelay) || !since.IsZero():
		return delayPeriod
	}
	return savePeriod
}

// changed are the deployments whose records do not have their present memory and that a condition chooses, in the order of their names. They count as written until that has failed.
func (s *Scaler) changed(of func(*scaled) bool) (all []*fleet.Deployment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d, e := range s.scaled {
		if e.dirty && of(e) {
			all = append(all, d)
			e.saved = s.set.Now()
		}
	}
	slices.SortFunc(all, func(a, b *fleet.Deployment) int {
		return cmp.Or(cmp.Compare(a.App.Name, b.App.Name), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// SaveAll writes the memories of all deployments that have changed: the node ends. It takes no longer than one record may ([records.Timeout]).
func (s *Scaler) SaveAll(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, records.Timeout, errLate)
	defer cancel()
	for _, d := range s.changed(func(*scaled) bool { return true }) {
		s.write(ctx, d)
	}
}
