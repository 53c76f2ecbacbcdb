package autoscale

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/internal/nearest"
)

// Aggregation is the way in which the load over the look-back period becomes one number.
type Aggregation string

// The aggregations: the mean weighted by time, the largest and the smallest load.
const (
	Mean Aggregation = "mean"
	Max  Aggregation = "max"
	Min  Aggregation = "min"
)

// Defaults of the fields of an autoscaling_config.
const (
	DefaultTarget             = 2.0
	DefaultLookBack           = 30 * time.Second
	DefaultStableWindow       = 60 * time.Second
	DefaultPanicWindow        = 6 * time.Second
	DefaultPanicThreshold     = 2.0
	DefaultTolerance          = 0.1
	DefaultMaxUpFactor        = 10.0
	DefaultMaxDownFactor      = 4.0
	DefaultUpStepsPerMinute   = 30.0
	DefaultDownStepsPerMinute = 2.0
	DefaultPolicyTimeout      = 10 * time.Second
	// DefaultPolicyFunction is the name that the reference has for the policy of this package.
	DefaultPolicyFunction = "ray.serve.autoscaling_policy:default_autoscaling_policy"
)

// Config is an autoscaling_config as it was read: each field has its default, and the four delays say whether they were set.
type Config struct {
	MinReplicas     int
	MaxReplicas     int
	InitialReplicas *int // nil: MinReplicas

	// Target is the number of calls that a replica should have: waiting and running calls together.
	Target float64

	// The delays of the reference. A delay that was set is honoured by the clock: the condition must hold for longer than it. Nil: the direction is adaptive.
	UpscaleDelay, DownscaleDelay *time.Duration
	// DownscaleToZeroDelay is for the step from one replica to none. Nil: DownscaleDelay, and adaptive without both.
	DownscaleToZeroDelay *time.Duration
	// LookBack is the period whose load counts in a direction with a delay. Nil: DefaultLookBack there. Where it is set it is the stable window of adaptive directions.
	LookBack    *time.Duration
	Aggregation Aggregation
	// UpFactor and DownFactor are gains: the share of the difference to the wanted number by which one step moves.
	UpFactor, DownFactor float64

	// The settings of adaptive directions.
	StableWindow, PanicWindow      time.Duration
	PanicThreshold                 float64 // load over Target times ready replicas, from which the last second decides: 2 is 200 %
	Tolerance                      float64 // load above target that asks for no other replica: 0.1 is 10 %
	MaxUpFactor, MaxDownFactor     float64 // one step multiplies, or divides, the number of replicas by no more than that
	UpStepsPerMin, DownStepsPerMin float64
	Policy                         Policy
	PrometheusMetrics              []string
}

// Policy is the function or class that answers instead of the load. Function is empty for none.
type Policy struct {
	Function string          // import path; empty for the policy of this package
	Kwargs   json.RawMessage // arguments of a class; nil for none
	Timeout  time.Duration   // of one answer
	// Pickled is the function or class by value, as the driver sends it; empty when it is imported. Its form is that of the driver.
	Pickled string
}

