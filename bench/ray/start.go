package main

import (
	"cmp"
	"fmt"
)

// startRows start the seed program of two deployments, ask it once by a handle, and read the memory of its processes. The second row
// does the same with the program of the rows about handles and HTTP.
func startRows() []row {
	started := func(name, text string) func(*run, system) (map[string]float64, error) {
		return func(r *run, sys system) (map[string]float64, error) {
			addr, err := address()
			if err != nil {
				return nil, err
			}
			p, err := launch(r.ctx, sys, name, addr)
			if err != nil {
				return nil, err
			}
			defer p.close() //nolint:errcheck // the values are there
			if want := cmp.Or(text, addr); p.addr != want {
				return nil, fmt.Errorf("the answer is %q, want %q", p.addr, want)
			}
			return p.sizes()
		}
	}
	return []row{
		{group: "start", name: "hello, two deployments", systems: serving,
			bars:  []comparison{atMost(seconds, rayBest, 0.1), atMost(mb, rayBest, 0.2)},
			whole: started("hello", "Hello world!")},
		{group: "start", name: "five applications, eight deployments", systems: serving, whole: started("load", "")},
	}
}

// sizes has the metrics of a program that has just started.
func (p *program) sizes() (map[string]float64, error) {
	size, n, err := p.memory()
	return map[string]float64{seconds: p.took.Seconds(), mb: size, processes: float64(n)}, err
}
