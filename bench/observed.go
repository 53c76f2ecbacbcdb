package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/client"
	"github.com/helve-serve/helve/bench/proc"
	"github.com/helve-serve/helve/bench/stat"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/metrics"
)

// The ways to observe a node whose cost is measured, each by itself.
const (
	byNothing    = ""
	byMetrics    = "metrics"
	byLog        = "access log"
	byTraces     = "1 % traces"
	bySpans      = "a span, 1 % traces" // of the program, in each call
	byProfile    = "CPU profile under way"
	byNoWatchdog = "no stall watchdog"
)

// A way is compared with another one. The bar is that of the ratio.
type comparison struct {
	name, with, without string
	bar                 float64
}

// The bars. A continuous profile measures one second of ten: it costs a tenth of what the row of a profile under way shows.
const (
	observedBar = 1.05
	profileBar  = 1.5
)

// comparisons are those of Go; Python has one more.
var comparisons = []comparison{
	{byMetrics, byMetrics, byNothing, observedBar}, {byLog, byLog, byNothing, observedBar}, {byTraces, byTraces, byNothing, observedBar},
	{bySpans, bySpans, byNothing, observedBar}, {byProfile, byProfile, byNothing, profileBar},
}

// observedEnv has one of them, for the role observed.
const observedEnv = "BENCH_OBSERVED"

// observedRole is an echo behind HTTP in the node.
func observedRole() error {
	ctx := context.Background()
	c, build := helve.Config{HTTP: "127.0.0.1:0", Admin: "private"}, helve.Build(buildEcho)
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
	case bySpans:
		build = buildSpanned
	}
	s, err := c.Run(ctx, build)
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	served, _ := s.HTTP()
	return ready(strings.TrimPrefix(served, "http://"))
}

// Spanned is Echo with a span of its own.
type Spanned struct{}

// Echo gives what it gets.
func (*Spanned) Echo(ctx context.Context, s string) (string, error) {
	_, span := helve.Span(ctx, "part")
	defer span.End()
	return s, nil
}

func buildSpanned() (*helve.App, error) {
	app := helve.NewApp("echo")
	h := helve.Deploy(app, "Echo", func(context.Context) (*Spanned, error) { return &Spanned{}, nil },
		helve.Options{NumReplicas: new(2), MaxOngoingRequests: new(1000)})
	app.Ingress(helve.MethodOf(h, (*Spanned).Echo))
	return app, nil
}

// observed is a node that is observed in one way, with the client of its admin interface.
type observed struct {
	by, dir string
	server  *served
	admin   *http.Client
	profile string // the path of a profile that is taken under the load
	load    func(o *observed, length time.Duration) (requests float64, err error)
}

// sampled is the body that has a node sample a hundredth of the requests. No application of a file is there to be deleted.
const sampled = `{"applications": [], "tracing_config": {"enabled": true, "sampling_ratio": 0.01}}`

// observed starts a node in a runtime directory of its own, until end.
func (b *bench) observed(by string, command func(by string, env ...string) (*exec.Cmd, error), load func(*observed, time.Duration) (float64, error)) (o *observed, err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	o = &observed{by: by, load: load, dir: dir}
	defer func() {
		if err != nil {
			o.end()
		}
	}()
	cmd, err := command(by, "HELVE_RUNTIME_DIR="+dir, "HELVE_NODE=local", observedEnv+"="+by)
	if err != nil {
		return nil, err
	}
	if o.server, err = start(cmd); err != nil {
		return nil, err
	}
	sockets, err := filepath.Glob(filepath.Join(dir, "*", "admin.sock"))
	if err != nil || len(sockets) != 1 {
		return nil, fmt.Errorf("%d admin interfaces, want one: %w", len(sockets), err)
	}
	o.admin = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", sockets[0])
	}}}
	if by == byTraces || by == bySpans {
		_, err = o.ask(b.ctx, http.MethodPut, "/api/serve/applications/", sampled)
	}
	if by == byProfile {
		o.profile, err = o.profileOf(b.ctx)
	}
	return o, err
}

// end ends the node.
func (o *observed) end() {
	if o.admin != nil {
		o.admin.CloseIdleConnections()
	}
	if o.server != nil {
		o.server.stop()
	}
	os.RemoveAll(o.dir)
}

// profileOf is the path of the shortest CPU profile of a replica of the node.
func (o *observed) profileOf(ctx context.Context) (path string, err error) {
	answer, err := o.ask(ctx, http.MethodGet, "/api/v1/status", "")
	if err != nil {
		return "", err
	}
	var status helvetype.Status
	if err := json.Unmarshal(answer, &status); err != nil {
		return "", err
	}
	for app, a := range status.Applications {
		for deployment, d := range a.Deployments {
			for _, r := range d.Replicas {
				return "/api/v1/applications/" + app + "/deployments/" + deployment + "/replicas/" + url.PathEscape(r.ID) + "/profile?kind=cpu&seconds=1", nil
			}
		}
	}
	return "", errors.New("the node has no replica")
}

// ask asks the admin interface.
func (o *observed) ask(ctx context.Context, method, path, body string) (answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := o.admin.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return answer, err
}

