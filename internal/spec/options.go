// Package spec is the plain data of applications and deployments: what was asked for, with its defaults and checks, and
// what runs. Names are the reference's. It imports the standard library only.
package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Isolation says where the replicas of a Go deployment live.
type Isolation string

// The places.
const (
	InNode  Isolation = "node"
	Process Isolation = "process"
	// Socket and Pipe are Process without the process, for tests: the worker is a goroutine in the node's, and what connects
	// them is a socket pair or, for fake time, a pair of pipes in memory. They are for whole systems, not for options.
	Socket Isolation = "socket"
	Pipe   Isolation = "pipe"
)

// Source says where the value of an option came from.
type Source string

// The sources, weakest first.
const (
	FromDefault Source = "default"
	FromCode    Source = "code"
	FromFile    Source = "file"
)

// Options of a deployment, as somebody set them: nil and "" stand for the default.
type Options struct {
	NumReplicas              *int
	MaxOngoingRequests       *int
	MaxQueuedRequests        *int
	GracefulShutdownTimeout  *time.Duration
	GracefulShutdownWaitLoop *time.Duration
	HealthCheckPeriod        *time.Duration
	HealthCheckTimeout       *time.Duration
	ConstructTimeout         *time.Duration
	MaxConstructorRetries    *int
	UserConfig               json.RawMessage
	RequestRouter            *RequestRouter
	Isolation                Isolation
	Version                  string
	Default                  string
	StrictCodec              bool
	Env                      map[string]string
	Dir                      string
	Limits                   Limits
	UnresponsiveAfter        *time.Duration
	MaxUnresponsive          *time.Duration
	RoutingStatsPeriod       *time.Duration
	RoutingStatsTimeout      *time.Duration
}

// RequestRouter says how the router of a deployment picks replicas.
type RequestRouter struct {
	Policy           Policy `json:"policy"`
	VirtualNodes     *int   `json:"virtual_nodes,omitempty"`     // of ConsistentHash
	FallbackReplicas *int   `json:"fallback_replicas,omitempty"` // of ConsistentHash
}

// Policy names a way of picking.
type Policy string

// The policies. Custom is one that the deployment's own code brings.
const (
	PowerOfTwo     Policy = "power_of_two_choices"
	RoundRobin     Policy = "round_robin"
	ConsistentHash Policy = "consistent_hash"
	Custom         Policy = "custom"
)

// Effective are options with every default filled in; Sources has an entry per option, by its name in Python and in messages.
type Effective struct {
	NumReplicas              int
	MaxOngoingRequests       int
	MaxQueuedRequests        int // -1 for no limit
	GracefulShutdownTimeout  time.Duration
	GracefulShutdownWaitLoop time.Duration
	HealthCheckPeriod        time.Duration
	HealthCheckTimeout       time.Duration
	ConstructTimeout         time.Duration
	MaxConstructorRetries    int
	UserConfig               json.RawMessage // nil for none
	RequestRouter            RequestRouter
	Isolation                Isolation
	Version                  string
	Default                  string
	StrictCodec              bool
	Env                      map[string]string
	Dir                      string
	Limits                   Limits
	UnresponsiveAfter        time.Duration
	MaxUnresponsive          time.Duration // 0 for never
	RoutingStatsPeriod       time.Duration
	RoutingStatsTimeout      time.Duration
	Sources                  map[string]Source
}

