package main

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/client"
	"github.com/helve-serve/helve/bench/stat"
)

// httpBareRole is net/http with the same handler: it reads the body and sends it back as text.
func httpBareRole() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write(body)
	}))
	return ready(l.Addr())
}

// httpHelveRole is the proxy, the router and a Go replica in the node or in a worker.
func httpHelveRole(isolation helve.Isolation) error {
	ctx := context.Background()
	s, _, err := startEcho(ctx, isolation)
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	url, _, err := s.Serve("127.0.0.1:0")
	if err != nil {
		return err
	}
	return ready(strings.TrimPrefix(url, "http://"))
}

// Hold is a method that answers when its context ends.
type Hold struct{}

// Wait waits for the end of ctx.
func (*Hold) Wait(ctx context.Context, _ string) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

// httpFullRole is an application whose only slot and only place in the queue are taken, so that every further request is answered with 503.
func httpFullRole() error {
	ctx := context.Background()
	s, err := helve.Run(ctx, func() (*helve.App, error) {
		app := helve.NewApp("full")
		h := helve.Deploy(app, "Hold", func(context.Context) (*Hold, error) { return &Hold{}, nil },
			helve.Options{MaxOngoingRequests: new(1), MaxQueuedRequests: new(1)})
		app.Ingress(helve.MethodOf(h, (*Hold).Wait))
		return app, nil
	})
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	url, _, err := s.Serve("127.0.0.1:0")
	if err != nil {
		return err
	}
	for range 2 {
		go http.Post(url, "text/plain", strings.NewReader("x")) //nolint:errcheck,bodyclose // it ends with the process
	}
	for {
		if hold := s.Status().Applications["full"].Deployments["Hold"].Calls; hold.Running == 1 && hold.Queued == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return ready(strings.TrimPrefix(url, "http://"))
}

// load has the client's numbers.
type load struct {
	Rate     float64
	P50      time.Duration
	P99      time.Duration
	Requests int
}

// loadRole is the client: keep-alive connections, one request at a time on each, as little work per request as can be.
func loadRole() error {
	addr := os.Getenv(addrEnv)
	conns, err := strconv.Atoi(os.Getenv(connsEnv))
	if err != nil {
		return err
	}
	length, err := time.ParseDuration(os.Getenv(timeEnv))
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(os.Getenv(sizeEnv))
	if err != nil {
		return err
	}
	request := client.Request{Text: os.Getenv(requestEnv), Size: size}.Bytes()
	start := time.Now()
	all, err := client.Load(addr, conns, length, request, cmp.Or(os.Getenv(statusEnv), "200"))
	if err != nil {
		return err
	}
	rate := float64(len(all)) / time.Since(start).Seconds()
	return json.NewEncoder(os.Stdout).Encode(load{rate, stat.Median(all), stat.Quantile(all, 0.99), len(all)})
}

func (b *bench) load(addr string, r client.Request, conns int, length time.Duration, env ...string) (load, error) {
	var l load
	out, err := b.output("load", append(env, addrEnv+"="+addr, connsEnv+"="+strconv.Itoa(conns), timeEnv+"="+length.String(),
		requestEnv+"="+r.Text, sizeEnv+"="+strconv.Itoa(r.Size))...)
	if err != nil {
		return l, err
	}
	return l, json.Unmarshal(out, &l)
}

func httpRows(b *bench) []measurement {
	helveAddr := sync.OnceValues(func() (string, error) { return b.serve("http-helve") })
	bareAddr := sync.OnceValues(func() (string, error) { return b.serve("http-bare") })
	row := func(text func(sample) string, measure func(addr string) (sample, error)) func() (result, error) {
		return func() (result, error) {
			ours, err := helveAddr()
			if err != nil {
				return result{}, err
			}
			bare, err := bareAddr()
			if err != nil {
				return result{}, err
			}
			return b.row(text,
				func() (sample, error) { return measure(ours) },
				func() (sample, error) { return measure(bare) })
		}
	}
	rate := func(addr string) (sample, error) {
		l, err := b.load(addr, client.Post("/"), 64, b.length)
		return sample{v: l.Rate}, err
	}
	latency := func(conns int) func(string) (sample, error) {
		return func(addr string) (sample, error) {
			l, err := b.load(addr, client.Post("/"), conns, b.length/2)
			return sample{v: float64(l.P50), p99: float64(l.P99)}, err
		}
	}
	fullAddr := sync.OnceValues(func() (string, error) { return b.serve("http-full") })
	workerAddr := sync.OnceValues(func() (string, error) { return b.serve("http-worker") })
	refused := func() (result, error) {
		full, err := fullAddr()
		if err != nil {
			return result{}, err
		}
		worker, err := workerAddr()
		if err != nil {
			return result{}, err
		}
		return b.row(perSecond, func() (sample, error) {
			l, err := b.load(full, client.Post("/"), 64, b.length, statusEnv+"=503")
			return sample{v: l.Rate}, err
		}, func() (sample, error) { return rate(worker) })
	}
	return []measurement{
		{name: "HTTP 503, 64 connections / served by a Go worker", measure: refused},
		{name: "HTTP noop, 64 connections / net/http", bar: 0.75, atLeast: true, measure: row(perSecond, rate)},
		{name: "HTTP noop, p50 at 64 / net/http", measure: row(latencyText, latency(64))},
		{name: "HTTP noop, p50 at 1 / net/http", measure: row(latencyText, latency(1))},
	}
}
