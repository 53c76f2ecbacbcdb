package metrics_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/metrics"
)

type echo struct {
	said *helve.CounterMetric
	size *helve.HistogramMetric
}

func newEcho(ctx context.Context) (echo, error) {
	return echo{helve.Counter(ctx, "said", "Texts.", "length"), helve.Histogram(ctx, "size", "Bytes of a text.", []float64{1, 10})}, nil
}

func (e echo) Say(_ context.Context, text string) (string, error) {
	length := "short"
	if len(text) > 10 {
		length = "long"
	}
	e.said.Add(1, length)
	e.size.Observe(float64(len(text)))
	return text, nil
}

// joined has batches and models.
type joined struct {
	batcher *helve.Batcher[string, string]
	models  *helve.Models[string]
}

func newJoined(ctx context.Context) (joined, error) {
	same := func(_ context.Context, in []string) ([]string, error) { return in, nil }
	b, err1 := helve.NewBatcher(same, helve.BatchOptions[string]{Wait: new(time.Duration), Metrics: helve.NewBatchMetrics(ctx, "same")})
	m, err2 := helve.NewModels(ctx, func(_ context.Context, id string) (string, error) { return id, nil }, helve.ModelsOptions[string]{})
	return joined{b, m}, errors.Join(err1, err2)
}

func (j joined) Say(ctx context.Context, text string) (string, error) {
	if _, release, err := j.models.GetID(ctx, "small"); err == nil {
		release()
	}
	return j.batcher.Do(ctx, text)
}

func buildJoined() (*helve.App, error) {
	app := helve.NewApp("joined")
	app.RoutePrefix("/joined")
	app.Ingress(helve.MethodOf(helve.Deploy(app, "Joined", newJoined, helve.Options{}), joined.Say))
	return app, nil
}

func build(name string) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp(name)
		app.RoutePrefix("/" + name)
		h := helve.Deploy(app, "Echo", newEcho, helve.Options{})
		app.Ingress(helve.MethodOf(h, echo.Say))
		return app, nil
	}
}

func buildCounted() (*helve.App, error) { return build("counted")() }

func TestMain(m *testing.M) { helvetest.Main(m, buildCounted, buildJoined, buildRanked) }

// program is the program of docs/metrics.md.
func program(ctx context.Context) (*helve.System, error) {
	sys, err := helve.Config{Admin: "127.0.0.1:0", Metrics: metrics.Handler}.Run(ctx, build("one"))
	if err != nil {
		return nil, err
	}
	return sys, sys.Deploy(ctx, build("two"))
}

// TestHandler: a program of its own, with two applications, shows the metrics of both at a path of its server and at the admin interface.
func TestHandler(t *testing.T) {
	t.Parallel()
	sys, err := program(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sys.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	url, _, err := sys.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for _, app := range []string{"/one", "/two"} {
		r, err := http.Post(url+app, "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
	}
	own := httptest.NewServer(metrics.Handler(sys))
	defer own.Close()
	for name, at := range map[string]string{"own server": own.URL, "admin interface": sys.AdminURL() + "/metrics"} {
		r, err := http.Get(at)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		for _, want := range []string{
			`ray_serve_num_http_requests_total{application="one",method="POST",route="/one",status_code="200"} 1`,
			`ray_serve_num_http_requests_total{application="two",method="POST",route="/two",status_code="200"} 1`,
		} {
			if err != nil || !strings.Contains(string(b), want) {
				t.Errorf("%s: %v, without %s:\n%.2000s", name, err, want, b)
			}
		}
	}
}

// TestRootLinksNoPrometheus: a program that imports package helve alone does not have Prometheus' library in its executable.
func TestRootLinksNoPrometheus(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "github.com/helve-serve/helve").Output()
	if err != nil || strings.Contains(string(out), "prometheus") || !strings.Contains(string(out), "helve/internal/admin") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestMetricsOfGo: metrics that the code of a replica defines, and those of its batches and models, are at the same place, for replicas in this process and in a worker.
func TestMetricsOfGo(t *testing.T) {
	t.Parallel()
	for _, isolation := range []helve.Isolation{helve.InNode, helve.Process} {
		sys, err := helve.Config{Isolation: isolation}.Run(t.Context(), buildCounted)
		if err != nil {
			t.Fatal(err)
		}
		url, _, err := sys.Serve("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := sys.Deploy(t.Context(), buildJoined); err != nil {
			t.Fatal(err)
		}
		for _, app := range []string{"counted", "joined"} {
			for range 3 {
				r, err := http.Post(url+"/"+app, "text/plain", strings.NewReader("hello"))
				if err != nil {
					t.Fatal(err)
				}
				r.Body.Close()
			}
			if err := sys.Delete(t.Context(), app); err != nil { // the last report comes with the end
				t.Error(err)
			}
		}
		w := httptest.NewRecorder()
		metrics.Handler(sys).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for _, want := range []string{
			`ray_said_total{application="counted",deployment="Echo",length="short",replica="`,
			`ray_size_bucket{application="counted",deployment="Echo",replica="`,
			`ray_serve_actual_batch_size_bucket{application="joined",deployment="Joined",function_name="same",replica="`,
			`ray_serve_batches_processed_total{application="joined",deployment="Joined",function_name="same",replica="`,
			`ray_serve_batch_wait_time_ms_count{application="joined",deployment="Joined",function_name="same",replica="`,
			`ray_serve_multiplexed_models_load_counter_total{application="joined",deployment="Joined",replica="`,
			`ray_serve_multiplexed_model_load_latency_ms_bucket{application="joined",deployment="Joined",replica="`,
		} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("%v: no %s", isolation, want)
			}
		}
		if err := sys.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}
