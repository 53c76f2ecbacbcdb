package helve

import (
	"reflect"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/wire"
)

// Routing says how a deployment's router picks replicas: [PowerOfTwoChoices] (the default), [RoundRobin], [ConsistentHash]
// or [CustomRouting]. It is sealed.
type Routing interface {
	routing() (spec.Policy, func() router.Policy)
}

// PowerOfTwoChoices sends a call to the less loaded of two replicas drawn at random; before those it tries replicas that
// have the call's model, else those of its session, else those of its node if the handle prefers them.
type PowerOfTwoChoices struct{}

// RoundRobin sends calls to the replicas in turn, and past full ones. It looks at no model, session or node.
type RoundRobin struct{}

// ConsistentHash sends the calls of one session to one replica, when that is full to the ones that follow on the ring, and
// waits for one of those when all are full. Calls without a session go anywhere.
type ConsistentHash struct {
	VirtualNodes *int // points on the ring per replica; default 100
	Fallbacks    *int // replicas that follow the owner of a session; default 2
}

func (PowerOfTwoChoices) routing() (spec.Policy, func() router.Policy) {
	return spec.PowerOfTwo, nil
}

func (RoundRobin) routing() (spec.Policy, func() router.Policy) {
	return spec.RoundRobin, nil
}

func (ConsistentHash) routing() (spec.Policy, func() router.Policy) {
	return spec.ConsistentHash, nil
}

// RoutingPolicy is a way of picking of your own.
type RoutingPolicy interface {
	// Rank appends to ranks the indexes in replicas of the replicas for the call, the best first, and returns it. For example,
	// with three replicas [2 0] sends the call to the third, and to the first if the third is full. An index out of range is
	// skipped. If only is true, the call waits for one of the ranked replicas. If only is false, or no index is in range, the
	// other replicas follow by power of two choices. Rank is called on the goroutine of the call, concurrently, perhaps more than
	// once for a call, and must not block. If it panics, the call goes to any replica.
	Rank(c RoutedCall, replicas []ReplicaView, ranks []int) (_ []int, only bool)
}

// RoutedCall describes a call to a policy. [InputOf] returns its input.
type RoutedCall struct {
	// Method, Model, Session and RequestID are the name of the method, the ids that the options [ModelID] and [SessionID] gave
	// to the call, and the id of its request. Model and Session are empty for calls without them.
	Method, Model, Session, RequestID string

	call *call.Call
}

// InputOf returns the input of a call, for policies that look at it. ok is false if the input is not an In. For a call that was made
// in the node's process it costs nothing: the input is the caller's value, and must not be changed. The input of any other call
// is decoded each time.
func InputOf[In any](c RoutedCall) (in In, ok bool) {
	if c.call == nil {
		return in, false
	}
	if c.call.Encoded.Table == nil && len(c.call.Slots) == 1 && c.call.Slots[0].Codec == call.Native {
		v := c.call.Slots[0].Value
		if args, python := v.(call.Args); python {
			v = Args(args)
		}
		in, ok = v.(In)
		return in, ok
	}
	slots := c.call.Slots
	if c.call.Encoded.Table != nil {
		slots = wire.Slots(c.call.Encoded)
	}
	m := instance.Method{Name: c.Method, In: reflect.TypeFor[In]()}
	v, e := m.Decode(graph.Codec, slots)
	if e != nil {
		return in, false
	}
	in, ok = v.(In)
	return in, ok
}

// ReplicaView describes a replica to a policy.
type ReplicaView struct{ r router.Replica }

// ID is the replica's id.
func (v ReplicaView) ID() string { return v.r.ID() }

// Node is where it runs.
func (v ReplicaView) Node() string { return v.r.Node() }

// Ongoing is how many calls it executes now, of all callers, with the slots that are reserved.
func (v ReplicaView) Ongoing() int { return v.r.Gate().Load() }

// Max is how many it may execute at a time.
func (v ReplicaView) Max() int { return serving.BaseOf(v.r).Slots().Max() }

// Models are the ids of the models that it has or is loading ([NewModels]). The slice must not be changed.
func (v ReplicaView) Models() []string { return serving.BaseOf(v.r).Models() }

// Stats returns the last values of the replica's [RoutingReporter], as JSON has them (integers are int64), and their time. It is nil
// before the first values. The map must not be changed.
func (v ReplicaView) Stats() (stats map[string]any, at time.Time) {
	if s := serving.BaseOf(v.r).Stats(); s != nil {
		return s.Values, s.At
	}
	return nil, time.Time{}
}

// CustomRouting has policies that make makes: one for each router. A nil make is a mistake that [Run] returns.
func CustomRouting(make func() RoutingPolicy) Routing { return custom{make} }

type custom struct{ make func() RoutingPolicy }

func (c custom) routing() (spec.Policy, func() router.Policy) {
	if c.make == nil {
		return spec.Custom, nil
	}
	return spec.Custom, func() router.Policy {
		p := c.make()
		if p == nil {
			return nil
		}
		return &policy{of: p}
	}
}

// policy is a RoutingPolicy as the router knows it.
type policy struct {
	of    RoutingPolicy
	views atomic.Pointer[viewed]
}

// Rank implements router.Policy.
func (p *policy) Rank(c *call.Info, set []router.Replica, ranks []int) (places []int, only bool) {
	views := p.views.Load()
	if views == nil || len(set) == 0 || views.of != &set[0] {
		views = &viewed{all: make([]ReplicaView, len(set))}
		for i, r := range set {
			views.all[i] = ReplicaView{r}
		}
		if len(set) > 0 {
			views.of = &set[0]
			p.views.Store(views)
		}
	}
	rc := RoutedCall{Method: c.Method, RequestID: c.Request.String()}
	if c.Affinity != nil {
		rc.Model, rc.Session, rc.call = c.Affinity.Model, c.Affinity.Session, c.Affinity.Of
	}
	// Rank runs on a goroutine of its own, because this goroutine may be the reader of a connection.
	if call.Enclose(func() { places, only = p.of.Rank(rc, views.all, ranks) }) != nil {
		return nil, false
	}
	return places, only
}

// viewed has the views of one set of replicas.
type viewed struct {
	of  *router.Replica // the set's first element: each set has a slice of its own
	all []ReplicaView
}
