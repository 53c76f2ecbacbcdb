// Package scaler is the autoscaler of a node. It samples the load of each deployment with an autoscaling_config, asks package autoscale how many replicas there should be,
// writes the number into the store, and has the controller follow it. It decides nothing itself.
//
// A deployment with load, or that scales, is sampled each 100 ms, one without each 500 ms, and each at once when a call begins to wait there
// ([serving.Deployment].Queues). For example, a deployment of no replicas gets a call: the call waits in its router, the router's deployment wakes the scaler, the decision
// "1 call waits, no replica" is written as scale/app/D, and a replica starts, which serves the call.
//
// The number, its reason and the memory of package autoscale are in one record, scale/A/D, so that windows, delays and decisions survive a restart of the node. A decision writes it at
// once; without one the memory of a deployment with load is written each 10 s, so that a node that is killed forgets at most that.
//
// Where the store cannot be written, as with a full disk, the number holds in this node all the same, and is written again with the memory.
//
// Lock order: Fleet.Mu, then Scaler.mu. No user code runs under either: custom policies are asked by package policy, which keeps their last answers.
package scaler

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/policy"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/store"
)

// The periods of samples, and of the records of a memory that has changed.
const (
	busyPeriod = 100 * time.Millisecond
	idlePeriod = 500 * time.Millisecond
	savePeriod = 10 * time.Second
	// again is the time until a decision that could not be carried out is made again.
	again = time.Second
)

// decisionsKept is the number of decisions that status and records have of a deployment.
const decisionsKept = 8

