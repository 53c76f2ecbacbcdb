package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/client"
	"github.com/helve-serve/helve/bench/proc"
	"github.com/helve-serve/helve/bench/stat"
	"github.com/helve-serve/helve/metrics"
)

// The ways to observe a node whose cost is measured, each by itself.
const (
	byNothing = ""
	byMetrics = "metrics"
	byLog     = "access log"
	byTraces  = "1 % traces"
)

// observedEnv has one of them, for the role observed.
const observedEnv = "BENCH_OBSERVED"

// observedRole is an echo behind HTTP in the node.
func observedRole() error {
	ctx := context.Background()
	c := helve.Config{HTTP: "127.0.0.1:0", Admin: "private"}
	switch os.Getenv(observedEnv) {
	case byMetrics:
		c.Metrics = metrics.Handler
	case byLog:
		f, err := os.CreateTemp("", "access")
		if err != nil {
			return err
		}
		defer os.Remove(f.Name())
		c.AccessLog = f
	}
	s, err := c.Run(ctx, buildEcho)
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	url, _ := s.HTTP()
	return ready(strings.TrimPrefix(url, "http://"))
}

// observed is a node that is observed in one way, with the client of its admin interface.
type observed struct {
	by     string
	server *served
	admin  *http.Client
	load   func(*observed) (requests float64, err error)
}

// sampled is the body that has a node sample a hundredth of the requests. No application of a file is there to be deleted.
const sampled = `{"applications": [], "tracing_config": {"enabled": true, "sampling_ratio": 0.01}}`

// observed starts a node in a runtime directory of its own, until the group ends.
func (b *bench) observed(by string, start func(by string, env ...string) (*served, error), load func(*observed) (float64, error)) (*observed, error) {
	dir, err := b.tempDir()
	if err != nil {
		return nil, err
	}
	o := &observed{by: by, load: load}
	if o.server, err = start(by, "HELVE_RUNTIME_DIR="+dir, "HELVE_NODE=local"); err != nil {
		return nil, err
	}
	sockets, err := filepath.Glob(filepath.Join(dir, "*", "admin.sock"))
	if err != nil || len(sockets) != 1 {
		return nil, fmt.Errorf("%d admin interfaces, want one: %w", len(sockets), err)
	}
	o.admin = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", sockets[0])
	}}}
	b.onEnd(o.admin.CloseIdleConnections)
	if by == byTraces {
		err = o.ask(b.ctx, http.MethodPut, "/api/serve/applications/", sampled)
	}
	return o, err
}

// ask asks the admin interface.
func (o *observed) ask(ctx context.Context, method, path, body string) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := o.admin.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return err
}

// scrapeEvery is how often the metrics are scraped: the fastest that Prometheus is set to as a rule.
const scrapeEvery = time.Second

// cpu is the processor time of the node, and of the processes that it has to do with, for a request. Metrics are scraped meanwhile.
func (o *observed) cpu(ctx context.Context) (perRequest float64, err error) {
	pid := o.server.cmd.Process.Pid
	before, err := proc.TreeCPU(pid)
	if err != nil {
		return 0, err
	}
	var scraper sync.WaitGroup
	var failed error
	done := make(chan struct{})
	if o.by == byMetrics {
		scraper.Go(func() {
			for t := time.NewTimer(0); failed == nil; t.Reset(scrapeEvery) {
				select {
				case <-t.C:
					failed = o.ask(ctx, http.MethodGet, "/metrics", "")
				case <-done:
					return
				}
			}
		})
	}
	n, err := o.load(o)
	close(done)
	scraper.Wait()
	after, err2 := proc.TreeCPU(pid)
	return float64(after-before) / max(n, 1), errors.Join(err, failed, err2)
}

// pairs is how often each way is compared with none.
const pairs = 20

// observedRows compare the processor time of requests to nodes that are observed with that of a node that is not, in turns.
func (b *bench) observedRows(name string, start func(by string, env ...string) (*served, error), load func(*observed) (float64, error)) (rows []measurement) {
	ways := []string{byNothing, byMetrics, byLog, byTraces}
	take := sync.OnceValues(func() (all map[string][]float64, err error) {
		var nodes []*observed
		for _, by := range ways {
			o, err := b.observed(by, start, load)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", by, err)
			}
			nodes = append(nodes, o)
		}
		rounds := pairs
		if b.rounds == 1 {
			rounds = 1
		}
		all = map[string][]float64{}
		for i := range rounds + 1 {
			for _, o := range nodes {
				cpu, err := o.cpu(b.ctx)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", o.by, err)
				}
				if i > 0 { // the first round warms up
					all[o.by] = append(all[o.by], cpu)
				}
			}
		}
		return all, nil
	})
	for _, by := range ways[1:] {
		rows = append(rows, measurement{name: fmt.Sprintf("%s, CPU of 10,000, with / without %s", name, by), bar: 1.05, measure: func() (result, error) {
			all, err := take()
			if err != nil {
				return result{}, err
			}
			var ratios []float64
			for i, cpu := range all[by] {
				ratios = append(ratios, cpu/all[byNothing][i])
			}
			seconds := func(cpu []float64) string { return fmt.Sprintf("%.3f s", stat.Median(cpu)*10000/1e9) }
			return result{seconds(all[by]), seconds(all[byNothing]), stat.Median(ratios)}, nil
		}})
	}
	return rows
}

// observedHTTPRows are the rows of HTTP to a Go replica in the node, by 64 connections.
func observedHTTPRows(b *bench) []measurement {
	return b.observedRows("HTTP noop", func(by string, env ...string) (*served, error) {
		cmd, err := child(b.ctx, "observed", append(env, observedEnv+"="+by)...)
		if err != nil {
			return nil, err
		}
		return b.served(start(cmd))
	}, func(o *observed) (float64, error) {
		l, err := b.load(o.server.line, client.Post("/"), 64, b.length*3/10)
		return float64(l.Requests), err
	})
}

// observedPythonRows are the rows of calls of a Python program to a Python replica, 64 at a time.
func observedPythonRows(b *bench) []measurement {
	return b.observedRows("Python handle call", func(by string, env ...string) (*served, error) {
		cmd := command(b.ctx, pythonPath(), "pybench/observed.py")
		cmd.Env = append(append(os.Environ(), env...), "HELVE_HTTP=none")
		if by == byLog {
			cmd.Env = append(cmd.Env, "HELVE_ACCESS_LOG=text")
		}
		return b.served(start(cmd))
	}, func(o *observed) (float64, error) {
		if err := json.NewEncoder(o.server.in).Encode(runIn{Seconds: b.length.Seconds() * 3 / 10, InFlight: 64}); err != nil {
			return 0, err
		}
		line, err := o.server.out.ReadBytes('\n')
		if err != nil {
			return 0, err
		}
		var t timings
		err = json.Unmarshal(line, &t)
		return t.Calls, err
	})
}