// scrapeEvery is how often the metrics are scraped: the fastest that Prometheus is set to as a rule.
const scrapeEvery = time.Second

// cpu is the processor time of the node, and of the processes that it has to do with, for a request. Metrics are scraped meanwhile, or a profile is taken; all of that
// counts, also what a profile costs after the load.
func (o *observed) cpu(ctx context.Context, length time.Duration) (perRequest float64, err error) {
	pid := o.server.cmd.Process.Pid
	before, err := proc.TreeCPU(pid)
	if err != nil {
		return 0, err
	}
	var beside sync.WaitGroup
	var failed error
	done := make(chan struct{})
	switch o.by {
	case byMetrics:
		beside.Go(func() {
			for t := time.NewTimer(min(scrapeEvery, length) / 2); failed == nil; t.Reset(scrapeEvery) {
				select {
				case <-t.C:
					_, failed = o.ask(ctx, http.MethodGet, "/metrics", "")
				case <-done:
					return
				}
			}
		})
	case byProfile:
		beside.Go(func() { _, failed = o.ask(ctx, http.MethodGet, o.profile, "") })
	}
	n, err := o.load(o, length)
	close(done)
	beside.Wait()
	after, err2 := proc.TreeCPU(pid)
	return float64(after-before) / max(n, 1), errors.Join(err, failed, err2)
}

// Each way is compared pairs times, in nodes that are started anew for each part of the pairs: two processes of the same program differ by some percent for
// as long as they live, by the places of their memory.
const (
	pairs = 20
	parts = 4
)

// takePairs measures the processor time of a request with and without a way, in turns. The one that comes first changes with each pair.
func (b *bench) takePairs(c comparison, command func(by string, env ...string) (*exec.Cmd, error), load func(*observed, time.Duration) (float64, error)) (with, without, ratios []float64, err error) {
	part, rounds, length := parts, pairs/parts, b.length*3/10
	if c.with == byMetrics {
		length = min(b.length, scrapeEvery) // so that a load has one scrape
	}
	if b.rounds == 1 {
		part, rounds = 1, 1
	}
	take := func() error {
		var nodes [2]*observed
		for i, by := range [...]string{c.with, c.without} {
			if nodes[i], err = b.observed(by, command, load); err != nil {
				return fmt.Errorf("%s: %w", by, err)
			}
			defer nodes[i].end()
		}
		for i := range rounds + 1 {
			var cpu [2]float64
			for j := range nodes {
				side := (i + j) % 2
				if cpu[side], err = nodes[side].cpu(b.ctx, length); err != nil {
					return fmt.Errorf("%s: %w", nodes[side].by, err)
				}
			}
			if i > 0 { // the first round warms up
				with, without, ratios = append(with, cpu[0]), append(without, cpu[1]), append(ratios, cpu[0]/cpu[1])
			}
		}
		return nil
	}
	for range part {
		if err := take(); err != nil {
			return nil, nil, nil, err
		}
	}
	return with, without, ratios, nil
}

// observedRows compare the processor time of requests to nodes that are observed with that of a node that is not.
func (b *bench) observedRows(name string, rows []comparison, command func(by string, env ...string) (*exec.Cmd, error), load func(*observed, time.Duration) (float64, error)) (out []measurement) {
	for _, r := range rows {
		out = append(out, measurement{name: fmt.Sprintf("%s, CPU of 10,000, with / without %s", name, r.name), bar: r.bar, measure: func() (result, error) {
			with, without, ratios, err := b.takePairs(r, command, load)
			if err != nil {
				return result{}, err
			}
			seconds := func(cpu []float64) string { return fmt.Sprintf("%.3f s", stat.Median(cpu)*10000/1e9) }
			return result{seconds(with), seconds(without), stat.Median(ratios)}, nil
		}})
	}
	return out
}

// observedHTTPRows are the rows of HTTP to a Go replica in the node, by 64 connections.
func observedHTTPRows(b *bench) []measurement {
	return b.observedRows("HTTP noop", comparisons, func(_ string, env ...string) (*exec.Cmd, error) {
		return child(b.ctx, "observed", env...)
	}, func(o *observed, length time.Duration) (float64, error) {
		l, err := b.load(o.server.line, client.Post("/"), 64, length)
		return float64(l.Requests), err
	})
}

// observedPythonRows are the rows of calls of a Python program to a Python replica, 64 at a time.
func observedPythonRows(b *bench) []measurement {
	rows := append(slices.Clone(comparisons), comparison{"the stall watchdog", byNothing, byNoWatchdog, observedBar})
	return b.observedRows("Python handle call", rows, func(by string, env ...string) (*exec.Cmd, error) {
		cmd := command(b.ctx, pythonPath(), "pybench/observed.py")
		cmd.Env = append(append(os.Environ(), env...), "HELVE_HTTP=none")
		if by == byLog {
			cmd.Env = append(cmd.Env, "HELVE_ACCESS_LOG=text")
		}
		return cmd, nil
	}, func(o *observed, length time.Duration) (float64, error) {
		if err := json.NewEncoder(o.server.in).Encode(runIn{Seconds: length.Seconds(), InFlight: 64}); err != nil {
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
