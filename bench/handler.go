package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/client"
)

// Page is a handler of HTTP: it sends a short body back, takes a long one, or gives one.
type Page struct{ zeros []byte }

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/up":
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		io.WriteString(w, strconv.FormatInt(n, 10))
	case "/down":
		n, err := strconv.Atoi(r.URL.RawQuery)
		if err != nil || n > len(p.zeros) {
			http.Error(w, "how many bytes?", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", r.URL.RawQuery)
		w.Write(p.zeros[:n])
	default:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write(body)
	}
}

func newPage() *Page { return &Page{make([]byte, 10<<20)} }

// handlerBareRole is net/http with the handler.
func handlerBareRole() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go http.Serve(l, newPage())
	return ready(l.Addr())
}

// handlerRole is the proxy, the router and the handler in the node or in a worker.
func handlerRole(isolation helve.Isolation) error {
	ctx := context.Background()
	s, err := helve.Run(ctx, buildPage(isolation))
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

func buildPage(isolation helve.Isolation) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp("page")
		app.Ingress(helve.HTTP(helve.Deploy(app, "Page", func(context.Context) (*Page, error) { return newPage(), nil },
			helve.Options{MaxOngoingRequests: new(1000), Isolation: isolation})))
		return app, nil
	}
}

// handlerRows compare a handler in the node and in a worker with the same handler in net/http.
func handlerRows(b *bench) (rows []measurement) {
	bare := sync.OnceValues(func() (string, error) { return b.serve("handler-bare") })
	for _, place := range []struct {
		name, role string
	}{{"in process", "handler-helve"}, {"in a worker", "handler-worker"}} {
		ours := sync.OnceValues(func() (string, error) { return b.serve(place.role) })
		for _, c := range []struct {
			name    string
			request client.Request
			conns   int
		}{
			{"noop, 64 connections", client.Post("/"), 64},
			{"1 MB up, 8 connections", client.Upload("/up", 1<<20), 8},
			{"1 MB down, 8 connections", client.Get("/down?" + strconv.Itoa(1<<20)), 8},
			{"10 MB up, 8 connections", client.Upload("/up", 10<<20), 8},
			{"10 MB down, 8 connections", client.Get("/down?" + strconv.Itoa(10<<20)), 8},
		} {
			measure := func(addr func() (string, error)) func() (sample, error) {
				return func() (sample, error) {
					at, err := addr()
					if err != nil {
						return sample{}, err
					}
					l, err := b.load(at, c.request, c.conns, b.length)
					return sample{v: l.Rate}, err
				}
			}
			rows = append(rows, measurement{name: "Go handler " + place.name + ", " + c.name + " / net/http", measure: func() (result, error) {
				return b.row(perSecond, measure(ours), measure(bare))
			}})
		}
	}
	return rows
}
