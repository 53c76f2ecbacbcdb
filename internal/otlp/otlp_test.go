package otlp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/otlp"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/trace"
)

// receiver answers requests, and has their bodies.
type receiver struct {
	answer func(n int, r *http.Request) (status int, header http.Header, body string) // of request n, from 0

	mu       sync.Mutex
	at       []time.Time
	requests []*http.Request
	bodies   [][]byte
}

func (r *receiver) RoundTrip(q *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	n := len(r.bodies)
	r.at, r.requests, r.bodies = append(r.at, time.Now()), append(r.requests, q), append(r.bodies, body)
	r.mu.Unlock()
	status, header, text := http.StatusOK, http.Header{}, "{}"
	if r.answer != nil {
		status, header, text = r.answer(n, q)
	}
	if status == 0 {
		return nil, fmt.Errorf("nothing listens there")
	}
	return &http.Response{StatusCode: status, Status: strconv.Itoa(status), Header: header, Body: io.NopCloser(strings.NewReader(text))}, nil
}

// spans are the numbers of spans of the requests.
func (r *receiver) spans(t *testing.T) (all []int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.bodies {
		var v struct {
			ResourceSpans []struct {
				ScopeSpans []struct{ Spans []json.RawMessage }
			}
		}
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		all = append(all, len(v.ResourceSpans[0].ScopeSpans[0].Spans))
	}
	return all
}

// begin starts an exporter in a bubble of time. The result ends it.
func begin(r *receiver) (e *otlp.Exporter, log *bytes.Buffer, end func()) {
	log = &bytes.Buffer{}
	e = otlp.New(slog.New(slog.NewTextHandler(log, nil)), "1.2.3", otlp.Way{}, r)
	e.Use(&otlp.Target{URL: "http://collector:4318/v1/traces", Headers: map[string]string{"Authorization": "Basic x"}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Run(ctx)
	}()
	return e, log, func() {
		cancel()
		<-done
	}
}

func add(e *otlp.Exporter, n int) {
	r := record()
	for i := range n {
		r.ID = uint64(i) + 1
		e.Add(&r)
	}
}

func record() trace.Record {
	return trace.Record{
		Request: call.ParseID("5f0c4f0e-8f6a-4d1e-9f0b-2f6f8a1f7c55"), ID: 0xa, Parent: 0xb, Place: &call.Place{App: "shop", Deployment: "Ranker", Method: "Rank"},
		Replica: "Ranker#001", Begin: 1_700_000_000_000_000_001, End: 1_700_000_000_005_000_000, Sampled: true,
	}
}

// TestBatches: the spans of a second go in one request, and a whole batch at once.
func TestBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{}
		e, _, end := begin(r)
		began := time.Now()
		add(e, 1)
		synctest.Wait()
		add(e, 2)
		time.Sleep(time.Second)
		synctest.Wait()
		add(e, 2500)
		synctest.Wait()
		if got := r.spans(t); fmt.Sprint(got) != "[3 1024 1024]" {
			t.Errorf("requests of %v spans", got)
		}
		if took := r.at[0].Sub(began); took != time.Second {
			t.Errorf("the first request after %s", took)
		}
		end()
		if got := r.spans(t); fmt.Sprint(got) != "[3 1024 1024 452]" {
			t.Errorf("at the end: requests of %v spans", got)
		}
		if sent, dropped := e.Counts(); sent != 2503 || dropped != 0 {
			t.Errorf("%d sent, %d dropped", sent, dropped)
		}
		q := r.requests[0]
		if q.Method != http.MethodPost || q.URL.String() != "http://collector:4318/v1/traces" || q.Header.Get("Content-Type") != "application/json" || q.Header.Get("Authorization") != "Basic x" {
			t.Errorf("%s %s %v", q.Method, q.URL, q.Header)
		}
	})
}

