package simulate

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/helve-serve/helve/internal/autoscale"
)

// Call is one call of a load.
type Call struct {
	At       float64 // seconds since the begin of the load
	Duration float64 // seconds of execution
	caller   *Caller // that sends the next call after this one; nil for none
}

// Load is the calls of a deployment.
type Load struct {
	Calls   []Call   // by At
	Callers []Caller // as load generators are
	Length  float64  // seconds
}

// Caller sends one call after another: the next one when the answer to the one before is there.
type Caller struct {
	From, To float64 // seconds since the begin of the load
	Duration float64 // of each call
}

// Model is how replicas behave.
type Model struct {
	MaxOngoing int     // calls that a replica has at most: max_ongoing_requests
	Parallel   int     // calls that a replica executes at once; the others wait inside it
	Start      float64 // seconds from the decision to the first call of a new replica
	StartFails float64 // share of starts that fail at their end and begin again
	Seed       uint64
}

// Scaler is an autoscaler under test. Step is asked each Tick, with the load of the moment.
type Scaler interface {
	Step(now time.Time, l autoscale.Load, f autoscale.Facts) (replicas int, reason string)
}

// Tick is the time between two samples.
const Tick = 100 * time.Millisecond

// Sample is one second of a result.
type Sample struct {
	Calls   float64 `json:"calls"`   // mean number of calls that were there, waiting or executing
	Queued  float64 `json:"queued"`  // mean number of calls in the queue
	Wanted  int     `json:"wanted"`  // last decision
	Ready   float64 `json:"ready"`   // mean number of replicas that took calls
	Optimum int     `json:"optimum"` // replicas of the optimum
}

// Change is one decision that changed the number of replicas.
type Change struct {
	At     float64 `json:"at_s"`
	From   int     `json:"from"`
	To     int     `json:"to"`
	Reason string  `json:"reason"`
}

// Result is the outcome of one run.
type Result struct {
	Summary Summary  `json:"summary"`
	Changes []Change `json:"changes"`
	Samples []Sample `json:"samples"` // one a second
}

// Summary has the numbers by which autoscalers are compared.
type Summary struct {
	Calls          int     `json:"calls"`
	ToCapacity     float64 `json:"to_capacity_s"`           // longest time with less than nine tenths of the optimum's replicas ready
	Overshoot      float64 `json:"overshoot"`               // most replicas wanted, over most replicas of the optimum, minus 1
	ReplicaSeconds float64 `json:"replica_seconds"`         // of all processes, from their start to their end
	OptimumSeconds float64 `json:"optimum_replica_seconds"` // of the optimum
	Cost           float64 `json:"cost"`                    // ReplicaSeconds / OptimumSeconds
	Changes        int     `json:"changes"`
	WaitP50        float64 `json:"wait_p50_s"` // time of a call from its arrival to its execution
	WaitP99        float64 `json:"wait_p99_s"`
	WaitMax        float64 `json:"wait_max_s"`
}

// begin is the time at which loads begin: autoscalers see times, and no zero.
var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

func moment(at float64) time.Time { return begin.Add(time.Duration(at * float64(time.Second))) }

// Run runs an autoscaler against a load. The deployment starts with Config.Initial() ready replicas.
func Run(load Load, m Model, c autoscale.Config, s Scaler) Result {
	w := &world{model: m, config: c, scaler: s, random: rand.New(rand.NewPCG(m.Seed, 17))} //nolint:gosec // a simulation
	w.target = c.Initial()
	for range w.target {
		w.replicas = append(w.replicas, &replica{ready: true})
	}
	optimum := Optimum(load, c)
	samples := make([]Sample, len(optimum))
	for i := range load.Callers {
		heap.Push(&w.events, event{at: load.Callers[i].From, caller: &load.Callers[i]})
	}
	for tick, next := 0, 0; ; tick++ {
		at := float64(tick) * Tick.Seconds()
		if at >= load.Length {
			break
		}
		w.decide(at)
		end := float64(tick+1) * Tick.Seconds()
		for {
			arrival := math.Inf(1)
			if next < len(load.Calls) {
				arrival = load.Calls[next].At
			}
			if event := w.events.next(); event <= arrival && event < end {
				w.event()
				continue
			}
			if arrival >= end {
				break
			}
			w.arrive(load.Calls[next])
			next++
		}
		w.sample(&samples[min(int(at), len(samples)-1)])
		w.seconds += float64(len(w.replicas)) * Tick.Seconds()
	}
	for i := range samples {
		samples[i].Optimum = optimum[i]
	}
	return w.result(samples)
}

