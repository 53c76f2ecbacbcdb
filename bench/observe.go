package main

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/metrics"
)

// Meeting is a deployment whose calls end once all replicas have one, so that each replica has executed a call.
type Meeting struct{ of *meetings }

// meetings counts the calls that wait for each other.
type meetings struct {
	mu      sync.Mutex
	waiting int
	size    int
	over    chan struct{}
}

// Meet returns when as many calls have come as there are replicas.
func (m Meeting) Meet(ctx context.Context, s string) (string, error) {
	m.of.mu.Lock()
	m.of.waiting++
	if m.of.waiting == m.of.size {
		close(m.of.over)
	}
	m.of.mu.Unlock()
	select {
	case <-m.of.over:
		return s, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// met is an application of one deployment of Meeting.
func met(name string, replicas int) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp(name)
		app.RoutePrefix("/" + name)
		of := &meetings{size: replicas, over: make(chan struct{})}
		h := helve.Deploy(app, "Meeting", func(context.Context) (Meeting, error) { return Meeting{of}, nil },
			helve.Options{NumReplicas: new(replicas), MaxOngoingRequests: new(1)})
		app.Ingress(helve.MethodOf(h, Meeting.Meet))
		return app, nil
	}
}

// scraped is a node with many replicas, each of which has executed a call, until the group ends. It is the URL of the metrics.
func (b *bench) scraped(apps, replicas int) (string, error) {
	sys, err := helve.Config{HTTP: "127.0.0.1:0", Admin: "127.0.0.1:0", Metrics: metrics.Handler}.Run(b.ctx, met("app0", replicas))
	if err != nil {
		return "", err
	}
	b.onEnd(func() { sys.Close(context.WithoutCancel(b.ctx)) }) //nolint:errcheck // the rows are over
	url, _ := sys.HTTP()
	for i := range apps {
		name := fmt.Sprint("app", i)
		if i > 0 {
			if err := sys.Deploy(b.ctx, met(name, replicas)); err != nil {
				return "", err
			}
		}
		errs := make([]error, replicas)
		var wg sync.WaitGroup
		for j := range replicas {
			wg.Go(func() { errs[j] = meet(b.ctx, url+"/"+name) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return "", err
		}
	}
	return sys.AdminURL() + "/metrics", nil
}

func meet(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("x"))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %w", resp.Status, body, err)
	}
	return nil
}

// scrape reads a page of metrics as Prometheus does, compressed, and gives its size as text and as it was sent.
func (b *bench) scrape(url string) (page, sent int64, err error) {
	r, err := http.NewRequestWithContext(b.ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, 0, err
	}
	r.Header.Set("Accept-Encoding", "gzip")
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("%s: %w", resp.Status, err)
	}
	z, err := gzip.NewReader(strings.NewReader(string(body)))
	if err != nil {
		return 0, 0, err
	}
	page, err = io.Copy(io.Discard, z)
	return page, int64(len(body)), err
}

// The bars of a scrape of 1,000 replicas.
const (
	scrapeTime = 30.0 // ms
	scrapeSize = 2e6  // bytes
)

// observeRows measure the cost of observing a node.
func observeRows(b *bench) (rows []measurement) {
	all := 1000
	if b.rounds == 1 {
		all = 100
	}
	for _, apps := range []int{10, all / 10} {
		name := fmt.Sprintf("scrape of %d replicas, %d deployments", all, apps)
		url := sync.OnceValues(func() (string, error) { return b.scraped(apps, all/apps) })
		rows = append(rows, millisecondRows(name, [2]float64{scrapeTime, scrapeTime}, func() (wall, cpu float64, err error) {
			u, err := url()
			if err != nil {
				return 0, 0, err
			}
			return b.statusOf(func() error {
				_, _, err := b.scrape(u)
				return err
			})
		})...)
		rows = append(rows, measurement{name: name + ", page / 2 MB", bar: 1, exact: true, measure: func() (result, error) {
			u, err := url()
			if err != nil {
				return result{}, err
			}
			page, sent, err := b.scrape(u)
			return result{fmt.Sprintf("%.2f MB", float64(page)/1e6), fmt.Sprintf("%.2f MB sent", float64(sent)/1e6), float64(page) / scrapeSize}, err
		}})
	}
	return append(append(append(rows, b.keptRow()), observedHTTPRows(b)...), observedPythonRows(b)...)
}
