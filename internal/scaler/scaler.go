// Package scaler is the autoscaler of a node. It samples the load of each deployment with an autoscaling_config, asks package autoscale how many replicas there should be,
// writes the number into the store, and has the controller follow it. It decides nothing itself.
//
// A deployment with load, or that scales, is sampled each 100 ms, one without each 500 ms, and each at once when a call begins to wait there
// ([serving.Deployment].Queues). For example, a deployment of no replicas gets a call: the call waits in its router, the router's deployment wakes the scaler, the decision
// "1 call waits, no replica" becomes the number of D, a replica starts, which serves the call, and the record scale/app/D is written.
//
// A decision holds in this node at once, and its record is written after that, by a goroutine of its own (records.go of this package): a store that hangs holds up no call. For example, the
// disk does not answer for 10 s, and a call comes to a deployment of no replicas: its replica starts as fast as ever, and the record has the number when the disk answers.
//
// Lock order: Fleet.Mu, then Scaler.mu. No user code runs under either: custom policies are asked by package policy, which keeps their last answers.
package scaler

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/policy"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/store"
)

// The periods of samples.
const (
	busyPeriod = 100 * time.Millisecond
	idlePeriod = 500 * time.Millisecond
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
	set     Settings
	kick    chan struct{}
	records writes

	policies *policy.Set

	mu      sync.Mutex
	notes   []note // events to come
	ending  bool   // a policy may not be wanted any more
	scaled  map[*fleet.Deployment]*scaled
	failing map[string]bool // applications whose records could not be written: the log says that once
}