// world is one run.
type world struct {
	model  Model
	config autoscale.Config
	scaler Scaler
	random *rand.Rand

	replicas []*replica // also starting and draining ones
	queue    []Call
	head     int // first call of queue that still waits
	events   events

	target            int
	startTime         time.Duration
	arrived, finished uint64
	seconds           float64
	waits             []float64
	changes           []Change
}

// replica is one process.
type replica struct {
	ready, draining bool
	began           float64
	ongoing         int
	executing       int
	inside          []Call // calls that wait inside the replica
}

// event is the end of a start, or of a call in a replica, or the next call of a caller where there is no replica.
type event struct {
	at      float64
	replica *replica
	start   bool
	caller  *Caller
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) } //nolint:forcetypeassert // its only type
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (e events) next() float64 {
	if len(e) == 0 {
		return math.Inf(1)
	}
	return e[0].at
}

func (w *world) decide(at float64) {
	l := autoscale.Load{Queued: len(w.queue) - w.head, Arrived: w.arrived, Finished: w.finished}
	f := autoscale.Facts{Target: w.target, StartTime: w.startTime}
	for _, r := range w.replicas {
		switch {
		case r.draining:
		case r.ready:
			f.Ready++
			l.Running += r.ongoing
		default:
			f.Starting++
			f.StartTime = max(f.StartTime, time.Duration((at-r.began)*float64(time.Second)))
		}
	}
	f.Least, f.Most = autoscale.Bounds(w.config, nil, false)
	n, reason := w.scaler.Step(moment(at), l, f)
	if n != w.target {
		w.changes = append(w.changes, Change{at, w.target, n, reason})
		w.target = n
	}
	for have := f.Ready + f.Starting; have < n; have++ {
		w.begin(at)
	}
	for have := f.Ready + f.Starting; have > n; have-- {
		w.stop()
	}
}

// begin starts a replica.
func (w *world) begin(at float64) {
	r := &replica{began: at}
	w.replicas = append(w.replicas, r)
	heap.Push(&w.events, event{at: at + w.model.Start, replica: r, start: true})
}

// stop ends the replica that has the least to lose: one that starts, else the ready one with the fewest calls, the newest of them.
func (w *world) stop() {
	var best *replica
	for _, r := range w.replicas {
		if !r.draining && (best == nil || !r.ready && best.ready || r.ready == best.ready && r.ongoing <= best.ongoing) {
			best = r
		}
	}
	best.draining = true
	w.drained(best)
}

func (w *world) drained(r *replica) {
	if r.draining && r.ongoing == 0 {
		w.replicas = slices.DeleteFunc(w.replicas, func(o *replica) bool { return o == r })
	}
}

// event is the next end of a call or start.
func (w *world) event() {
	e := heap.Pop(&w.events).(event) //nolint:forcetypeassert // its only type
	r := e.replica
	switch {
	case r == nil && e.at < e.caller.To:
		w.arrive(Call{e.at, e.caller.Duration, e.caller})
	case r == nil:
	case e.start && r.draining:
	case e.start && w.random.Float64() < w.model.StartFails:
		heap.Push(&w.events, event{at: e.at + w.model.Start, replica: r, start: true})
	case e.start:
		r.ready, w.startTime = true, time.Duration((e.at-r.began)*float64(time.Second))
		w.fill(e.at, r)
	default:
		w.finished++
		r.ongoing--
		if r.executing--; len(r.inside) > 0 {
			c := r.inside[0]
			r.inside = r.inside[1:]
			w.execute(e.at, r, c)
		}
		w.fill(e.at, r)
		w.drained(r)
		if e.caller != nil {
			heap.Push(&w.events, event{at: e.at, caller: e.caller})
		}
	}
}

