package helvetype

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"time"
)

// AutoscalingView is a deployment as an autoscaling policy in Go sees it.
type AutoscalingView struct {
	// App is the name of its application, and Deployment its own.
	App, Deployment string
	// Replicas is the number of replicas that run.
	Replicas int
	// Running has the ids of the replicas that run.
	Running []string
	// Target is the number of replicas that the deployment should have.
	Target int
	// Calls is the number of its calls, those that run and those that wait, over the look-back period.
	Calls float64
	// Queued is the number of calls that wait now.
	Queued float64
	// Metrics are the numbers that the replicas report (AutoscalingStats), by name and replica, over the look-back period.
	Metrics map[string]map[string]float64
	// Least and Most are the bounds under the target capacity. They are applied to the answer: a policy need not.
	Least, Most int
	// LastUp and LastDown are the times of the last changes of the number; zero for none. Now is the present time.
	LastUp, LastDown, Now time.Time
	// State is the state of the answer before, as JSON; nil for none. A policy of [PolicyWithState] gets it as a value.
	State json.RawMessage
}

// AutoscalingPolicy is a policy in Go for one deployment: the field Policy of [AutoscalingOptions]. [Policy] and [PolicyWithState] make one.
type AutoscalingPolicy struct {
	name string
	ask  func(ctx context.Context, v AutoscalingView) (replicas float64, state json.RawMessage, err error)
	// Timeout is how long an answer may take. Default 10 s. The last answer holds while a policy is late; ctx has ended then, and the policy is not asked again before it has returned.
	Timeout time.Duration
}

// Policy makes a policy of a function, which returns the number of replicas that the deployment needs: 0 or more, and not always whole. One question is under way at a time. The function
// runs in the node, on a goroutine of its own; of an application of another executable (exec:) it runs in a process of that. A panic is an error. After an error the last answer holds. For example, a replica for each 5000 tokens that wait:
//
//	func byTokens(ctx context.Context, v helvetype.AutoscalingView) (float64, error) {
//		var tokens float64
//		for _, n := range v.Metrics["tokens"] {
//			tokens += n
//		}
//		return tokens / 5000, nil
//	}
//
//	helve.Options{Autoscaling: &helvetype.AutoscalingOptions{MaxReplicas: 8, Policy: helvetype.Policy(byTokens)}}
func Policy(f func(ctx context.Context, v AutoscalingView) (replicas float64, err error)) *AutoscalingPolicy {
	return &AutoscalingPolicy{name: nameOf(f), ask: func(ctx context.Context, v AutoscalingView) (float64, json.RawMessage, error) {
		n, err := f(ctx, v)
		return n, nil, err
	}}
}

// PolicyWithState is [Policy] for a function with a state: it gets the state of its answer before, the zero value at first, and returns the next one, which is kept as JSON over restarts of a
// durable node. A state that does not fit S any more begins anew. For example, a policy that goes up at once, and down after five answers in a row that are lower:
//
//	func patient(ctx context.Context, v helvetype.AutoscalingView, lower int) (float64, int, error) {
//		need := v.Calls / 4
//		if need >= float64(v.Target) || lower == 5 {
//			return need, 0, nil
//		}
//		return float64(v.Target), lower + 1, nil
//	}
//
//	helvetype.PolicyWithState(patient)
func PolicyWithState[S any](f func(ctx context.Context, v AutoscalingView, state S) (replicas float64, next S, err error)) *AutoscalingPolicy {
	return &AutoscalingPolicy{name: nameOf(f), ask: func(ctx context.Context, v AutoscalingView) (float64, json.RawMessage, error) {
		n, next, err := f(ctx, v, stateOf[S](v))
		if err != nil {
			return 0, nil, err
		}
		state, err := json.Marshal(next)
		return n, state, err
	}}
}