// TestRepeats: a busy receiver gets the request again at the time that it says, and a receiver that is away after pauses that grow.
func TestRepeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: func(n int, _ *http.Request) (int, http.Header, string) {
			switch n {
			case 0:
				return http.StatusServiceUnavailable, http.Header{"Retry-After": {"7"}}, "busy"
			case 1, 2:
				return 0, nil, ""
			}
			return http.StatusOK, nil, ""
		}}
		e, log, end := begin(r)
		defer end()
		add(e, 5)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if got := r.spans(t); fmt.Sprint(got) != "[5 5 5 5]" {
			t.Fatalf("requests of %v spans", got)
		}
		if d := r.at[1].Sub(r.at[0]); d != 7*time.Second {
			t.Errorf("again after %s", d)
		}
		if first, second := r.at[2].Sub(r.at[1]), r.at[3].Sub(r.at[2]); first < time.Second || first > 2*time.Second || second < 2*time.Second || second > 4*time.Second {
			t.Errorf("again after %s and %s", first, second)
		}
		if sent, dropped := e.Counts(); sent != 5 || dropped != 0 {
			t.Errorf("%d sent, %d dropped", sent, dropped)
		}
		if text := log.String(); strings.Count(text, "level=WARN") != 1 || strings.Count(text, "takes spans again") != 1 || !strings.Contains(text, "busy") {
			t.Errorf("the log: %s", text)
		}
	})
}

// TestBound: a receiver that is away for long costs a bounded number of spans in memory, which are counted when they are dropped.
func TestBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var there atomic.Bool
		r := &receiver{answer: func(int, *http.Request) (int, http.Header, string) {
			if !there.Load() {
				return 0, nil, ""
			}
			return http.StatusOK, nil, ""
		}}
		e, log, end := begin(r)
		defer end()
		add(e, 1024)
		synctest.Wait()
		add(e, 10_000) // while the first batch is tried again
		if _, dropped := e.Counts(); dropped != 10_000-8192 {
			t.Errorf("%d dropped at once", dropped)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, dropped := e.Counts(); dropped != 10_000-8192+1024 {
			t.Errorf("%d dropped after a minute", dropped)
		}
		there.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if sent, _ := e.Counts(); sent != 8192 {
			t.Errorf("%d sent", sent)
		}
		if text := log.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "dropped=2832") {
			t.Errorf("the log: %s", text)
		}
	})
}

// TestRefused: a request that a receiver refuses for good is dropped and counted, and so are single spans that it rejects.
func TestRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: func(n int, _ *http.Request) (int, http.Header, string) {
			if n == 0 {
				return http.StatusUnauthorized, nil, "no such token"
			}
			return http.StatusOK, nil, `{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old"}}`
		}}
		e, log, end := begin(r)
		defer end()
		add(e, 3)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := r.spans(t); fmt.Sprint(got) != "[3]" {
			t.Errorf("requests of %v spans", got)
		}
		add(e, 5)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if sent, dropped := e.Counts(); sent != 3 || dropped != 5 {
			t.Errorf("%d sent, %d dropped", sent, dropped)
		}
		if text := log.String(); !strings.Contains(text, "no such token") || !strings.Contains(text, "too old") {
			t.Errorf("the log: %s", text)
		}
	})
}

// TestTargets: records go to the present target, also a batch that is tried again, and nowhere without a target.
func TestTargets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: func(_ int, q *http.Request) (int, http.Header, string) {
			if q.URL.Host == "collector:4318" {
				return 0, nil, ""
			}
			return http.StatusOK, nil, ""
		}}
		e, _, end := begin(r)
		defer end()
		add(e, 2)
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		e.Use(&otlp.Target{URL: "https://other/v1/traces"})
		synctest.Wait()
		if sent, dropped := e.Counts(); sent != 2 || dropped != 0 {
			t.Errorf("%d sent, %d dropped", sent, dropped)
		}
		e.Use(nil)
		add(e, 2)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(r.spans(t)); n != 2 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestEnd: a receiver that does not answer holds the end up for two seconds.
func TestEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: func(_ int, q *http.Request) (int, http.Header, string) {
			<-q.Context().Done()
			return 0, nil, ""
		}}
		e, _, end := begin(r)
		add(e, 3000)
		synctest.Wait()
		began := time.Now()
		end()
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("the end took %s", took)
		}
		if _, dropped := e.Counts(); dropped == 0 {
			t.Error("nothing was counted")
		}
	})
}