// fields are the fields of an autoscaling_config, by name.
type fields struct {
	MinReplicas          *int             `json:"min_replicas"`
	MaxReplicas          *int             `json:"max_replicas"`
	InitialReplicas      *int             `json:"initial_replicas"`
	Target               *float64         `json:"target_ongoing_requests"`
	MetricsInterval      *float64         `json:"metrics_interval_s"` // without effect
	LookBack             *float64         `json:"look_back_period_s"`
	Aggregation          *string          `json:"aggregation_function"`
	UpscaleDelay         *float64         `json:"upscale_delay_s"`
	DownscaleDelay       *float64         `json:"downscale_delay_s"`
	DownscaleToZeroDelay *float64         `json:"downscale_to_zero_delay_s"`
	UpFactor             *float64         `json:"upscaling_factor"`
	DownFactor           *float64         `json:"downscaling_factor"`
	Smoothing            *float64         `json:"smoothing_factor"`
	UpSmoothing          *float64         `json:"upscale_smoothing_factor"`
	DownSmoothing        *float64         `json:"downscale_smoothing_factor"`
	StableWindow         *float64         `json:"stable_window_s"`
	PanicWindow          *float64         `json:"panic_window_s"`
	PanicThreshold       *float64         `json:"panic_threshold"`
	Tolerance            *float64         `json:"tolerance"`
	MaxUpFactor          *float64         `json:"max_upscale_factor"`
	MaxDownFactor        *float64         `json:"max_downscale_factor"`
	UpStepsPerMinute     *float64         `json:"upscale_steps_per_minute"`
	DownStepsPerMinute   *float64         `json:"downscale_steps_per_minute"`
	Policy               *json.RawMessage `json:"policy"`
	PrometheusMetrics    []any            `json:"prometheus_metrics"`
}

// AboveZero is the least value of numbers that must be above zero.
const AboveZero = 1e-9

// Least has the number fields of an autoscaling_config with their least values. The remaining fields are aggregation_function (mean, max or min), policy (an
// object) and prometheus_metrics (a list).
var Least = map[string]float64{ //nolint:gochecknoglobals // a constant
	"min_replicas": 0, "initial_replicas": 0, "max_replicas": 1, "target_ongoing_requests": AboveZero, "metrics_interval_s": AboveZero, "look_back_period_s": AboveZero,
	"smoothing_factor": AboveZero, "upscale_smoothing_factor": AboveZero, "downscale_smoothing_factor": AboveZero, "upscaling_factor": AboveZero, "downscaling_factor": AboveZero,
	"downscale_delay_s": 0, "downscale_to_zero_delay_s": 0, "upscale_delay_s": 0,
	"stable_window_s": 1, "panic_window_s": 1, "panic_threshold": 1, "tolerance": 0, "max_upscale_factor": 1.1, "max_downscale_factor": 1.1,
	"upscale_steps_per_minute": AboveZero, "downscale_steps_per_minute": AboveZero,
}

// Others has the fields of an autoscaling_config that are no numbers.
var Others = []string{"aggregation_function", "policy", "prometheus_metrics"} //nolint:gochecknoglobals // a constant

// Parse reads an autoscaling_config. A field that is null counts as absent; names that begin with an underscore are passed over. The error says the
// first mistake in one line, without the name of the option.
func Parse(raw json.RawMessage) (Config, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil || all == nil {
		return Config{}, fmt.Errorf("must be an object, is %s", line(raw))
	}
	names := append(slices.Sorted(maps.Keys(Least)), Others...)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		least, number := Least[name]
		switch v := all[name]; {
		case strings.HasPrefix(name, "_") || string(v) == "null":
		case !number && !slices.Contains(Others, name):
			return Config{}, fmt.Errorf("%s: there is no such field%s", name, nearest.Question(name, names))
		case number:
			if err := checkNumber(name, v, least); err != nil {
				return Config{}, err
			}
		}
	}
	var f fields
	if err := json.Unmarshal(raw, &f); err != nil {
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return Config{}, fmt.Errorf("%s: must be %s, is a JSON %s", e.Field, e.Type, e.Value)
		}
		return Config{}, err
	}
	return f.config()
}

// line is a value of JSON in one line of bounded length.
func line(v json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, v) != nil {
		return "no JSON"
	}
	if s := []rune(b.String()); len(s) > 80 {
		return string(s[:77]) + "..."
	}
	return b.String()
}

