package main

import (
	"fmt"
	"slices"

	"github.com/helve-serve/helve/bench/client"
	"github.com/helve-serve/helve/bench/stat"
)

// The metrics of rows. Latencies are in milliseconds.
const (
	rate = "rate" // per second
	p50  = "p50"
	p99  = "p99"
	cpu  = "cpu" // CPU seconds per 1,000 requests (or items) of all processes
	mb   = "mb"  // PSS of all processes
	// processes is the number of them.
	processes = "processes"
	// seconds is the time from the start of a program to its first answer.
	seconds = "seconds"
	// failed, refused and slowest are of the requests during a fault: with another answer than 200, without an answer, and the longest in milliseconds.
	failed, refused, slowest = "failed", "refused", "slowest"
	// whole is the time in seconds from a fault until the service is as it should be.
	whole = "whole"
)

// comparison is a ratio of a row with a bar, for example the rate of Helve over that of Ray's best configuration.
type comparison struct {
	metric    string
	reference string // a system
	bar       stat.Bar
	slack     float64 // that is added to the reference, in the unit of the metric
}

func atLeast(metric, reference string, bar float64) comparison {
	return comparison{metric: metric, reference: reference, bar: stat.Bar{Value: bar, AtLeast: true}}
}

func atMost(metric, reference string, bar float64) comparison {
	return comparison{metric: metric, reference: reference, bar: stat.Bar{Value: bar}}
}

// row is one workload that is measured in several systems.
type row struct {
	group, name string
	systems     []string // the usual systems; a flag adds others
	bars        []comparison
	measure     func(*run, *program) (map[string]float64, error)
	whole       func(*run, system) (map[string]float64, error) // in the place of measure: it starts a program itself
	program     string                                         // the program that is up during the row: load if it is empty
	once        bool                                           // the row has one round

}

func (r row) key() string { return r.group + "/" + r.name }

var serving = []string{helveSystem, helvePlain, rayBest, rayDefault}

// rows are all rows, in the order in which they run and are printed.
func rows() []row {
	return slices.Concat(startRows(), handleRows(), streamRows(), webRows(), faultRows())
}

// call is a workload of the program load (program.py).
type call struct {
	Kind     string  `json:"kind"`
	Size     int     `json:"size"` // of the value in bytes; of a stream in items
	InFlight int     `json:"in_flight"`
	Seconds  float64 `json:"seconds"`
	Warm     int     `json:"warm"`
}

func handleRows() (all []row) {
	add := func(name string, c call, systems []string, bars ...comparison) {
		all = append(all, row{group: "handle", name: name, systems: systems, bars: bars,
			measure: func(r *run, p *program) (map[string]float64, error) { return r.calls(p, c) }})
	}
	floors := append(slices.Clone(serving), relayFloor)
	for _, n := range []int{1, 8, 64, 256} {
		var bars []comparison
		switch n {
		case 1:
			bars = []comparison{atMost(p50, rayBest, 0.2), atMost(p50, rayDefault, 0.1), atMost(p50, relayFloor, 1.5)}
		case 64:
			bars = []comparison{atLeast(rate, rayBest, 20), atLeast(rate, rayDefault, 10), atLeast(rate, relayFloor, 0.5)}
		}
		add(fmt.Sprintf("100 B, %d in flight", n), call{Kind: "bytes", Size: 100, InFlight: n, Warm: 200}, floors, bars...)
	}
	for _, v := range []struct {
		name string
		call call
		bars []comparison
	}{
		{"10 KB, 1 in flight", call{Kind: "bytes", Size: 10_000, InFlight: 1, Warm: 50}, nil},
		{"10 KB, 64 in flight", call{Kind: "bytes", Size: 10_000, InFlight: 64, Warm: 50}, nil},
		{"1 MB, 1 in flight", call{Kind: "bytes", Size: 1_000_000, InFlight: 1, Warm: 10}, []comparison{atMost(p50, rayBest, 0.125)}},
		{"1 MB, 8 in flight", call{Kind: "bytes", Size: 1_000_000, InFlight: 8, Warm: 10}, nil},
		{"10 MB, 1 in flight", call{Kind: "bytes", Size: 10_000_000, InFlight: 1, Warm: 5}, nil},
		{"numpy, 10 KB, 1 in flight", call{Kind: "numpy", Size: 10_000, InFlight: 1, Warm: 50}, nil},
		{"numpy, 1 MB, 1 in flight", call{Kind: "numpy", Size: 1_000_000, InFlight: 1, Warm: 10}, nil},
		{"numpy, 10 MB, 1 in flight", call{Kind: "numpy", Size: 10_000_000, InFlight: 1, Warm: 5}, nil},
		{"batches of 16, 64 in flight", call{Kind: "batch", InFlight: 64, Warm: 10}, nil},
	} {
		add(v.name, v.call, serving, v.bars...)
	}
	return all
}

