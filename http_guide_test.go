package helve_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve"
)

// This file is the code of docs/http.md.

// Feed is a handler that streams until its client leaves or the node drains.
type Feed struct {
	news  chan string
	score helve.Method[string, int]
}

func (f *Feed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for {
		select {
		case text := <-f.news:
			score, err := f.score.Call(r.Context(), text)
			if err != nil {
				http.Error(w, "the scorer has failed", helve.HTTPStatus(err)) // 503 if its queue is full, 408 if it took too long
				return
			}
			fmt.Fprintln(w, score)
			http.NewResponseController(w).Flush()
		case <-helve.Draining(r.Context()):
			fmt.Fprintln(w, "connect again") // another node answers then
			return
		case <-r.Context().Done():
			return
		}
	}
}

func buildFeed(f *Feed) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp("feed")
		score := helve.Deploy(app, "Scorer", NewScorer, helve.Options{})
		f.score = helve.MethodOf(score, (*Scorer).Score)
		feed := helve.Deploy(app, "Feed", func(context.Context) (*Feed, error) { return f, nil }, helve.Options{Uses: []helve.Target{f.score}})
		app.Ingress(helve.HTTP(feed))
		app.IngressOptions(helve.IngressOptions{
			MaxBody:        1 << 20,
			RequestTimeout: time.Minute,
			CORS:           &helve.CORS{Origins: []string{"https://app.example.com", "https://*.example.org"}, MaxAge: time.Hour},
		})
		return app, nil
	}
}

// ownServer serves the applications of a system below a path of a program's own router.
func ownServer(ctx context.Context, build helve.Build, mux *http.ServeMux) (*helve.System, error) {
	sys, err := helve.Config{HTTPOptions: helve.HTTPOptions{RootPath: "/models"}}.Run(ctx, build)
	if err != nil {
		return nil, err
	}
	mux.Handle("/models/", http.StripPrefix("/models", sys.Handler()))
	return sys, nil
}

// shutDown ends a program whose own server has the applications of a system in its router.
func shutDown(ctx context.Context, server *http.Server, sys *helve.System) error {
	sys.StartDrain(ctx)                     // health says no, and streams that watch helve.Draining end
	err := server.Shutdown(ctx)             // requests under way finish
	return errors.Join(err, sys.Close(ctx)) // the error names what did not finish
}

// production is a configuration for a node behind a load balancer.
func production(certificate, key string) helve.Config {
	return helve.Config{
		HTTP: "0.0.0.0:8443,unix:/run/helve/http.sock",
		HTTPOptions: helve.HTTPOptions{
			TLS:            helve.TLS{Certificate: certificate, Key: key},
			RequestTimeout: time.Minute,
			DrainDelay:     15 * time.Second, // longer than the load balancer needs to see that the node is unhealthy
			TrustForwarded: []string{"10.0.0.0/8"},
		},
	}
}

// TestGuideHTTP runs the code of docs/http.md.
func TestGuideHTTP(t *testing.T) {
	t.Parallel()
	feed := &Feed{news: make(chan string, 1)}
	mux := http.NewServeMux()
	sys, err := ownServer(t.Context(), buildFeed(feed), mux)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(mux)
	defer server.Close()
	feed.news <- "a text"
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/models/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Origin", "https://shop.example.org")
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if origin := answer.Header.Get("Access-Control-Allow-Origin"); origin != "https://shop.example.org" {
		t.Errorf("origin %q", origin)
	}
	if err := shutDown(context.Background(), server.Config, sys); err != nil { // although the stream has no end of its own
		t.Error(err)
	}
	if b, err := io.ReadAll(answer.Body); err != nil || !strings.HasSuffix(string(b), "\nconnect again\n") {
		t.Errorf("%q %v", b, err)
	}
	if _, err := production("/no/such/file", "/no/such/key").Run(t.Context(), buildFeed(feed)); err == nil || !strings.Contains(err.Error(), "HTTPOptions: TLS.Certificate: ") {
		t.Errorf("%v", err)
	}
}
