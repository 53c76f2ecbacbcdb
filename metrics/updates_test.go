package metrics_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/metrics"
)

type ranker struct{}

func (ranker) Rank(_ context.Context, n int) (int, error) {
	if n == 0 {
		return 0, errors.New("nothing to rank")
	}
	return n, nil
}

type gateway struct{ rank helve.Method[int, int] }

func (g gateway) Ask(ctx context.Context, n int) (int, error) { return g.rank.Call(ctx, n) }

func buildRanked() (*helve.App, error) {
	app := helve.NewApp("ranked")
	app.RoutePrefix("/ranked")
	rank := helve.MethodOf(helve.Deploy(app, "Ranker", func(context.Context) (ranker, error) { return ranker{}, nil }, helve.Options{}), ranker.Rank)
	h := helve.Deploy(app, "Gateway", func(context.Context) (gateway, error) { return gateway{rank}, nil }, helve.Options{Uses: []helve.Target{rank}})
	app.Ingress(helve.MethodOf(h, gateway.Ask))
	return app, nil
}

// follow gives the items of a stream of updates, and the figures of all items so far by kind, name and column.
func follow(t *testing.T, address string, until func(u helvetype.Update, figures map[string]float64) bool) {
	t.Helper()
	r, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	figures := map[string]float64{}
	for lines := bufio.NewReader(r.Body); ; {
		b, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatalf("%v, with %v", err, figures)
		}
		var u helvetype.Update
		if err := json.Unmarshal(b, &u); err != nil {
			t.Fatal(err)
		}
		for _, f := range slices.Concat(u.Figures.Applications, u.Figures.Deployments, u.Figures.Replicas, u.Figures.Edges) {
			for column, all := range f.Columns {
				for i, v := range all {
					if v != nil {
						figures[f.Names[i]+" "+column] = *v
					}
				}
			}
		}
		if until(u, figures) {
			return
		}
	}
}

func get(t *testing.T, address string) []byte {
	t.Helper()
	r, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %v: %s", address, r.Status, err, b)
	}
	return b
}

// TestUpdates: while nothing calls, the figures of the stream of updates are those of the status and of the metrics; while calls are made, the edges have their rates; and the series of the last hour has them too.
func TestUpdates(t *testing.T) {
	t.Parallel()
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Process} {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			c := r.Config
			c.Admin, c.Metrics = "127.0.0.1:0", metrics.Handler
			sys := helvetest.Start(t, c, buildRanked)
			serves, _, err := sys.Serve("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			call := func(n int) {
				r, err := http.Post(serves+"/ranked", "application/json", strings.NewReader(fmt.Sprint(n)))
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, r.Body) //nolint:errcheck // the status is enough
				r.Body.Close()
			}
			address := sys.AdminURL() + "/api/v1/updates?app=ranked&deployment=Ranker"
			var over time.Time // when the calls have ended
			follow(t, address, func(u helvetype.Update, figures map[string]float64) bool {
				if u.Whole {
					for i := range 50 {
						call(i % 10)
					}
					over = time.Now()
				}
				// An item of the moment of the last call may have 50 calls of Ranker, and Gateway's 50th not yet.
				if _, known := figures["Ranker p99_ms"]; !known || figures["Ranker calls"] < 50 || u.At.Before(over) {
					return false
				}
				var s helvetype.Status
				if err := json.Unmarshal(get(t, sys.AdminURL()+"/api/v1/status"), &s); err != nil {
					t.Fatal(err)
				}
				// The node counts the calls of the last minute once a second, and a replica gives a slot back after its answer: the test waits for an item with all calls and no running call.
				if m := s.Applications["ranked"].Requests; (m == nil || m.Calls < 50 || figures["ranked running"] > 0) && time.Since(over) < 30*time.Second {
					return false
				}
				page := string(get(t, sys.AdminURL()+"/metrics"))
				d := s.Applications["ranked"].Deployments["Ranker"]
				for name, want := range map[string]float64{
					"Ranker calls": 50, "Ranker errors": 5, "Ranker queued": 0, "Ranker running": 0, "Gateway calls": 50, "Gateway errors": 5, d.Replicas[0].ID + " calls": 50, d.Replicas[0].ID + " errors": 5,
					"ranked running": 0, "ranked ready": 2, "ranked wanted": 2,
				} {
					if figures[name] != want {
						t.Errorf("%s is %g, want %g", name, figures[name], want)
					}
				}
				if d.Calls.Total != 50 || d.Calls.Errors != 5 || d.LastMinute == nil || d.LastMinute.Calls == 50 && !near(d.LastMinute.P99, figures["Ranker p99_ms"]) {
					t.Errorf("the status has %+v and %+v, the stream %v", d.Calls, d.LastMinute, figures)
				}
				if m := s.Applications["ranked"].Requests; m == nil || m.Calls != 50 || m.Errors != 5 {
					t.Errorf("HTTP: %+v", m)
				}
				for _, want := range []string{
					`helve_deployment_failed_calls_total{application="ranked",deployment="Ranker"} 5` + "\n", `helve_deployment_processing_latency_ms_count{application="ranked",deployment="Ranker"} 50` + "\n",
				} {
					if !strings.Contains(page, want) {
						t.Errorf("the metrics have no %s", want)
					}
				}
				return true
			})
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				for i := 0; ctx.Err() == nil; i++ {
					call(i % 2)
				}
			}()
			follow(t, address, func(u helvetype.Update, figures map[string]float64) bool {
				for _, name := range []string{"ranked rate", "Ranker rate", "http>Gateway rate", "Gateway>Ranker rate", "Gateway>Ranker error_rate"} {
					if figures[name] == 0 {
						return false
					}
				}
				return true
			})
			for begun := time.Now(); ; {
				var s helvetype.Series
				if err := json.Unmarshal(get(t, sys.AdminURL()+"/api/v1/series?"+url.Values{"app": {"ranked"}, "deployment": {"Ranker"}, "since": {"10m"}}.Encode()), &s); err != nil {
					t.Fatal(err)
				}
				if slices.ContainsFunc(s.Columns[helvetype.ColumnErrorRate], func(v *float64) bool { return v != nil && *v > 0 }) {
					if s.Units[helvetype.ColumnP99] != "ms" || s.Step != 5 || s.From.After(time.Now()) {
						t.Errorf("%+v", s)
					}
					break
				}
				if time.Since(begun) > time.Minute {
					t.Fatalf("the series has no errors: %+v", s)
				}
				follow(t, address, func(u helvetype.Update, _ map[string]float64) bool { return !u.Whole }) // a second
			}
			stop()
			<-done
		})
	}
}

// near says that two numbers are the same to three digits.
func near(x, y float64) bool { return x == y || x > 0.999*y && x < 1.001*y }
