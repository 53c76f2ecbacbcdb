package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/helve-serve/helve/bench/client"
	"github.com/helve-serve/helve/bench/stat"
)

// run is the state of one run: the programs that are up, and how long to measure.
type run struct {
	ctx    context.Context
	rounds int
	length time.Duration
	spin   time.Duration
	all    map[string]system   // by name
	name   string              // of the program that is up
	up     map[string]*program // by name of the system
	warm   map[string]bool     // whether a program was measured in the present row before
}

// program is the running program of a system for a row, which runs on until a row needs another program.
func (r *run) program(w row, sys system) (*program, error) {
	name := cmp.Or(w.program, "load")
	if name != r.name {
		if err := r.close(); err != nil {
			return nil, err
		}
		r.name = name
	}
	if p := r.up[sys.name]; p != nil {
		return p, nil
	}
	var args []string
	if !sys.floor {
		addr, err := address()
		if err != nil {
			return nil, err
		}
		if name == "node" {
			if sys.name == helveSystem {
				return r.keepUp(sys.name)(launch(r.ctx, supervised(addr)))
			}
			name = "faults"
		}
		args = []string{name, addr}
	}
	return r.keepUp(sys.name)(launch(r.ctx, sys, args...))
}

// keepUp puts a program that was started into the map of running programs.
func (r *run) keepUp(name string) func(*program, error) (*program, error) {
	return func(p *program, err error) (*program, error) {
		if err == nil {
			r.up[name] = p
		}
		return p, err
	}
}

// alone lets one program go on and pauses all others. With nil it pauses all.
func (r *run) alone(p *program) error {
	for _, other := range r.up {
		if other != p {
			if err := other.pause(); err != nil {
				return err
			}
		}
	}
	if p == nil {
		return nil
	}
	return p.resume()
}

// sides measures a row in all its systems, in turns, so that a disturbance of the machine meets all of them, and gives the median of each metric.
func (r *run) sides(w row, systems []system) (map[string]map[string]float64, error) {
	r.warm = map[string]bool{}
	taken := map[string]map[string][]float64{}
	for n := range r.rounds {
		if n > 0 && w.once {
			break
		}
		for _, sys := range systems {
			values, err := r.side(w, sys)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", sys.name, err)
			}
			if taken[sys.name] == nil {
				taken[sys.name] = map[string][]float64{}
			}
			for metric, v := range values {
				taken[sys.name][metric] = append(taken[sys.name][metric], v)
			}
			r.warm[sys.name] = true
		}
	}
	medians := map[string]map[string]float64{}
	for name, metrics := range taken {
		medians[name] = map[string]float64{}
		for metric, all := range metrics {
			medians[name][metric] = stat.Median(all)
		}
	}
	return medians, nil
}

func (r *run) side(w row, sys system) (map[string]float64, error) {
	if w.whole != nil {
		if err := r.alone(nil); err != nil {
			return nil, err
		}
		return w.whole(r, sys)
	}
	p, err := r.program(w, sys)
	if err != nil {
		return nil, err
	}
	if err := r.alone(p); err != nil {
		return nil, err
	}
	return w.measure(r, p)
}

// calls lets the program's driver replica call through a handle. The CPU time is that of all processes, the calling replica too.
func (r *run) calls(p *program, c call) (map[string]float64, error) {
	c.Seconds = r.length.Seconds()
	var request any = c
	if p.system.name == relayFloor {
		request = map[string]any{"seconds": c.Seconds, "in_flight": c.InFlight, "per_second": 0, "sync": false, "size": 0} // its usual 100 bytes
		if c.Kind == "stream" {
			request = map[string]any{"seconds": c.Seconds, "streams": c.InFlight, "size": c.Size}
		}
	}
	before, err := p.cpu()
	if err != nil {
		return nil, err
	}
	var t struct{ Rate, P50, P99, Calls float64 }
	if err := p.ask(request, &t); err != nil {
		return nil, err
	}
	after, err := p.cpu()
	return map[string]float64{rate: t.Rate, p50: t.P50 * 1e3, p99: t.P99 * 1e3, cpu: (after - before).Seconds() * 1e3 / t.Calls}, err
}

// load sends requests over HTTP. The CPU time is that of all processes of the program, without the client, which is this process.
func (r *run) load(p *program, request client.Request, conns int) (map[string]float64, error) {
	body := request.Bytes()
	if !r.warm[p.system.name] {
		if _, err := client.Load(p.addr, conns, r.length/5, body, "200"); err != nil {
			return nil, err
		}
	}
	before, err := p.cpu()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	took, err := client.Load(p.addr, conns, r.length, body, "200")
	if err != nil {
		return nil, err
	}
	n, length := float64(len(took)), time.Since(begin).Seconds()
	after, err := p.cpu()
	ms := func(d time.Duration) float64 { return d.Seconds() * 1e3 }
	return map[string]float64{
		rate: n / length, p50: ms(stat.Median(took)), p99: ms(stat.Quantile(took, 0.99)), cpu: (after - before).Seconds() * 1e3 / n,
	}, err
}

// close ends all programs.
func (r *run) close() (first error) {
	for _, p := range r.up {
		if err := p.close(); err != nil && first == nil {
			first = fmt.Errorf("%s: %w", p.system.name, err)
		}
	}
	clear(r.up)
	return first
}