// TestEnvironment: the variables of OpenTelemetry, and a mistake in each.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env            string
		endpoint       string
		ratio          string
		rest, warnings string
	}{
		{"", "", "<nil>", "map[] []", ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", "http://c:4318/v1/traces", "<nil>", "map[] []", ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318/base/ OTEL_EXPORTER_OTLP_HEADERS=a=1,b=x%20y,,c", "http://c:4318/base/v1/traces", "<nil>", "map[a:1 b:x y] []", "OTEL_EXPORTER_OTLP_HEADERS: must be KEY=VALUE"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318 OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://t/own OTEL_EXPORTER_OTLP_HEADERS=a=1 OTEL_EXPORTER_OTLP_TRACES_HEADERS=a=2", "http://t/own", "<nil>", "map[a:2] []", ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=c:4317", "", "<nil>", "map[] []", `OTEL_EXPORTER_OTLP_ENDPOINT: must be a URL such as http://127.0.0.1:4318, is "c:4317"`},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4317", "http://c:4317/v1/traces", "<nil>", "map[] []", "not by gRPC"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "http://c/v1/traces", "<nil>", "map[] []", "not by gRPC"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c OTEL_SDK_DISABLED=True", "", "<nil>", "map[] []", ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c OTEL_TRACES_EXPORTER=none", "", "<nil>", "map[] []", ""},
		{"OTEL_SERVICE_NAME=shop OTEL_RESOURCE_ATTRIBUTES=service.name=other,deployment.environment=test", "", "<nil>", "map[] [{deployment.environment test} {service.name shop}]", ""},
		{"OTEL_TRACES_SAMPLER=always_on", "", "1", "map[] []", ""},
		{"OTEL_TRACES_SAMPLER=parentbased_always_off", "", "0", "map[] []", ""},
		{"OTEL_TRACES_SAMPLER=parentbased_traceidratio OTEL_TRACES_SAMPLER_ARG=0.25", "", "0.25", "map[] []", ""},
		{"OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=2", "", "<nil>", "map[] []", "OTEL_TRACES_SAMPLER_ARG: must be a number from 0 to 1"},
		{"OTEL_TRACES_SAMPLER=jaeger_remote", "", "<nil>", "map[] []", "OTEL_TRACES_SAMPLER: must be always_on"},
	} {
		s, warnings := otlp.Environment(append(strings.Fields(c.env), "PATH=/bin"))
		ratio := "<nil>"
		if s.Ratio != nil {
			ratio = fmt.Sprint(*s.Ratio)
		}
		if rest := fmt.Sprint(s.Headers, s.Resource); s.Endpoint != c.endpoint || ratio != c.ratio || rest != c.rest {
			t.Errorf("%s: %s %s %s", c.env, s.Endpoint, ratio, rest)
		}
		if text := strings.Join(warnings, "; "); (text == "") != (c.warnings == "") || !strings.Contains(text, c.warnings) {
			t.Errorf("%s: the warnings %q", c.env, text)
		}
	}
}

// TestOver: a flag is over the environment. Headers of the receiver of the environment do not go to another one.
func TestOver(t *testing.T) {
	t.Parallel()
	env := otlp.Settings{Endpoint: "http://env/x", Headers: map[string]string{"token": "secret"}, Ratio: new(0.5), Resource: []trace.Attribute{{Key: "service.name", Value: "shop"}}}
	own := otlp.Settings{Endpoint: "http://own"}.Over(env)
	if own.Endpoint != "http://own" || own.Headers != nil || own.SampledRatio() != 0.5 {
		t.Errorf("%+v", own)
	}
	if s := (otlp.Settings{Endpoint: "http://own"}).Over(otlp.Settings{Headers: env.Headers}); s.Headers["token"] != "secret" {
		t.Errorf("headers of the environment without an address: %+v", s)
	}
	both := otlp.Settings{Ratio: new(0.1)}.Over(env)
	at, err := both.Target()
	if err != nil || at.URL != "http://env/x" || at.Headers["token"] != "secret" || both.SampledRatio() != 0.1 || fmt.Sprint(at.Resource) != "[{service.name shop}]" {
		t.Errorf("%+v %v %v", at, both.SampledRatio(), err)
	}
	none := otlp.Settings{}.Over(otlp.Settings{})
	if at, err := none.Target(); at != nil || err != nil || none.SampledRatio() != 0 {
		t.Errorf("without anything: %v %v, ratio %v", at, err, none.SampledRatio())
	}
	alone := otlp.Settings{Endpoint: "http://own"}
	if at, err := alone.Target(); err != nil || fmt.Sprint(at.Resource) != "[{service.name helve}]" || alone.SampledRatio() != spec.DefaultRatio {
		t.Errorf("with an address alone: %+v %v, ratio %v", at, err, alone.SampledRatio())
	}
}