// arrive routes a call, or queues it.
func (w *world) arrive(c Call) {
	w.arrived++
	var best *replica
	for _, r := range w.replicas {
		if r.ready && !r.draining && r.ongoing < w.model.MaxOngoing && (best == nil || r.ongoing < best.ongoing) {
			best = r
		}
	}
	if best == nil {
		if w.queue = append(w.queue, c); w.target == 0 {
			w.decide(c.At) // a call that finds no replica is seen at once
		}
		return
	}
	w.give(c.At, best, c)
}

// fill gives a replica calls of the queue.
func (w *world) fill(at float64, r *replica) {
	for r.ready && !r.draining && r.ongoing < w.model.MaxOngoing && w.head < len(w.queue) {
		c := w.queue[w.head]
		if w.head++; w.head == len(w.queue) {
			w.queue, w.head = w.queue[:0], 0
		}
		w.give(at, r, c)
	}
}

func (w *world) give(at float64, r *replica, c Call) {
	if r.ongoing++; r.executing < w.model.Parallel {
		w.execute(at, r, c)
		return
	}
	r.inside = append(r.inside, c)
}

func (w *world) execute(at float64, r *replica, c Call) {
	r.executing++
	w.waits = append(w.waits, at-c.At)
	heap.Push(&w.events, event{at: at + c.Duration, replica: r, caller: c.caller})
}

// sample adds one tick to a second.
func (w *world) sample(s *Sample) {
	part := Tick.Seconds()
	queued := float64(len(w.queue) - w.head)
	s.Queued += queued * part
	s.Calls += queued * part
	for _, r := range w.replicas {
		s.Calls += float64(r.ongoing) * part
		if r.ready && !r.draining {
			s.Ready += part
		}
	}
	s.Wanted = w.target
}

func (w *world) result(samples []Sample) Result {
	for i := w.head; i < len(w.queue); i++ { // calls that still wait have waited so far
		w.waits = append(w.waits, float64(len(samples))-w.queue[i].At)
	}
	s := Summary{Calls: int(w.arrived), ReplicaSeconds: w.seconds, Changes: len(w.changes)} //nolint:gosec // far below the limit
	most, wanted, short := 0, 0, 0.0
	for i := range samples {
		sample := &samples[i]
		s.OptimumSeconds += float64(sample.Optimum)
		most, wanted = max(most, sample.Optimum), max(wanted, sample.Wanted)
		if sample.Ready+1e-6 < 0.9*float64(sample.Optimum) {
			short++
		} else {
			short = 0
		}
		s.ToCapacity = max(s.ToCapacity, short)
	}
	s.Cost = s.ReplicaSeconds / max(s.OptimumSeconds, 1)
	s.Overshoot = float64(wanted)/float64(max(most, 1)) - 1
	slices.Sort(w.waits)
	s.WaitP50, s.WaitP99, s.WaitMax = percentile(w.waits, 0.5), percentile(w.waits, 0.99), percentile(w.waits, 1)
	return Result{s, w.changes, samples}
}

// percentile is of sorted values.
func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}

// Optimum is the number of replicas of the optimum in each second.
//
// For example, with a target of 2, 6 calls of one second in one second need 2 replicas: they leave 2 seconds of work, which 2 replicas do within one more second.
func Optimum(load Load, c autoscale.Config) []int {
	n := int(math.Ceil(load.Length))
	work, whole := make([]float64, n+1), make([]int, n+2) // parts of seconds; begins and ends of whole seconds of work
	add := func(at, duration float64) {                   // the work lies in the seconds of the execution, had it started at once
		end := min(at+duration, float64(n))
		first, last := int(math.Ceil(at)), int(end)
		if first > last {
			work[last] += end - at
			return
		}
		if first > 0 {
			work[first-1] += float64(first) - at
		}
		whole[first]++
		whole[last]--
		work[last] += end - float64(last)
	}
	for _, c := range load.Calls {
		add(c.At, c.Duration)
	}
	for i := range load.Callers { // a caller always has one call
		add(load.Callers[i].From, load.Callers[i].To-load.Callers[i].From)
	}
	out, behind, running := make([]int, n), 0.0, 0
	for i := range out {
		running += whole[i]
		behind += work[i] + float64(running)
		need := int(math.Ceil(behind / (2 * c.Target)))
		out[i] = min(max(need, c.MinReplicas), c.MaxReplicas)
		behind = max(0, behind-float64(out[i])*c.Target)
	}
	return out
}
