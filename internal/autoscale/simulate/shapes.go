package simulate

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
)

// Shape is a load of docs/autoscaling.md, with the replicas that it meets. Only min_replicas, max_replicas and target_ongoing_requests are set.
type Shape struct {
	Name   string
	About  string // the load, in one line
	Config json.RawMessage
	Model  Model
	Load   func() Load
}

// Bounds of most shapes.
const (
	one  = `{"min_replicas":1,"max_replicas":100,"target_ongoing_requests":2}`
	zero = `{"min_replicas":0,"max_replicas":100,"target_ongoing_requests":2}`
)

// quick is a replica whose calls wait for other systems most of the time, and that starts in a second.
func quick() Model { return Model{MaxOngoing: 5, Parallel: 5, Start: 1, Seed: 1} }

func (m Model) starting(seconds float64) Model { m.Start = seconds; return m }
func (m Model) failing(share float64) Model    { m.StartFails = share; return m }
func (m Model) parallel(n int) Model           { m.Parallel = n; return m }

// Shapes are the loads of the table, in its order. Each is made anew from a fixed seed.
func Shapes() []Shape { //nolint:funlen // one shape after another
	fifth := fixed(0.2)
	return []Shape{
		{"steady", "10 calls at once, all the time", json.RawMessage(one), quick(), func() Load {
			return arrivals(1, 1200, fifth, func(float64) float64 { return 10 })
		}},
		{"step", "2 calls at once, from 1 min on 40", json.RawMessage(one), quick(), func() Load {
			return arrivals(2, 900, fifth, steps(2, 60, 40))
		}},
		{"small-step", "4 calls at once, from 1 min on 7", json.RawMessage(one), quick(), func() Load {
			return arrivals(3, 900, fifth, steps(4, 60, 7))
		}},
		{"load-generator", "from 1 min on 40 callers, each of which waits for an answer before its next call", json.RawMessage(one), quick(), func() Load {
			return callers(40, 60, 600, 0.2)
		}},
		{"step-down", "40 calls at once, from 5 min on 4", json.RawMessage(one), quick(), func() Load {
			return arrivals(4, 1200, fifth, steps(40, 300, 4))
		}},
		{"ramp", "from 1 to 60 calls at once within 10 min, and back", json.RawMessage(one), quick(), func() Load {
			return arrivals(5, 1500, fifth, func(t float64) float64 {
				return 1 + 59*max(0, min(t/600, (1320-t)/600, 1))
			})
		}},
		{"sine", "between 2 and 40 calls at once, with a period of 10 min", json.RawMessage(one), quick(), func() Load {
			return arrivals(6, 2400, fifth, wave(2, 40, 600))
		}},
		{"fast-sine", "between 5 and 30 calls at once, with a period of 40 s", json.RawMessage(one), quick(), func() Load {
			return arrivals(7, 1200, fifth, wave(5, 30, 40))
		}},
		{"spikes", "4 calls at once, each 2 min 60 for 2 s", json.RawMessage(one), quick(), func() Load {
			return arrivals(8, 1200, fifth, pulses(4, 60, 120, 2))
		}},
		{"bursts", "4 calls at once, each 5 min 40 for 45 s", json.RawMessage(one), quick(), func() Load {
			return arrivals(9, 1800, fifth, pulses(4, 40, 300, 45))
		}},
		{"diurnal", "a day in two hours: nights of 2 calls at once, days of up to 50 with two peaks", json.RawMessage(one), quick(), func() Load {
			return arrivals(10, 7200, fixed(1), func(t float64) float64 { return day(t / 300) })
		}},
		{"heavy-tail", "20 calls at once on average, whose durations differ by a factor of a thousand", json.RawMessage(one), quick(), func() Load {
			return arrivals(11, 1800, pareto(0.05, 1.3, 60), func(float64) float64 { return 20 })
		}},
		{"flash-crowd", "nothing for 1 min, then 60 calls at once", json.RawMessage(zero), quick(), func() Load {
			return arrivals(12, 600, fifth, steps(0, 60, 60))
		}},
		{"on-off", "6 calls at once for 2 min, then nothing for 8 min", json.RawMessage(zero), quick(), func() Load {
			return arrivals(13, 3000, fifth, pulses(0, 6, 600, 120))
		}},
		{"slow-start", "2 calls at once, from 1 min on 20; a replica starts in 60 s", json.RawMessage(one), quick().starting(60), func() Load {
			return arrivals(14, 1200, fixed(1), steps(2, 60, 20))
		}},
		{"failing-starts", "2 calls at once, from 1 min on 20; of the starts of 5 s half fail", json.RawMessage(one), quick().starting(5).failing(0.5), func() Load {
			return arrivals(15, 900, fifth, steps(2, 60, 20))
		}},
		{"slow-replicas", "8 calls at once; from 5 to 10 min each takes three times as long", json.RawMessage(one), quick(), func() Load {
			load := arrivals(16, 1200, fifth, func(float64) float64 { return 8 })
			for i := range load.Calls {
				if at := load.Calls[i].At; at >= 300 && at < 600 {
					load.Calls[i].Duration *= 3
				}
			}
			return load
		}},
		{"compute", "1 call at once, from 1 min on 16; a replica executes 2 at once, and starts in 3 s", json.RawMessage(one), quick().parallel(2).starting(3), func() Load {
			return arrivals(17, 900, fifth, steps(1, 60, 16))
		}},
		{"long-streams", "streams of 1 to 5 min, 5 at once, after 10 min 50", json.RawMessage(one), quick().starting(5), func() Load {
			return arrivals(18, 3600, uniform(60, 300), steps(5, 600, 50))
		}},
		{"functions", "after the Azure Functions trace: rare calls, timers on each full minute, bursts", json.RawMessage(zero), quick(), func() Load {
			return functions(19)
		}},
		{"encyclopedia", "after WikiBench: a smooth daily wave with noise and one event that many read about", json.RawMessage(one), quick(), func() Load {
			return arrivals(20, 5400, lognormal(0.3, 0.6), func(t float64) float64 {
				event := 0.0
				if t > 3000 {
					event = 25 * math.Exp(-(t-3000)/400)
				}
				return 20 + 12*math.Sin(2*math.Pi*t/5400-1.5) + 2*math.Sin(t/37) + event
			})
		}},
		{"language-model", "after BurstGPT: arrivals in bursts, answers of 1 to 60 s; a replica starts in 20 s", json.RawMessage(one), quick().starting(20), func() Load {
			return bursty(21)
		}},
	}
}