// Effective fills in the defaults. They are the reference's (ray.serve.deployment; control-plane.md), which has none for
// the time of a constructor: that one is long enough for models of tens of gigabytes.
func (o Options) Effective() Effective {
	e := Effective{
		NumReplicas: 1, MaxOngoingRequests: 5, MaxQueuedRequests: -1,
		GracefulShutdownTimeout: 20 * time.Second, GracefulShutdownWaitLoop: 2 * time.Second,
		HealthCheckPeriod: 10 * time.Second, HealthCheckTimeout: 30 * time.Second,
		ConstructTimeout: 20 * time.Minute, MaxConstructorRetries: 20,
		UserConfig: o.UserConfig, RequestRouter: RequestRouter{Policy: PowerOfTwo},
		Isolation: InNode, Version: o.Version, Default: o.Default, StrictCodec: o.StrictCodec,
		Env: o.Env, Dir: o.Dir, Limits: o.Limits, UnresponsiveAfter: 5 * time.Second,
		RoutingStatsPeriod: 10 * time.Second, RoutingStatsTimeout: 30 * time.Second,
		Sources: map[string]Source{},
	}
	pick(&e.NumReplicas, o.NumReplicas, e.Sources, "num_replicas")
	pick(&e.MaxOngoingRequests, o.MaxOngoingRequests, e.Sources, "max_ongoing_requests")
	pick(&e.MaxQueuedRequests, o.MaxQueuedRequests, e.Sources, "max_queued_requests")
	pick(&e.GracefulShutdownTimeout, o.GracefulShutdownTimeout, e.Sources, "graceful_shutdown_timeout_s")
	pick(&e.GracefulShutdownWaitLoop, o.GracefulShutdownWaitLoop, e.Sources, "graceful_shutdown_wait_loop_s")
	pick(&e.HealthCheckPeriod, o.HealthCheckPeriod, e.Sources, "health_check_period_s")
	pick(&e.HealthCheckTimeout, o.HealthCheckTimeout, e.Sources, "health_check_timeout_s")
	pick(&e.ConstructTimeout, o.ConstructTimeout, e.Sources, "construct_timeout_s")
	pick(&e.MaxConstructorRetries, o.MaxConstructorRetries, e.Sources, "max_constructor_retry_count")
	pick(&e.RequestRouter, o.RequestRouter, e.Sources, "request_router")
	pick(&e.UnresponsiveAfter, o.UnresponsiveAfter, e.Sources, "unresponsive_after_s")
	pick(&e.MaxUnresponsive, o.MaxUnresponsive, e.Sources, "max_unresponsive_s")
	pick(&e.RoutingStatsPeriod, o.RoutingStatsPeriod, e.Sources, "request_routing_stats_period_s")
	pick(&e.RoutingStatsTimeout, o.RoutingStatsTimeout, e.Sources, "request_routing_stats_timeout_s")
	for name, set := range map[string]bool{
		"user_config": o.UserConfig != nil, "isolation": o.Isolation != "", "version": o.Version != "",
		"default": o.Default != "", "strict_codec": o.StrictCodec,
		"env_vars": len(o.Env) > 0, "working_dir": o.Dir != "", "limits": o.Limits != Limits{},
	} {
		e.Sources[name] = FromDefault
		if set {
			e.Sources[name] = FromCode
		}
	}
	if o.Isolation != "" {
		e.Isolation = o.Isolation
	}
	return e
}

func pick[T any](into, set *T, sources map[string]Source, name string) {
	sources[name] = FromDefault
	if set != nil {
		*into, sources[name] = *set, FromCode
	}
}

// MaxReplicas bounds num_replicas, so that a slip of the keyboard does not start a million processes.
const MaxReplicas = 100_000

// MaxDuration bounds all times: what says "never", and can still be added to the time of the day and travel as seconds.
const MaxDuration = 100 * 365 * 24 * time.Hour

// Validate lists what is out of range, by the option's name in Python and in messages.
func (o Options) Validate() []error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	number := func(name string, v *int, least, most int) {
		switch {
		case v == nil:
		case *v < least:
			wrong("%s: must be at least %d, is %d", name, least, *v)
		case *v > most:
			wrong("%s: must be at most %d, is %d", name, most, *v)
		}
	}
	number("num_replicas", o.NumReplicas, 1, MaxReplicas)
	number("max_ongoing_requests", o.MaxOngoingRequests, 1, 1<<30)
	if q := o.MaxQueuedRequests; q != nil && *q != -1 && *q < 1 {
		wrong("max_queued_requests: must be -1 (no limit) or at least 1, is %d", *q)
	}
	number("max_constructor_retry_count", o.MaxConstructorRetries, 1, math.MaxInt)
	duration := func(name string, v *time.Duration, positive bool) {
		switch {
		case v == nil:
		case *v < 0:
			wrong("%s: must not be negative, is %s", name, *v)
		case *v == 0 && positive:
			wrong("%s: must be more than 0", name)
		case *v > MaxDuration:
			wrong("%s: must be at most %.0f seconds (100 years), is %.0f", name, MaxDuration.Seconds(), v.Seconds())
		}
	}
	duration("graceful_shutdown_timeout_s", o.GracefulShutdownTimeout, false)
	duration("graceful_shutdown_wait_loop_s", o.GracefulShutdownWaitLoop, false)
	duration("health_check_period_s", o.HealthCheckPeriod, true)
	duration("health_check_timeout_s", o.HealthCheckTimeout, true)
	duration("construct_timeout_s", o.ConstructTimeout, true)
	if o.UserConfig != nil && !json.Valid(o.UserConfig) {
		wrong("user_config: is not JSON")
	}
	if r := o.RequestRouter; r != nil {
		switch r.Policy {
		case PowerOfTwo, RoundRobin, ConsistentHash, Custom:
		default:
			wrong("request_router: policy must be %s, %s or %s, is %q", PowerOfTwo, RoundRobin, ConsistentHash, r.Policy)
		}
		number("request_router: virtual_nodes", r.VirtualNodes, 1, 100_000)
		number("request_router: fallback_replicas", r.FallbackReplicas, 0, MaxReplicas)
	}
	duration("unresponsive_after_s", o.UnresponsiveAfter, true)
	duration("max_unresponsive_s", o.MaxUnresponsive, false)
	duration("request_routing_stats_period_s", o.RoutingStatsPeriod, true)
	duration("request_routing_stats_timeout_s", o.RoutingStatsTimeout, true)
	errs = append(errs, o.validateProcess()...)
	if o.Isolation != "" && o.Isolation != InNode && o.Isolation != Process {
		wrong("isolation: must be %s or %s, is %q", InNode, Process, o.Isolation)
	}
	return errs
}

