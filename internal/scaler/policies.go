package scaler

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/policy"
)

// together is the name of a policy of an application, in the place of that of a deployment.
const together = "/"

// unanswered holds a number whose policy has not answered yet.
const unanswered = "its policy has not answered yet"

// advise asks the custom policy of a deployment, and puts its last answer into the facts. The policy of a deployment that has none costs nothing. While there is no
// answer the number stays, but for a call that waits for the first replica.
//
// For example, a node starts again with 4 replicas of a deployment: they stay until its policy has answered once.
func (s *Scaler) advise(now time.Time, e *scaled, of fleet.Scaled) {
	name := ""
	if of.HasPolicy {
		name = of.Policy.Deployment
		if of.Policy.Together != nil {
			name = together
		}
	}
	if e.policy != name {
		s.ending, e.policy, e.advice, e.numbers, e.failing = true, name, policy.Advice{}, nil, false
	}
	if name == "" {
		return
	}
	a := s.policies.Advise(now, of.Policy, func() policy.View { return e.view(now, of) })
	if a.State != nil && string(a.State) != string(e.memory.State.Policy) {
		e.memory.State.Policy, e.dirty = a.State, true
	}
	if e.facts.Raw = a.Replicas; a.Replicas == nil {
		load, _ := e.memory.State.Last()
		if e.facts.HoldUp == "" && (e.facts.Target > 0 || load.Queued == 0) {
			e.facts.HoldUp = unanswered
		}
		if e.facts.HoldDown == "" {
			e.facts.HoldDown = unanswered
		}
	}
	s.report(e, of, a)
	e.advice, e.asked = a, of.Policy.Name()
}

// policySettings are those of the policies of the node.
func (s *Scaler) policySettings() policy.SetSettings {
	line := func(app, text string) { s.set.Log.Info(text, "app", app, "from", "autoscaling policy") }
	return policy.SetSettings{Changed: s.Wake, Line: line, Scrub: s.set.Scrub}
}

// LoadPolicies implements [fleet.Autoscaler].
func (s *Scaler) LoadPolicies(ctx context.Context, all []policy.Source) error {
	return policy.Load(ctx, all, s.policySettings())
}

// view is a deployment as its policy sees it.
func (e *scaled) view(now time.Time, of fleet.Scaled) policy.View {
	state, load := &e.memory.State, autoscale.Load{}
	load, _ = state.Last()
	v := policy.View{
		App: e.app, Deployment: e.name, Current: len(of.Running), Target: e.facts.Target, Running: of.Running, Total: state.Calls(now, e.config), Queued: float64(load.Queued),
		Least: e.facts.Least, Most: e.facts.Most, State: state.Policy, LastUp: policy.At(state.LastUp), LastDown: policy.At(state.LastDown), Now: policy.At(now), Config: of.Config,
	}
	period := autoscale.DefaultLookBack
	if e.config.LookBack != nil {
		period = *e.config.LookBack
	}
	v.Aggregated, v.Raw = of.Deployment.Numbers.View(now, period, e.config.Aggregation, of.Running)
	e.numbers = v.Aggregated
	return v
}

// report makes an event of the first failure in a row, and of the end of failures. Status has the newest failure.
//
// For example, a policy hangs: it is late, then its call before has not returned, then its process ends, and all begins anew. These failures are one event until the policy answers.
func (s *Scaler) report(e *scaled, of fleet.Scaled, a policy.Advice) {
	if failing := a.Failure != nil; failing == e.failing {
		return
	}
	e.failing = a.Failure != nil
	inputs := map[string]string{"policy": of.Policy.Name()}
	if !e.failing {
		s.notes = append(s.notes, note{of.Deployment, "policy_answers", "its autoscaling policy answers again", inputs})
		return
	}
	if failed, ok := errors.AsType[*policy.Error](a.Failure.Err); ok && failed.Traceback != "" {
		inputs["traceback"] = failed.Traceback
	}
	holds := "its autoscaling policy has no answer, and the last one holds: "
	if a.Replicas == nil {
		holds = "its autoscaling policy has not answered yet, so the number of replicas stays: "
	}
	s.notes = append(s.notes, note{of.Deployment, "policy_failed", holds + a.Failure.Err.Error(), inputs})
}

// note is an event to come: Scaler.mu is held while a deployment is looked at, and the fleet's lock comes before it.
type note struct {
	of              *fleet.Deployment
	reason, message string
	inputs          map[string]string
}

// flush makes the events.
func (s *Scaler) flush() {
	s.mu.Lock()
	notes := s.notes
	s.notes = nil
	s.mu.Unlock()
	for _, n := range notes {
		s.set.Log.Warn(n.message, "app", n.of.App.Name, "deployment", n.of.Name)
		s.set.Fleet.Mu.Lock()
		n.of.NoteAutoscalingLocked(n.reason, n.message, n.inputs)
		s.set.Fleet.Mu.Unlock()
	}
}

// describePolicy adds the policy of a deployment to its description.
func (e *scaled) describePolicy(d *helvetype.Autoscaling) {
	if e.policy == "" {
		return
	}
	a := e.advice
	if d.Policy, d.PolicyTook = e.asked, a.Took; e.policy == together {
		d.PolicyScope = "application"
	}
	for name, of := range e.numbers {
		if d.Metrics == nil {
			d.Metrics = map[string]float64{}
		}
		for _, id := range slices.Sorted(maps.Keys(of)) {
			d.Metrics[name] += of[id]
		}
	}
	if a.Replicas == nil && e.last.Rule != autoscale.RuleColdStart { // the load has not decided
		d.Reason, d.Blocked = unanswered, unanswered
	}
	if a.Failure == nil {
		return
	}
	text := a.Failure.Err.Error()
	if failed, ok := errors.AsType[*policy.Error](a.Failure.Err); ok && strings.Contains(failed.Traceback, "File \"") { // else it has no frame of the user's code
		text += "\n" + failed.Traceback
	}
	d.Errors, d.PolicyFailedSince = append(d.Errors, text), a.Failure.Since
	d.Health = helvetype.AutoscalingDelayed
	if a.Replicas == nil {
		d.Health = helvetype.AutoscalingUnavailable
	}
}

// endPolicies ends the policies of deployments that are gone, or have another one.
func (s *Scaler) endPolicies() {
	s.mu.Lock()
	ending := s.ending
	s.ending = false
	there := map[[2]string]bool{}
	for _, e := range s.scaled {
		if e.policy != "" {
			there[[2]string{e.app, strings.TrimPrefix(e.policy, together)}] = true
		}
	}
	s.mu.Unlock()
	if ending {
		s.policies.Keep(func(app, name string) bool { return there[[2]string{app, name}] })
	}
}