func checkNumber(name string, v json.RawMessage, least float64) error {
	var n float64
	if err := json.Unmarshal(v, &n); err != nil {
		if strings.HasSuffix(name, "_replicas") {
			return fmt.Errorf("min_replicas, max_replicas and initial_replicas must be integers, %s is %s", name, line(v))
		}
		return fmt.Errorf("%s must be a number, is %s", name, line(v))
	}
	switch {
	case strings.HasSuffix(name, "_replicas") && n != math.Trunc(n):
		return fmt.Errorf("min_replicas, max_replicas and initial_replicas must be integers, %s is %s", name, line(v))
	case n < least && least == AboveZero:
		return fmt.Errorf("%s must be above 0, is %s", name, v)
	case n < least && least == 0:
		return fmt.Errorf("%s must not be negative, is %s", name, v)
	case n < least:
		return fmt.Errorf("%s must be at least %v, is %s", name, least, v)
	case n > math.MaxInt32:
		return fmt.Errorf("%s must be at most %d, is %s", name, math.MaxInt32, v)
	}
	return nil
}

func (f *fields) config() (Config, error) {
	smoothing := or(f.Smoothing, 1)
	c := Config{
		MinReplicas: or(f.MinReplicas, 1), MaxReplicas: or(f.MaxReplicas, 1), InitialReplicas: f.InitialReplicas, Target: or(f.Target, DefaultTarget),
		UpscaleDelay: seconds(f.UpscaleDelay), DownscaleDelay: seconds(f.DownscaleDelay), DownscaleToZeroDelay: seconds(f.DownscaleToZeroDelay),
		LookBack: seconds(f.LookBack), Aggregation: Aggregation(strings.ToLower(or(f.Aggregation, string(Mean)))),
		UpFactor: or(f.UpFactor, or(f.UpSmoothing, smoothing)), DownFactor: or(f.DownFactor, or(f.DownSmoothing, smoothing)),
		StableWindow: DefaultStableWindow, PanicWindow: DefaultPanicWindow, PanicThreshold: or(f.PanicThreshold, DefaultPanicThreshold),
		Tolerance: or(f.Tolerance, DefaultTolerance), MaxUpFactor: or(f.MaxUpFactor, DefaultMaxUpFactor), MaxDownFactor: or(f.MaxDownFactor, DefaultMaxDownFactor),
		UpStepsPerMin: or(f.UpStepsPerMinute, DefaultUpStepsPerMinute), DownStepsPerMin: or(f.DownStepsPerMinute, DefaultDownStepsPerMinute),
	}
	if d := seconds(f.StableWindow); d != nil {
		c.StableWindow = *d
	} else if c.LookBack != nil {
		c.StableWindow = max(*c.LookBack, time.Second)
	}
	if d := seconds(f.PanicWindow); d != nil {
		if c.PanicWindow = *d; c.PanicWindow > c.StableWindow {
			return Config{}, fmt.Errorf("panic_window_s must be at most the stable window (stable_window_s, else look_back_period_s: %s), is %s", seconds1(c.StableWindow), number(*f.PanicWindow))
		}
	}
	c.PanicWindow = min(c.PanicWindow, c.StableWindow) // the default follows a shorter stable window
	for i, m := range f.PrometheusMetrics {
		name, ok := m.(string)
		if !ok {
			return Config{}, fmt.Errorf("prometheus_metrics[%d] must be a text, is %.60v", i, m)
		}
		c.PrometheusMetrics = append(c.PrometheusMetrics, name)
	}
	switch {
	case c.MinReplicas > c.MaxReplicas:
		return Config{}, fmt.Errorf("max_replicas must be at least min_replicas (%d), is %d", c.MinReplicas, c.MaxReplicas)
	case c.InitialReplicas != nil && (*c.InitialReplicas < c.MinReplicas || *c.InitialReplicas > c.MaxReplicas):
		return Config{}, fmt.Errorf("initial_replicas must be from min_replicas (%d) to max_replicas (%d), is %d", c.MinReplicas, c.MaxReplicas, *c.InitialReplicas)
	case c.Aggregation != Mean && c.Aggregation != Max && c.Aggregation != Min:
		return Config{}, fmt.Errorf("aggregation_function must be mean, max or min, is %q", string(c.Aggregation))
	}
	return c, f.policy(&c.Policy)
}

