package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/bench/client"
	"github.com/helve-serve/helve/bench/proc"
)

// peersPath is the interpreter that has the helve package and the peers of the rows about HTTP in Python.
func peersPath() string {
	if p := os.Getenv("HELVE_BENCH_PEERS"); p != "" {
		return p
	}
	p, _ := filepath.Abs(".venv/bin/python")
	return p
}

// webServer starts a script that serves HTTP, once, until the group ends. The error is a missingError if a package is not installed.
func (b *bench) webServer(script ...string) func() (*served, error) {
	return sync.OnceValues(func() (*served, error) {
		if _, err := os.Stat(peersPath()); err != nil {
			return nil, missingError("environment of peers (make bench)")
		}
		cmd := command(b.ctx, peersPath(), script...)
		cmd.Env = append(os.Environ(), "HELVE_PYTHON="+peersPath())
		p, err := start(cmd)
		if err != nil {
			return nil, err
		}
		if name, ok := strings.CutPrefix(p.line, "missing "); ok {
			p.stop()
			return nil, missingError(name)
		}
		return b.served(p, nil)
	})
}

// webLoad measures a server under a number of connections. The processor time is that of the server and its children, without the client.
func (b *bench) webLoad(server func() (*served, error), r client.Request, conns int, length time.Duration, env ...string) func() (sample, error) {
	return func() (sample, error) {
		p, err := server()
		if err != nil {
			return sample{}, err
		}
		before, err := proc.TreeCPU(p.cmd.Process.Pid)
		if err != nil {
			return sample{}, err
		}
		l, err := b.load(p.line, r, conns, length, env...)
		if err != nil {
			return sample{}, err
		}
		after, err := proc.TreeCPU(p.cmd.Process.Pid)
		return sample{v: float64(l.P50), p99: float64(l.P99), rate: l.Rate, cpu: float64(after-before) / float64(max(l.Requests, 1))}, err
	}
}

// slack is how much slower than bare uvicorn a FastAPI application may be for a lone client: a node is in between.
const slack = 90 * time.Microsecond

// slower is a reference that takes some time more.
func slower(f func() (sample, error), by time.Duration) func() (sample, error) {
	return func() (sample, error) {
		s, err := f()
		s.v += float64(by)
		s.p99 += float64(by)
		return s, err
	}
}

// webRows compare HTTP in Python with other servers of Python code.
func webRows(b *bench) (rows []measurement) {
	helve := b.webServer("pybench/web.py", "helve")
	raw, fast := b.webServer("pybench/web.py", "uvicorn", "asgi"), b.webServer("pybench/web.py", "uvicorn", "fastapi")
	mosec := b.webServer("pybench/batcher.py")
	const item = "/items/spoon?n=3"
	for _, c := range []struct {
		name      string
		ours      client.Request
		reference string
		server    func() (*served, error)
		theirs    client.Request
		bar       float64 // of the rate at 64 connections, at least
		one       float64 // of the p50 at 1 connection, at most
		slack     time.Duration
	}{
		{"Python noop", client.Post("/noop"), "Mosec", mosec, client.Post("/inference"), 2.5, 1.1, 0},
		{"Python noop", client.Post("/noop"), "raw ASGI in uvicorn", raw, client.Post("/"), 0, 0, 0},
		{"Python, query and method read", client.Post("/read?name=spoon"), "raw ASGI in uvicorn", raw, client.Post("/"), 0, 0, 0},
		{"Python, one hop", client.Post("/hop"), "raw ASGI in uvicorn", raw, client.Post("/"), 0, 0, 0},
		{"raw ASGI", client.Post("/asgi"), "uvicorn", raw, client.Post("/"), 0, 0, 0},
		{"FastAPI", client.Get("/fastapi" + item), "uvicorn", fast, client.Get(item), 1.1, 1, slack},
	} {
		load := func(conns int, length, slack time.Duration) *shared {
			return b.once(b.webLoad(helve, c.ours, conns, length), slower(b.webLoad(c.server, c.theirs, conns, length), slack))
		}
		many, one := load(64, b.length, 0), load(1, b.length/2, c.slack)
		reference := c.reference
		if c.slack > 0 {
			reference += fmt.Sprintf(" + %v", c.slack)
		}
		rows = append(rows,
			measurement{name: c.name + ", 64 connections / " + c.reference, bar: c.bar, atLeast: true, measure: many.row(perSecond, rate)},
			measurement{name: c.name + ", CPU at 64 / " + c.reference, measure: many.row(microseconds, cpu)},
			measurement{name: c.name + ", p50 at 1 / " + reference, bar: c.one, measure: one.row(latencyText, p50)},
			measurement{name: c.name + ", CPU at 1 / " + c.reference, measure: one.row(microseconds, cpu)})
	}
	full := sync.OnceValues(func() (*served, error) {
		cmd, err := child(b.ctx, "http-full")
		if err != nil {
			return nil, err
		}
		return b.served(start(cmd))
	})
	refused := b.webLoad(full, client.Post("/"), 64, b.length, statusEnv+"=503")
	for _, c := range []struct {
		name   string
		served client.Request
		bar    float64
	}{{"Python noop", client.Post("/noop"), 0}, {"FastAPI", client.Get("/fastapi" + item), 0.1}} {
		load := b.once(refused, b.webLoad(helve, c.served, 64, b.length))
		rows = append(rows, measurement{name: "HTTP 503, CPU at 64 / served " + c.name, bar: c.bar, measure: load.row(microseconds, cpu)})
	}
	for _, mb := range []int{1, 10} {
		size := mb << 20
		down := fmt.Sprintf("/down?%d", size)
		for _, c := range []struct {
			name         string
			ours, theirs client.Request
		}{
			{"up", client.Upload("/asgi/up", size), client.Upload("/up", size)},
			{"down", client.Get("/asgi" + down), client.Get(down)},
		} {
			load := b.once(b.webLoad(helve, c.ours, 1, b.length/2), b.webLoad(raw, c.theirs, 1, b.length/2))
			rows = append(rows,
				measurement{name: fmt.Sprintf("ASGI, %d MB %s / uvicorn", mb, c.name), measure: load.row(latencyText, p50)},
				measurement{name: fmt.Sprintf("ASGI, %d MB %s, CPU / uvicorn", mb, c.name), measure: load.row(microseconds, cpu)})
		}
	}
	return rows
}
