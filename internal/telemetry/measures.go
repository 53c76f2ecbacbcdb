package telemetry

import (
	"sync"
	"time"
)

// The bounds of the histograms of batches, those of Python's (helve._measures).
var (
	usualMilliseconds = milliseconds(usualBounds())                                   //nolint:gochecknoglobals // a constant
	percentBounds     = []float64{5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100} //nolint:gochecknoglobals // likewise
	batchSizes        = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}        //nolint:gochecknoglobals // likewise
)

// Batches has the numbers of the batches of one function of a replica in Go, under the names that batches of Python have. The methods may be called from any goroutine; those of a
// nil Batches do nothing.
type Batches struct {
	function                     []string
	wait, execution, utilization *ProgramMetric
	size, queued, batches        *ProgramMetric
}

// NewBatches defines the metrics of the batches of a function; nil without a Program.
func NewBatches(p *Program, function string) *Batches {
	if p == nil {
		return nil
	}
	histogram := func(name, help string, bounds []float64) *ProgramMetric {
		return p.Metric(Histogram, "serve_"+name, help, bounds, []string{"function_name"})
	}
	return &Batches{
		function:    []string{function},
		wait:        histogram("batch_wait_time_ms", "Time that a call waited for its batch.", usualMilliseconds),
		execution:   histogram("batch_execution_time_ms", "Time of the function with a batch.", usualMilliseconds),
		utilization: histogram("batch_utilization_percent", "Size of a batch, in percent of max_batch_size.", percentBounds),
		size:        histogram("actual_batch_size", "Number of calls in a batch.", batchSizes),
		queued:      p.Metric(Gauge, "serve_batch_queue_length", "Calls that wait for a batch, at the begin of the last one.", nil, []string{"function_name"}),
		batches:     p.Metric(Counter, "serve_batches_processed", "Batches that have ended.", nil, []string{"function_name"}),
	}
}

// Began counts a batch that begins: the waits of its calls, its size in parts of the largest one, and the calls that go on waiting.
func (b *Batches) Began(waits []time.Duration, filled float64, waiting int) {
	if b == nil {
		return
	}
	for _, w := range waits {
		b.wait.Observe(1e3*w.Seconds(), b.function)
	}
	b.size.Observe(float64(len(waits)), b.function)
	b.utilization.Observe(100*filled, b.function)
	b.queued.Set(float64(waiting), b.function)
}

// Ended counts a batch that has ended, and the time of the function.
func (b *Batches) Ended(took time.Duration) {
	if b == nil {
		return
	}
	b.execution.Observe(1e3*took.Seconds(), b.function)
	b.batches.Add(1, b.function)
}

// modelsMax is the number of models of a replica that have a series of their own: a deployment may serve thousands.
const modelsMax = 100

// Models has the numbers of the models of a replica in Go, under the names that models of Python have. The methods may be called from any goroutine; those of a nil Models do
// nothing.
type Models struct {
	requests, loads, ahead, unloads, loadTime, unloadTime, number, registered *ProgramMetric

	mu   sync.Mutex
	seen map[string]bool // models with a series
}

// NewModels defines the metrics of the models of a replica; nil without a Program.
func NewModels(p *Program) *Models {
	if p == nil {
		return nil
	}
	counter := func(name, help string) *ProgramMetric {
		return p.Metric(Counter, "serve_multiplexed_"+name, help, nil, nil)
	}
	latency := func(name, help string) *ProgramMetric {
		return p.Metric(Histogram, "serve_multiplexed_"+name, help, usualMilliseconds, nil)
	}
	return &Models{
		requests:   counter("get_model_requests_counter", "Calls that asked for a model."),
		loads:      counter("models_load_counter", "Models that were loaded."),
		ahead:      counter("models_load_ahead_counter", "Models that were loaded before a call asked for them, because the replica that had them stops."),
		unloads:    counter("models_unload_counter", "Models that were unloaded."),
		loadTime:   latency("model_load_latency_ms", "Time of the load of a model."),
		unloadTime: latency("model_unload_latency_ms", "Time of the end of a model."),
		number:     p.Metric(Gauge, "serve_num_multiplexed_models", "Models that are loaded.", nil, nil),
		registered: p.Metric(Gauge, "serve_registered_multiplexed_model_id", "1 while the model is loaded, for the first 100 ids of a process.", nil, []string{"model_id"}),
		seen:       map[string]bool{},
	}
}

// Asked counts a call that asks for a model.
func (m *Models) Asked() {
	if m != nil {
		m.requests.Add(1, nil)
	}
}

// Loaded counts a model that was loaded, and says how many there are now. ahead: no call had asked for the model.
func (m *Models) Loaded(id string, took time.Duration, number int, ahead bool) {
	if m == nil {
		return
	}
	m.loads.Add(1, nil)
	if ahead {
		m.ahead.Add(1, nil)
	}
	m.loadTime.Observe(1e3*took.Seconds(), nil)
	m.number.Set(float64(number), nil)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen[id] || len(m.seen) < modelsMax {
		m.seen[id] = true
		m.registered.Set(1, []string{id})
	}
}

// Left says that a model is not loaded any more, and how many there are now.
func (m *Models) Left(id string, number int) {
	if m == nil {
		return
	}
	m.number.Set(float64(number), nil)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen[id] {
		m.registered.Set(0, []string{id})
	}
}

// Unloaded counts a model that has ended.
func (m *Models) Unloaded(took time.Duration) {
	if m == nil {
		return
	}
	m.unloads.Add(1, nil)
	m.unloadTime.Observe(1e3*took.Seconds(), nil)
}