// scaled is one deployment. Guarded by Scaler.mu.
type scaled struct {
	app, name  string
	serving    *serving.Deployment
	raw        string // the config as it was read
	config     autoscale.Config
	memory     memory
	facts      autoscale.Facts
	last       autoscale.Decision
	reason     string // of last, made when it is shown
	next       time.Time
	saved      time.Time // when the record had the memory last
	savedDelay time.Time // the begin of the delay that it had, zero for none
	turned     bool      // the record was written because a delay had begun or ended
	dirty      bool      // the memory has changed since

	recovering, recovered time.Time // when a replica was first, and last, seen that is being taken over

	policy  string // the name of its custom policy in package policy, or that of the application ("/"); "" for none
	asked   string // how it is named for people
	advice  policy.Advice
	numbers map[string]map[string]float64 // that its replicas reported, at the last question
	failing bool                          // the last event of its policy is a failure
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
	s := &Scaler{set: set, kick: make(chan struct{}, 1), records: newWrites(), scaled: map[*fleet.Deployment]*scaled{}, failing: map[string]bool{}}
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
	var writer sync.WaitGroup
	writer.Go(func() { s.writeAll(ctx) })
	defer writer.Wait()
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
		if next := s.turn(woken); !next.IsZero() {
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
func (s *Scaler) turn(all bool) (next time.Time) {
	now := s.set.Now()
	due, over := s.due(now, all)
	if over {
		return time.Time{}
	}
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
		s.carryOut(c)
	}
	s.save(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.scaled {
		if next.IsZero() || e.next.Before(next) {
			next = e.next
		}
	}
	return next
}

// due are the deployments that are to be looked at now. It takes notice of deployments that have come and gone. A node that ends, or has handed over, is over: the memories stay, for
// [Scaler.SaveAll].
func (s *Scaler) due(now time.Time, all bool) (due []fleet.Scaled, over bool) {
	f := s.set.Fleet
	f.Mu.Lock()
	defer f.Mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	there := make(map[*fleet.Deployment]bool, len(s.scaled))
	if f.Shut || f.HandedOver {
		return nil, true
	}
	for d := range f.AutoscaledLocked {
		there[d] = true
		if e := s.scaled[d]; e == nil {
			s.begin(now, d)
		} else if !all && now.Before(e.next) {
			continue
		}
		due = append(due, d.ScaledLocked())
	}
	maps.DeleteFunc(s.scaled, func(d *fleet.Deployment, e *scaled) bool {
		s.ending = s.ending || !there[d] && e.policy != ""
		return !there[d]
	})
	return due, false
}

// begin takes notice of a deployment that has come.
func (s *Scaler) begin(now time.Time, d *fleet.Deployment) *scaled {
	e := &scaled{app: d.App.Name, name: d.Name, serving: d.Serving, saved: now}
	e.recall(d.MemoryLocked().State)
	s.scaled[d] = e
	return e
}

// recall reads the memory of a record. A memory of another version begins anew.
func (e *scaled) recall(state json.RawMessage) {
	var m memory
	if len(state) > 0 && json.Unmarshal(state, &m) == nil {
		e.memory, e.savedDelay = m, m.State.DelayedSince()
		e.memory.State.Restarted()
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
		if e.raw != "" && config.InitialReplicas != nil {
			e.memory.State.Begin(now)
		}
		e.raw, e.config = raw, config
	}
	load, ready := sample(of.Serving, of.Unready)
	e.memory.State.Observe(now, load)
	before := e.facts.Capacity
	e.facts = of.Facts
	e.facts.Ready = ready
	if e.takenOver(now, of.Recovering) && e.facts.HoldUp == "" {
		e.facts.HoldUp = "its replicas are being taken over"
	}
	e.facts.Least, e.facts.Most = autoscale.Bounds(e.config, of.Capacity, of.Rising)
	if e.facts.Capacity = of.Capacity; of.Rising && before != nil && of.Capacity != nil && *of.Capacity > *before {
		e.facts.Warm = autoscale.Share(e.config.Initial(), of.Capacity)
	}
	s.advise(now, e, of)
	e.last = autoscale.Decide(now, e.config, &e.memory.State, e.facts)
	e.reason = ""
	busy := load.Queued+load.Running > 0
	since := e.memory.State.DelayedSince()
	e.dirty = e.dirty || busy || e.facts.Target > e.facts.Least || !since.IsZero() || !since.Equal(e.savedDelay) // the memory can still change a decision
	if e.next = now.Add(idlePeriod); busy || e.facts.Starting > 0 || e.last.Replicas != e.facts.Target {
		e.next = now.Add(busyPeriod)
	}
	if at := e.last.Next; !at.IsZero() && at.Before(e.next) {
		e.next = at
	}
	return change{e, of.Deployment, of.Wanted, e.last}, e.last.Replicas != e.facts.Target
}

// The time from the last replica that was taken over until the number may grow, in which their queue is worked off, and the longest time of the whole.
const (
	afterTakeover   = time.Second
	longestTakeover = 10 * time.Second
)

// takenOver says that replicas of the node before are being taken over, or were a moment ago. The calls that have waited meanwhile are no sign of a load that needs more. For example, a node with
// 4 replicas is started again: each has its calls within a second, and 200 calls that came in that time would ask for 10 replicas.
func (e *scaled) takenOver(now time.Time, recovering int) bool {
	if recovering == 0 {
		return !e.recovered.IsZero() && now.Sub(e.recovered) < afterTakeover
	}
	if e.recovering.IsZero() {
		e.recovering = now
	}
	if now.Sub(e.recovering) >= longestTakeover {
		return false
	}
	e.recovered = now
	return true
}

// sample counts the calls that wait and run, and the replicas that get calls. Replicas that drain are not among them. The calls of unready ones count, so that the totals do not jump when a
// replica is ready again. For example, a replica that has executed 1000 calls in its life fails its readiness check for a second: its 1000 calls have not come in the moment after that.
func sample(d *serving.Deployment, unready []router.Replica) (load autoscale.Load, ready int) {
	replicas := d.Router.Replicas()
	add := func(r router.Replica) {
		running, started := serving.Flow(r)
		load.Running += running
		load.Arrived += started
		load.Finished += started - min(uint64(running), started)
	}
	for _, r := range replicas {
		add(r)
	}
	for _, r := range unready {
		if !slices.Contains(replicas, r) { // its router may know later that it is unready
			add(r)
		}
	}
	load.Queued = d.Router.Queued()
	load.Arrived += uint64(load.Queued) + d.Router.Rejected()
	return load, len(replicas)
}

// carryOut has the replicas follow a decision. A deploy that has come meanwhile is stronger: the scaler decides anew.
func (s *Scaler) carryOut(c change) {
	d, f := c.decision, s.set.Fleet
	record := store.Scale{Replicas: d.Replicas, By: store.ByAutoscaler, Reason: d.Reason(), At: s.set.Now().UTC().Round(0)}
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if c.of.Asked != c.from || !c.of.FollowsLoadLocked() {
		return
	}
	s.mu.Lock()
	decision := helvetype.ScalingDecision{At: record.At, From: d.Inputs.Replicas, To: d.Replicas, Reason: record.Reason}
	if c.policy != "" {
		decision.Policy = c.asked // that of the application, too
	}
	c.keep(decision)
	s.mu.Unlock()
	c.of.ScaleByLoadLocked(record, fleet.ScaleInputs(d))
	s.records.put(c.of)
}

// keep adds a change of the number to the memory.
func (e *scaled) keep(c helvetype.ScalingDecision) {
	all := &e.memory.Decisions
	*all = append(*all, c)
	if extra := len(*all) - decisionsKept; extra > 0 {
		*all = slices.Clone((*all)[extra:])
	}
	e.dirty = true
}

// RenumberedLocked notes a change of the number of a deployment that another part of the node has made. For example, a deploy has set initial_replicas.
func (s *Scaler) RenumberedLocked(d *fleet.Deployment, c helvetype.ScalingDecision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, e := s.set.Now(), s.scaled[d]
	if e == nil {
		e = s.begin(now, d)
	}
	e.memory.State.Set(now, c.From, c.To)
	e.keep(c)
	s.records.put(d)
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
	least, most := e.facts.Least, e.facts.Most
	if raw := d.Now.Definition.Options.AutoscalingConfig; string(raw) != e.raw { // it has just changed, and the next look has it
		if c, err := autoscale.Parse(raw); err == nil {
			least, most = d.BoundsLocked(c)
		}
	}
	load, at := e.memory.State.Last()
	of := &helvetype.Autoscaling{
		Target: d.Wanted, Desired: e.last.Desired, Least: least, Most: most, Blocked: e.last.Blocked, Reason: e.reason, Calls: e.last.Inputs.Calls,
		TargetOngoing: e.config.Target, Queued: load.Queued, Running: load.Running, SampledAt: at, LastUp: e.memory.State.LastUp, LastDown: e.memory.State.LastDown,
		Policy: e.config.Policy.Function, Health: helvetype.AutoscalingHealthy, Decisions: slices.Clone(e.memory.Decisions),
	}
	e.describePolicy(of)
	return of
}