// optionsJSON has the reference's names, and durations in seconds.
type optionsJSON struct {
	NumReplicas              *int            `json:"num_replicas,omitempty"`
	MaxOngoingRequests       *int            `json:"max_ongoing_requests,omitempty"`
	MaxQueuedRequests        *int            `json:"max_queued_requests,omitempty"`
	GracefulShutdownTimeout  *seconds        `json:"graceful_shutdown_timeout_s,omitempty"`
	GracefulShutdownWaitLoop *seconds        `json:"graceful_shutdown_wait_loop_s,omitempty"`
	HealthCheckPeriod        *seconds        `json:"health_check_period_s,omitempty"`
	HealthCheckTimeout       *seconds        `json:"health_check_timeout_s,omitempty"`
	ConstructTimeout         *seconds        `json:"construct_timeout_s,omitempty"`
	MaxConstructorRetries    *int            `json:"max_constructor_retry_count,omitempty"`
	UserConfig               json.RawMessage `json:"user_config,omitempty"`
	RequestRouter            *RequestRouter  `json:"request_router,omitempty"`
	Isolation                Isolation       `json:"isolation,omitempty"`
	Version                  string          `json:"version,omitempty"`
	Default                  string          `json:"default,omitempty"`
	StrictCodec              bool            `json:"strict_codec,omitempty"`
	RuntimeEnv               *runtimeEnv     `json:"runtime_env,omitempty"`
	Limits                   Limits          `json:"limits,omitzero"`
	UnresponsiveAfter        *seconds        `json:"unresponsive_after_s,omitempty"`
	MaxUnresponsive          *seconds        `json:"max_unresponsive_s,omitempty"`
	RoutingStatsPeriod       *seconds        `json:"request_routing_stats_period_s,omitempty"`
	RoutingStatsTimeout      *seconds        `json:"request_routing_stats_timeout_s,omitempty"`
}

// runtimeEnv has the keys that the reference's has and that mean something here.
type runtimeEnv struct {
	EnvVars    map[string]string `json:"env_vars,omitempty"`
	WorkingDir string            `json:"working_dir,omitempty"`
}

// MarshalJSON writes the reference's names, durations in seconds.
func (o Options) MarshalJSON() ([]byte, error) {
	var env *runtimeEnv
	if len(o.Env) > 0 || o.Dir != "" {
		env = &runtimeEnv{o.Env, o.Dir}
	}
	return json.Marshal(optionsJSON{
		o.NumReplicas, o.MaxOngoingRequests, o.MaxQueuedRequests, (*seconds)(o.GracefulShutdownTimeout),
		(*seconds)(o.GracefulShutdownWaitLoop), (*seconds)(o.HealthCheckPeriod), (*seconds)(o.HealthCheckTimeout),
		(*seconds)(o.ConstructTimeout), o.MaxConstructorRetries, o.UserConfig, o.RequestRouter, o.Isolation, o.Version,
		o.Default, o.StrictCodec, env, o.Limits, (*seconds)(o.UnresponsiveAfter), (*seconds)(o.MaxUnresponsive),
		(*seconds)(o.RoutingStatsPeriod), (*seconds)(o.RoutingStatsTimeout),
	})
}

// UnmarshalJSON reads what MarshalJSON writes; an unknown option is an error that names it.
func (o *Options) UnmarshalJSON(b []byte) error {
	var j optionsJSON
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return fmt.Errorf("options: %w", err)
	}
	if j.RuntimeEnv == nil {
		j.RuntimeEnv = &runtimeEnv{}
	}
	*o = Options{
		j.NumReplicas, j.MaxOngoingRequests, j.MaxQueuedRequests, (*time.Duration)(j.GracefulShutdownTimeout),
		(*time.Duration)(j.GracefulShutdownWaitLoop), (*time.Duration)(j.HealthCheckPeriod),
		(*time.Duration)(j.HealthCheckTimeout), (*time.Duration)(j.ConstructTimeout), j.MaxConstructorRetries,
		j.UserConfig, j.RequestRouter, j.Isolation, j.Version, j.Default, j.StrictCodec,
		j.RuntimeEnv.EnvVars, j.RuntimeEnv.WorkingDir, j.Limits, (*time.Duration)(j.UnresponsiveAfter),
		(*time.Duration)(j.MaxUnresponsive), (*time.Duration)(j.RoutingStatsPeriod), (*time.Duration)(j.RoutingStatsTimeout),
	}
	return nil
}

// seconds is a duration as files have it.
type seconds time.Duration

func (s seconds) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

func (s *seconds) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	ns := f * float64(time.Second)
	switch {
	case ns >= math.MaxInt64: // Validate, which knows the option's name, refuses it
		*s = math.MaxInt64
	case ns <= math.MinInt64:
		*s = math.MinInt64
	default:
		*s = seconds(ns)
	}
	return nil
}
