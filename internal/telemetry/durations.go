package telemetry

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Durations counts durations in buckets, in the memory that its bounds need. Its methods may be called from any goroutine. [NewDurations] makes one;
// those of a nil Durations do nothing.
type Durations struct {
	bounds  []float64 // upper ends in milliseconds
	sum     atomic.Int64
	buckets []atomic.Uint64 // one more than bounds
}

// NewDurations makes an empty Durations. The bounds are the upper ends of its buckets in milliseconds, in order; they are not copied.
func NewDurations(bounds []float64) *Durations {
	return &Durations{bounds: bounds, buckets: make([]atomic.Uint64, len(bounds)+1)}
}

// Observe counts a duration.
func (d *Durations) Observe(took time.Duration) {
	if d == nil {
		return
	}
	ms := float64(took) / float64(time.Millisecond)
	i, _ := slices.BinarySearch(d.bounds, ms)
	d.buckets[i].Add(1)
	d.sum.Add(int64(took))
}

// Counts is a copy of the numbers.
func (d *Durations) Counts() DurationCounts {
	if d == nil {
		return DurationCounts{}
	}
	k := DurationCounts{Bounds: d.bounds, Buckets: make([]uint64, len(d.buckets)), Sum: time.Duration(d.sum.Load())}
	for i := range d.buckets {
		k.Buckets[i] = d.buckets[i].Load()
	}
	return k
}

// DurationCounts is a copy of a [Durations]: Buckets[i] durations were at most Bounds[i] milliseconds, and more than Bounds[i-1]; the last of Buckets
// has those above all bounds.
type DurationCounts struct {
	Bounds  []float64
	Buckets []uint64
	Sum     time.Duration
}

// Count is the number of durations.
func (k DurationCounts) Count() (n uint64) {
	for _, b := range k.Buckets {
		n += b
	}
	return n
}

// startBounds are the upper ends for starts and ends of replicas, in milliseconds: the reference's.
var startBounds = []float64{5, 20, 50, 100, 250, 500, 1000, 2000, 5000, 10000, 20000, 30000, 60000, 120000, 240000} //nolint:gochecknoglobals // a constant

// Lifecycle has the durations of what happens to the replicas of one deployment, beside calls: starts, ends, checks. It lives as long as the deployment,
// over all revisions. The fields are ready after [NewLifecycle]; they may be counted from any goroutine.
type Lifecycle struct {
	Startup        *Durations // from the decision to start a replica until it is ready
	Initialization *Durations // of constructors that have ended well
	Reconfigure    *Durations // of user configs that a replica has taken
	Shutdown       *Durations // from the decision to stop a replica until it is gone
	HealthCheck    *Durations // of health checks that have ended, also with an error
	RoutingStats   *Durations // of answers of replicas for routing policies
	// AutoscalingStats are of answers of replicas for autoscaling policies.
	AutoscalingStats *Durations

	HealthFailures, RoutingFailures atomic.Uint64

	mu                  sync.Mutex
	autoscalingFailures map[string]uint64 // by the name of the exception
}

// exceptionsMax is the number of names of exceptions that are counted apart.
const exceptionsMax = 20

// AutoscalingFailed counts a question for autoscaling policies that a replica has not answered, by the name of its exception. Names above the twentieth are [Other].
func (l *Lifecycle) AutoscalingFailed(exception string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.autoscalingFailures == nil {
		l.autoscalingFailures = map[string]uint64{}
	}
	if _, known := l.autoscalingFailures[exception]; !known && len(l.autoscalingFailures) >= exceptionsMax {
		exception = Other
	}
	l.autoscalingFailures[exception]++
}

// NewLifecycle makes an empty Lifecycle.
func NewLifecycle() *Lifecycle {
	requests := Bounds()
	return &Lifecycle{
		Startup: NewDurations(startBounds), Initialization: NewDurations(startBounds), Shutdown: NewDurations(startBounds),
		Reconfigure: NewDurations(requests), HealthCheck: NewDurations(requests), RoutingStats: NewDurations(requests), AutoscalingStats: NewDurations(requests),
	}
}

// LifecycleCounts is a copy of a [Lifecycle].
type LifecycleCounts struct {
	Startup, Initialization, Reconfigure, Shutdown, HealthCheck, RoutingStats DurationCounts
	HealthFailures, RoutingFailures                                           uint64

	AutoscalingStats    DurationCounts
	AutoscalingFailures map[string]uint64 // by the name of the exception; nil for none
}

// Counts is a copy of the numbers; the zero one for nil.
func (l *Lifecycle) Counts() LifecycleCounts {
	if l == nil {
		return LifecycleCounts{}
	}
	l.mu.Lock()
	failures := maps.Clone(l.autoscalingFailures)
	l.mu.Unlock()
	return LifecycleCounts{
		AutoscalingStats: l.AutoscalingStats.Counts(), AutoscalingFailures: failures,
		Startup: l.Startup.Counts(), Initialization: l.Initialization.Counts(), Reconfigure: l.Reconfigure.Counts(), Shutdown: l.Shutdown.Counts(),
		HealthCheck: l.HealthCheck.Counts(), RoutingStats: l.RoutingStats.Counts(),
		HealthFailures: l.HealthFailures.Load(), RoutingFailures: l.RoutingFailures.Load(),
	}
}
