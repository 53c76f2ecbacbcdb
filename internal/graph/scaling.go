package graph

import (
	"context"
	"encoding/json"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/policy"
)

// Scaling are the autoscaling policies of the program's own, by the names of their deployments; that of the application has the name "".
func (a *App) Scaling() map[string]policy.Policy {
	all := map[string]policy.Policy{}
	for _, d := range a.deployments {
		if d.Scaling != nil {
			all[d.Name] = ofDeployment(d.Scaling)
		}
	}
	if a.Together != nil {
		all[""] = ofApplication{a.Together}
	}
	return all
}

// Served are the same policies with the names of their functions, for a process that answers for them.
func (a *App) Served() map[string]policy.Served {
	names := map[string]json.Marshaler{"": a.Together}
	for _, d := range a.deployments {
		names[d.Name] = d.Scaling
	}
	all := map[string]policy.Served{}
	for name, p := range a.Scaling() {
		raw, err := names[name].MarshalJSON() // as the graph has it
		if err != nil {
			continue // Seal has found the mistake
		}
		of, err := autoscale.ParsePolicy(raw)
		if err == nil {
			all[name] = policy.Served{Name: of.Function, Policy: p}
		}
	}
	return all
}

func ofDeployment(p *helvetype.AutoscalingPolicy) policy.Func {
	return func(ctx context.Context, v policy.View) (policy.Answer, error) {
		replicas, state, err := p.Ask(ctx, seen(v))
		return policy.Answer{Replicas: replicas, State: state}, err
	}
}

// ofApplication asks a policy for all deployments at once.
type ofApplication struct{ p *helvetype.ApplicationPolicy }

// Ask implements [policy.Policy].
func (o ofApplication) Ask(ctx context.Context, views []policy.View) (map[string]policy.Answer, error) {
	return policy.Together(func(views []policy.View) (map[string]policy.Answer, error) {
		all := make([]helvetype.AutoscalingView, len(views))
		for i, v := range views {
			all[i] = seen(v)
		}
		replicas, states, err := o.p.Ask(ctx, all)
		answers := map[string]policy.Answer{}
		for name, n := range replicas {
			answers[name] = policy.Answer{Replicas: n, State: states[name]}
		}
		return answers, err
	}, views)
}

func seen(v policy.View) helvetype.AutoscalingView {
	return helvetype.AutoscalingView{
		App: v.App, Deployment: v.Deployment, Replicas: v.Current, Running: v.Running, Target: v.Target, Calls: v.Total, Queued: v.Queued, Metrics: v.Aggregated,
		Least: v.Least, Most: v.Most, LastUp: v.LastUp.Time(), LastDown: v.LastDown.Time(), Now: v.Now.Time(), State: v.State,
	}
}