func (f *fields) policy(p *Policy) (err error) {
	*p = Policy{Timeout: DefaultPolicyTimeout}
	if f.Policy != nil && string(*f.Policy) != "null" {
		*p, err = ParsePolicy(*f.Policy)
	}
	return err
}

// ParsePolicy reads the field policy of an autoscaling_config, and the autoscaling_policy of an application.
func ParsePolicy(raw json.RawMessage) (p Policy, err error) {
	p.Timeout = DefaultPolicyTimeout
	var in struct {
		Function *string         `json:"policy_function"`
		Kwargs   json.RawMessage `json:"policy_kwargs"`
		Timeout  *float64        `json:"timeout_s"`
		Pickled  string          `json:"_serialized_policy_def"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return p, fmt.Errorf(`policy must be an object with policy_function, policy_kwargs and timeout_s, is %s`, raw)
	}
	if in.Function != nil && !shipped(*in.Function) {
		p.Function = *in.Function
	}
	var kwargs map[string]any
	if len(in.Kwargs) > 0 && string(in.Kwargs) != "null" {
		if json.Unmarshal(in.Kwargs, &kwargs) != nil {
			return p, fmt.Errorf("policy.policy_kwargs must be an object, is %s", line(in.Kwargs))
		}
		p.Kwargs = in.Kwargs
	}
	p.Pickled = in.Pickled
	if d := seconds(in.Timeout); d != nil {
		if *d <= 0 {
			return p, fmt.Errorf("policy.timeout_s must be above 0, is %v", *in.Timeout)
		}
		p.Timeout = *d
	}
	return p, nil
}

// shipped says whether an import path names the policy of this package: the Python package has it under several names.
func shipped(path string) bool {
	module, name, ok := strings.Cut(path, ":")
	if i := strings.LastIndexByte(path, '.'); !ok && i >= 0 {
		module, name = path[:i], path[i+1:]
	}
	return (module == "ray.serve.autoscaling_policy" || module == "helve.serve.autoscaling_policy") &&
		(name == "default_autoscaling_policy" || name == "replica_queue_length_autoscaling_policy")
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func seconds(s *float64) *time.Duration {
	if s == nil {
		return nil
	}
	d := time.Duration(*s * float64(time.Second))
	return &d
}

// Initial is the number of replicas with which a deployment starts, and which it gets again when its autoscaling_config changes and has initial_replicas.
func (c Config) Initial() int { return or(c.InitialReplicas, c.MinReplicas) }

// Bounds are the least and the largest number of replicas under a target capacity in percent of the machine; nil and 100 are all of it. A number above 0 stays at least 1
// while the capacity is above 0, and 0 percent is no replica at all. Rising says that the capacity is on its way up, on which initial_replicas take the place of
// min_replicas, so that a new system starts warm. The way is over at 100 percent.
//
// For example, 2 to 10 replicas are 1 to 5 at 50 percent, and 1 to 1 at 1 percent. With initial_replicas of 4 they are 3 to 8 at 80 percent after 50, and 2 to 10 at 100.
func Bounds(c Config, capacity *float64, rising bool) (least, most int) {
	least = c.MinReplicas
	if rising && capacity != nil && *capacity < wholeMachine {
		least = c.Initial()
	}
	least, most = Share(least, capacity), Share(c.MaxReplicas, capacity)
	return min(least, most), most
}

// Share is a number of replicas at a target capacity in percent, nil for 100: rounded, and at least one if both are more than 0. For example, 3 replicas
// at 50 percent are 2, and at 1 percent 1.
func Share(replicas int, percent *float64) int {
	switch {
	case percent == nil || *percent >= wholeMachine:
		return replicas
	case replicas <= 0 || *percent <= 0:
		return 0
	}
	return max(1, int(math.Floor(float64(replicas)**percent/wholeMachine+0.5)))
}

// wholeMachine is the target capacity, in percent, that takes nothing away.
const wholeMachine = 100