// callers are callers that begin within the second after a moment.
func callers(n int, from, length, duration float64) Load {
	load := Load{Length: length}
	for i := range n {
		load.Callers = append(load.Callers, Caller{from + float64(i)/float64(n), length, duration})
	}
	return load
}

// steps is a first number of calls at once, and another one from a moment on.
func steps(before, at, after float64) func(float64) float64 {
	return func(t float64) float64 {
		if t < at {
			return before
		}
		return after
	}
}

func wave(low, high, period float64) func(float64) float64 {
	return func(t float64) float64 { return (low+high)/2 - (high-low)/2*math.Cos(2*math.Pi*t/period) }
}

// pulses is high for the first length seconds of each period, after the first minute.
func pulses(low, high, period, length float64) func(float64) float64 {
	return func(t float64) float64 {
		if t >= 60 && math.Mod(t-60, period) < length {
			return high
		}
		return low
	}
}

// day is the load at an hour of a day.
func day(hour float64) float64 {
	bell := func(at, width float64) float64 { return math.Exp(-(hour - at) * (hour - at) / (2 * width * width)) }
	return 2 + 40*bell(11, 2) + 46*bell(19, 1.8)
}

type durations func(*rand.Rand) float64

func fixed(mean float64) durations {
	return func(r *rand.Rand) float64 { return mean * (0.5 + r.Float64()) }
}

func uniform(low, high float64) durations {
	return func(r *rand.Rand) float64 { return low + (high-low)*r.Float64() }
}

// pareto has few long calls that make up most of the work.
func pareto(least, shape, most float64) durations {
	return func(r *rand.Rand) float64 { return min(most, least*math.Pow(1-r.Float64(), -1/shape)) }
}

func lognormal(median, sigma float64) durations {
	return func(r *rand.Rand) float64 { return median * math.Exp(sigma*r.NormFloat64()) }
}

// mean of durations, by trial.
func (d durations) mean() float64 {
	r, sum := rand.New(rand.NewPCG(5, 5)), 0.0 //nolint:gosec // a simulation
	for range 100_000 {
		sum += d(r)
	}
	return sum / 100_000
}

// arrivals is a load of calls that know nothing of each other, at such a rate that the given number of them executes at once.
func arrivals(seed uint64, length float64, d durations, atOnce func(float64) float64) Load {
	r, mean := rand.New(rand.NewPCG(seed, 3)), d.mean() //nolint:gosec // a simulation
	load := Load{Length: length}
	for second := 0.0; second < length; second++ {
		for range poisson(r, atOnce(second+0.5)/mean) {
			load.Calls = append(load.Calls, Call{At: second + r.Float64(), Duration: d(r)})
		}
	}
	return load.sorted()
}

func (l Load) sorted() Load {
	slices.SortFunc(l.Calls, func(a, b Call) int {
		switch {
		case a.At < b.At:
			return -1
		case a.At > b.At:
			return 1
		}
		return 0
	})
	return l
}

// poisson is a number of events of which mean are expected.
func poisson(r *rand.Rand, mean float64) (n int) {
	for mean > 30 { // in parts, for the product below not to vanish
		n += poisson(r, 30)
		mean -= 30
	}
	for p := r.Float64(); p > math.Exp(-mean); n++ {
		p *= r.Float64()
	}
	return n
}

// functions is an hour as the Azure Functions trace of 2019 is described: most functions are called rarely, timers fire on full minutes, and some calls come in bursts.
func functions(seed uint64) Load {
	r := rand.New(rand.NewPCG(seed, 3)) //nolint:gosec // a simulation
	load, d := Load{Length: 3600}, lognormal(0.7, 1)
	for second := 0.0; second < load.Length; second++ {
		rate := 0.02
		switch {
		case math.Mod(second, 300) == 0: // timers
			for range 12 {
				load.Calls = append(load.Calls, Call{At: second + r.Float64()/2, Duration: d(r)})
			}
		case second >= 1500 && second < 1620: // a burst
			rate = 25
		case second >= 2400 && second < 3000:
			rate = 4
		}
		for range poisson(r, rate) {
			load.Calls = append(load.Calls, Call{At: second + r.Float64(), Duration: d(r)})
		}
	}
	return load.sorted()
}

// bursty is an hour as BurstGPT is described: the rate of arrivals changes by a gamma distribution each few seconds, and answers are long.
func bursty(seed uint64) Load {
	r := rand.New(rand.NewPCG(seed, 3)) //nolint:gosec // a simulation
	load, d := Load{Length: 3600}, lognormal(6, 0.9)
	rate := 0.0
	for second := 0.0; second < load.Length; second++ {
		if math.Mod(second, 20) == 0 { // exponential steps around a slow wave: a gamma distribution of shape 1
			rate = r.ExpFloat64() * (1 + 0.7*math.Sin(second/500))
		}
		for range poisson(r, rate) {
			load.Calls = append(load.Calls, Call{At: second + r.Float64(), Duration: min(60, max(1, d(r)))})
		}
	}
	return load.sorted()
}