// Settings are the arguments of [New].
type Settings struct {
	Fleet  *fleet.Fleet
	Target *records.Target
	Log    *slog.Logger
	// Scrub takes secrets out of what policies print, and out of their errors; nil leaves them.
	Scrub func(text string) string
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// Scaler scales the deployments of a node by their load. Its methods may be called from any goroutine.
type Scaler struct {
	set  Settings
	kick chan struct{}

	policies *policy.Set

	mu      sync.Mutex
	notes   []note // events to come
	ending  bool   // a policy may not be wanted any more
	scaled  map[*fleet.Deployment]*scaled
	failing map[string]bool // applications whose records could not be written: the log says that once
}

// scaled is one deployment. Guarded by Scaler.mu; the goroutine of Run alone changes it.
type scaled struct {
	app, name string
	serving   *serving.Deployment
	raw       string // the config as it was read
	config    autoscale.Config
	memory    memory
	facts     autoscale.Facts
	last      autoscale.Decision
	reason    string // of last, made when it is shown
	next      time.Time
	saved     time.Time // when the record had the memory last
	dirty     bool      // the memory has changed since

	policy      string // the name of its custom policy in package policy, or that of the application ("/"); "" for none
	asked       string // how it is named for people
	advice      policy.Advice
	numbers     map[string]map[string]float64 // that its replicas reported, at the last question
	policyError string                        // that the last event has
}

// memory is the state of a deployment as its record has it.
type memory struct {
	State     autoscale.State             `json:"state"`
	Decisions []helvetype.ScalingDecision `json:"decisions,omitempty"`
}

// New makes a scaler, and gives it to the fleet. Nothing scales before [Scaler.Run].
func New(set Settings) *Scaler {
	if set.Now == nil {
		set.Now = time.Now
	}
	s := &Scaler{set: set, kick: make(chan struct{}, 1), scaled: map[*fleet.Deployment]*scaled{}, failing: map[string]bool{}}
	s.policies = policy.NewSet(s.policySettings())
	set.Fleet.Mu.Lock()
	defer set.Fleet.Mu.Unlock()
	set.Fleet.Scaler = s
	return s
}

// Wake has the scaler look at its deployments now.
func (s *Scaler) Wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Run scales until ctx ends. It ends the policies then.
func (s *Scaler) Run(ctx context.Context) {
	defer s.policies.Close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		woken := false
		select {
		case <-s.kick:
			woken = true
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if next := s.turn(ctx, woken); !next.IsZero() {
			timer.Reset(max(next.Sub(s.set.Now()), 0))
		}
	}
}

// change is a decision that changes the number of a deployment.
type change struct {
	*scaled
	of       *fleet.Deployment
	from     fleet.Number
	decision autoscale.Decision
}

// turn looks at the deployments that are due, or at all, and says when to look again; zero while there is none.
func (s *Scaler) turn(ctx context.Context, all bool) (next time.Time) {
	now := s.set.Now()
	due := s.due(now, all)
	var changes []change
	s.mu.Lock()
	for _, of := range due {
		if c, ok := s.look(now, of); ok {
			changes = append(changes, c)
		}
	}
	s.mu.Unlock()
	s.flush()
	s.endPolicies()
	for _, c := range changes {
		s.carryOut(ctx, c)
	}
	s.save(ctx, now)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.scaled {
		if next.IsZero() || e.next.Before(next) {
			next = e.next
		}
	}
	return next
}

// due are the deployments that are to be looked at now. It takes notice of deployments that have come and gone.
func (s *Scaler) due(now time.Time, all bool) (due []fleet.Scaled) {
	f := s.set.Fleet
	f.Mu.Lock()
	defer f.Mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	there := make(map[*fleet.Deployment]bool, len(s.scaled))
	for d := range f.AutoscaledLocked {
		there[d] = true
		e := s.scaled[d]
		if e == nil {
			e = &scaled{app: d.App.Name, name: d.Name, serving: d.Serving, saved: now}
			e.recall(d.MemoryLocked().State)
			s.scaled[d] = e
		} else if !all && now.Before(e.next) {
			continue
		}
		due = append(due, d.ScaledLocked())
	}
	maps.DeleteFunc(s.scaled, func(d *fleet.Deployment, e *scaled) bool {
		s.ending = s.ending || !there[d] && e.policy != ""
		return !there[d]
	})
	return due
}

// recall reads the memory of a record. A memory of another version begins anew.
func (e *scaled) recall(state json.RawMessage) {
	var m memory
	if len(state) > 0 && json.Unmarshal(state, &m) == nil {
		e.memory = m
	}
}

// look samples a deployment and decides. It reports whether the number changes.
func (s *Scaler) look(now time.Time, of fleet.Scaled) (c change, changed bool) {
	e := s.scaled[of.Deployment]
	if raw := string(of.Config); raw != e.raw {
		config, err := autoscale.Parse(of.Config)
		if err != nil { // the deploy has checked it
			s.set.Log.Error("an autoscaling_config cannot be read", "app", e.app, "deployment", e.name, "error", err)
			e.next = now.Add(savePeriod)
			return c, false
		}
		e.raw, e.config = raw, config
	}
	load, ready := sample(of.Serving)
	e.memory.State.Observe(now, load)
	e.facts = of.Facts
	e.facts.Ready = ready
	e.facts.Least, e.facts.Most = autoscale.Bounds(e.config, of.Capacity, of.Rising)
	s.advise(now, e, of)
	e.last = autoscale.Decide(now, e.config, &e.memory.State, e.facts)
	e.reason = ""
	busy := load.Queued+load.Running > 0
	e.dirty = e.dirty || busy
	if e.next = now.Add(idlePeriod); busy || e.facts.Starting > 0 || e.last.Replicas != e.facts.Target {
		e.next = now.Add(busyPeriod)
	}
	if at := e.last.Next; !at.IsZero() && at.Before(e.next) {
		e.next = at
	}
	return change{e, of.Deployment, of.Wanted, e.last}, e.last.Replicas != e.facts.Target
}

// sample counts the calls that wait and run, and the replicas that get calls. Replicas that drain are not among them.
func sample(d *serving.Deployment) (load autoscale.Load, ready int) {
	replicas := d.Router.Replicas()
	for _, r := range replicas {
		running, started := serving.Flow(r)
		load.Running += running
		load.Arrived += started
		load.Finished += started - min(uint64(running), started)
	}
	load.Queued = d.Router.Queued()
	load.Arrived += uint64(load.Queued) + d.Router.Rejected()
	return load, len(replicas)
}

// carryOut writes a decision, and has the replicas follow. A deploy, or another change of the number, that has come meanwhile is stronger: the scaler decides anew.
func (s *Scaler) carryOut(ctx context.Context, c change) {
	d := c.decision
	s.mu.Lock()
	c.memory.Decisions = append(c.memory.Decisions, helvetype.ScalingDecision{
		At: s.set.Now(), From: d.Inputs.Replicas, To: d.Replicas, Reason: d.Reason(), Policy: c.config.Policy.Function,
	})
	if extra := len(c.memory.Decisions) - decisionsKept; extra > 0 {
		c.memory.Decisions = slices.Clone(c.memory.Decisions[extra:])
	}
	record := store.Scale{Replicas: d.Replicas, By: store.ByAutoscaler, Reason: d.Reason(), At: s.set.Now().UTC()}
	record.State, _ = json.Marshal(c.memory) //nolint:errcheck // it has nothing that JSON cannot have
	s.mu.Unlock()
	wrote, err := s.write(ctx, c.of, c.app, c.name, c.from, record, func(to records.Scale) { c.of.ScaleByLoadLocked(to, fleet.ScaleInputs(d)) })
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !wrote:
		c.memory.Decisions = c.memory.Decisions[:len(c.memory.Decisions)-1]
		if err != nil {
			c.next = s.set.Now().Add(again)
		}
	case err == nil:
		c.saved, c.dirty = s.set.Now(), false
	default:
		c.dirty = true
	}
}