// Ask asks the policy, as a node does. State is nil for a policy without one.
func (p *AutoscalingPolicy) Ask(ctx context.Context, v AutoscalingView) (replicas float64, state json.RawMessage, err error) {
	return p.ask(ctx, v)
}

// MarshalJSON writes the name of the function and its time, as the field policy of an autoscaling_config has them.
func (p *AutoscalingPolicy) MarshalJSON() ([]byte, error) { return policyJSON(p.name, p.Timeout) }

// ApplicationPolicy is a policy in Go for all deployments of an application that scale by themselves ([PolicyOfAll]).
type ApplicationPolicy struct {
	name string
	ask  func(ctx context.Context, views []AutoscalingView) (replicas map[string]float64, states map[string]json.RawMessage, err error)
	// Timeout is as in [AutoscalingPolicy].
	Timeout time.Duration
}

// PolicyOfAll makes a policy for all deployments of an application, which are asked for together: [Policy] says how it runs. states has the states of the answer before, and the function returns the
// numbers of replicas and the next states, by the names of deployments. A deployment that is left out keeps its number, or its state. For example, two deployments share ten replicas:
//
//	func share(ctx context.Context, views []helvetype.AutoscalingView, _ map[string]struct{}) (map[string]float64, map[string]struct{}, error) {
//		var calls float64
//		for _, v := range views {
//			calls += v.Calls
//		}
//		replicas := map[string]float64{}
//		for _, v := range views {
//			replicas[v.Deployment] = 10 * v.Calls / max(calls, 1)
//		}
//		return replicas, nil, nil
//	}
func PolicyOfAll[S any](f func(ctx context.Context, views []AutoscalingView, states map[string]S) (replicas map[string]float64, next map[string]S, err error)) *ApplicationPolicy {
	return &ApplicationPolicy{name: nameOf(f), ask: func(ctx context.Context, views []AutoscalingView) (map[string]float64, map[string]json.RawMessage, error) {
		states := map[string]S{}
		for _, v := range views {
			if v.State != nil {
				states[v.Deployment] = stateOf[S](v)
			}
		}
		replicas, next, err := f(ctx, views, states)
		if err != nil {
			return nil, nil, err
		}
		raw := map[string]json.RawMessage{}
		for name, state := range next {
			if raw[name], err = json.Marshal(state); err != nil {
				return nil, nil, err
			}
		}
		return replicas, raw, nil
	}}
}

// Ask asks the policy, as a node does.
func (p *ApplicationPolicy) Ask(ctx context.Context, views []AutoscalingView) (replicas map[string]float64, states map[string]json.RawMessage, err error) {
	return p.ask(ctx, views)
}

// MarshalJSON writes the name of the function and its time, as an autoscaling_policy has them.
func (p *ApplicationPolicy) MarshalJSON() ([]byte, error) { return policyJSON(p.name, p.Timeout) }

// GoPolicy begins the names of policies in Go, where files and status have the import path of one in Python: "go:main.byTokens".
const GoPolicy = "go:"

const nilFunction = "nil"

func policyJSON(name string, timeout time.Duration) ([]byte, error) {
	if name == nilFunction {
		return nil, errors.New("the function of an autoscaling policy is nil")
	}
	fields := map[string]any{"policy_function": GoPolicy + name}
	if timeout > 0 {
		fields["timeout_s"] = timeout.Seconds()
	}
	return json.Marshal(fields)
}

// nameOf is the name of a function without the path of its module, such as "main.byTokens".
func nameOf(f any) string {
	v := reflect.ValueOf(f)
	if v.IsNil() {
		return nilFunction
	}
	name := runtime.FuncForPC(v.Pointer()).Name()
	name, _, _ = strings.Cut(name, "[...]")
	return name[strings.LastIndexByte(name, '/')+1:]
}

// stateOf is the state of a view; the zero value for none, and for one of another type.
func stateOf[S any](v AutoscalingView) (state S) {
	if json.Unmarshal(v.State, &state) != nil {
		var none S
		return none
	}
	return state
}