// streamRows read streams of items through a handle. The rate is of items, the latencies end with the first item of a stream.
func streamRows() (all []row) {
	for _, v := range []struct{ streams, items int }{{1, 1000}, {10, 1000}, {100, 200}} {
		var bars []comparison
		if v.streams < 100 {
			bars = []comparison{atLeast(rate, rayBest, 15), atLeast(rate, relayFloor, 0.4)}
		}
		c := call{Kind: "stream", Size: v.items, InFlight: v.streams}
		all = append(all, row{group: "stream", name: fmt.Sprintf("%d of %d items", v.streams, v.items), systems: append(slices.Clone(serving), relayFloor), bars: bars,
			measure: func(r *run, p *program) (map[string]float64, error) { return r.calls(p, c) }})
	}
	return all
}

// fastAPISlack is how much slower than bare uvicorn a FastAPI application may be for a lone client, in milliseconds.
const fastAPISlack = 0.09

func webRows() (all []row) {
	const item = "/items/spoon?n=3"
	for _, v := range []struct {
		name    string
		request map[string]client.Request
		floors  []string
		bars    map[int][]comparison // by number of connections
	}{
		{"noop", map[string]client.Request{"": client.Post("/noop"), uvicorn: client.Post("/"), mosecFloor: client.Post("/inference")}, []string{uvicorn, mosecFloor}, map[int][]comparison{
			1:  {atMost(p50, rayBest, 1), atMost(p50, rayDefault, 0.1), atMost(p50, mosecFloor, 1.1)},
			64: {atLeast(rate, rayBest, 4), atLeast(rate, rayDefault, 10), atLeast(rate, mosecFloor, 2.5)},
		}},
		{"one hop", map[string]client.Request{"": client.Post("/hop")}, nil, map[int][]comparison{
			1:  {atMost(p50, rayBest, 0.333)},
			64: {atLeast(rate, rayBest, 12), atLeast(rate, rayDefault, 10)},
		}},
		{"FastAPI", map[string]client.Request{"": client.Get("/fastapi" + item), uvicornFast: client.Get(item)}, []string{uvicornFast}, map[int][]comparison{
			1:  {{metric: p50, reference: uvicornFast, bar: stat.Bar{Value: 1}, slack: fastAPISlack}},
			64: {atLeast(rate, rayBest, 2.5), atLeast(rate, uvicornFast, 1.1)},
		}},
	} {
		for _, n := range []int{1, 8, 64, 256} {
			all = append(all, row{group: "http", name: fmt.Sprintf("%s, %s", v.name, plural(n, "connection")), systems: append(slices.Clone(serving), v.floors...),
				bars: v.bars[n], measure: web(v.request, n)})
		}
	}
	for _, size := range []int{10_000, 1_000_000, 10_000_000} {
		request := map[string]client.Request{"": client.Upload("/body", size), uvicorn: client.Upload("/up", size)}
		all = append(all, row{group: "http", name: "upload of " + sizeText(size) + ", 1 connection", systems: append(slices.Clone(serving), uvicorn), measure: web(request, 1)})
	}
	return all
}

func web(requests map[string]client.Request, conns int) func(*run, *program) (map[string]float64, error) {
	return func(r *run, p *program) (map[string]float64, error) {
		request, ok := requests[p.system.name]
		if !ok {
			request = requests[""]
		}
		return r.load(p, request, conns)
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func sizeText(n int) string {
	if n >= 1_000_000 {
		return fmt.Sprintf("%d MB", n/1_000_000)
	}
	return fmt.Sprintf("%d KB", n/1000)
}

// metrics are all, in the order in which they are printed.
var metrics = []string{rate, p50, p99, cpu, seconds, mb, processes, failed, refused, slowest, whole}