// write puts the record of a number into the store, if the deployment still has the number that it was decided for, and calls then with the fleet's lock. A store that cannot be written
// is reported once until it can be: then is called all the same.
func (s *Scaler) write(ctx context.Context, of *fleet.Deployment, app, name string, from fleet.Number, record store.Scale, then func(records.Scale)) (wrote bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, records.Timeout, errors.New("the store was not reached in time"))
	defer cancel()
	if err := s.set.Target.Lock(ctx); err != nil {
		return false, err
	}
	defer s.set.Target.Unlock()
	f := s.set.Fleet
	current := func() bool {
		f.Mu.Lock()
		defer f.Mu.Unlock()
		return s.currentLocked(of, from)
	}
	if !current() {
		return false, nil
	}
	to, err := s.set.Target.WriteScale(records.LeavesGeneration(ctx), app, name, record)
	if err != nil {
		to = records.Scale{Record: record}
	}
	s.noteStored(app, err)
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if !s.currentLocked(of, from) {
		return false, err
	}
	then(to)
	return true, err
}

// currentLocked says that a deployment still has the number that was decided for.
func (s *Scaler) currentLocked(of *fleet.Deployment, from fleet.Number) bool {
	f := s.set.Fleet
	a := f.Apps[of.App.Name]
	return !f.Shut && !f.HandedOver && a == of.App && a.Deployments[of.Name] == of && of.Asked == from && of.Now.Definition.Options.Autoscaled()
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

// save writes the memories that have changed, of each deployment no more often than each savePeriod.
func (s *Scaler) save(ctx context.Context, now time.Time) {
	var changed []*fleet.Deployment
	s.mu.Lock()
	for d, e := range s.scaled {
		if e.dirty && now.Sub(e.saved) >= savePeriod {
			changed = append(changed, d)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(changed, func(a, b *fleet.Deployment) int {
		return strings.Compare(a.App.Name+"/"+a.Name, b.App.Name+"/"+b.Name)
	})
	for _, d := range changed {
		s.saveOne(ctx, d)
	}
}

func (s *Scaler) saveOne(ctx context.Context, d *fleet.Deployment) {
	f := s.set.Fleet
	f.Mu.Lock()
	record, from := d.MemoryLocked(), d.Asked
	f.Mu.Unlock()
	s.mu.Lock()
	e := s.scaled[d]
	if e == nil {
		s.mu.Unlock()
		return
	}
	record.State, _ = json.Marshal(e.memory) //nolint:errcheck // as in carryOut
	e.saved, e.dirty = s.set.Now(), false
	s.mu.Unlock()
	wrote, err := s.write(ctx, d, e.app, e.name, from, record, func(to records.Scale) {
		if to.Modified != 0 {
			f.NoteScaleLocked(e.app, e.name, to)
		}
	})
	if !wrote || err != nil {
		s.mu.Lock()
		e.dirty = true
		s.mu.Unlock()
	}
}

// SaveAll writes the memories of all deployments that have changed: the node ends.
func (s *Scaler) SaveAll(ctx context.Context) {
	s.mu.Lock()
	all := make([]*fleet.Deployment, 0, len(s.scaled))
	for d, e := range s.scaled {
		if e.dirty {
			all = append(all, d)
		}
	}
	s.mu.Unlock()
	for _, d := range all {
		s.saveOne(ctx, d)
	}
}

// DescribeLocked is the autoscaler of a deployment for status and metrics.
func (s *Scaler) DescribeLocked(d *fleet.Deployment) *helvetype.Autoscaling {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.scaled[d]
	if e == nil || e.raw == "" {
		return nil
	}
	if e.reason == "" {
		e.reason = e.last.Reason()
	}
	load, at := e.memory.State.Last()
	of := &helvetype.Autoscaling{
		Target: d.Wanted, Desired: e.last.Desired, Least: e.facts.Least, Most: e.facts.Most, Blocked: e.last.Blocked, Reason: e.reason, Calls: e.last.Inputs.Calls,
		TargetOngoing: e.config.Target, Queued: load.Queued, Running: load.Running, SampledAt: at, LastUp: e.memory.State.LastUp, LastDown: e.memory.State.LastDown,
		Policy: e.config.Policy.Function, Health: helvetype.AutoscalingHealthy, Decisions: slices.Clone(e.memory.Decisions),
	}
	e.describePolicy(of)
	return of
}
