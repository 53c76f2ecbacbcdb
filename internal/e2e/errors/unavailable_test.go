package errors_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Frail is healthy until it is told otherwise.
type Frail struct{ sick *atomic.Bool }

func (f *Frail) CheckHealth(context.Context) error {
	if f.sick.Load() {
		return errors.New("the GPU fell off")
	}
	return nil
}

func (f *Frail) Do(_ context.Context, in string) (string, error) { return in, nil }

// TestNoReplicaSaysWhy: a call that finds no replica fails with the reason why there is none.
func TestNoReplicaSaysWhy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sick atomic.Bool
		log := fixture.NewLog()
		sys := helvetest.Start(t, helve.Config{Logger: slog.New(log)}, func() (*helve.App, error) {
			app := helve.NewApp("frail")
			h := helve.Deploy(app, "Frail", func(context.Context) (*Frail, error) {
				if sick.Load() {
					return nil, errors.New("weights.bin: no such file")
				}
				return &Frail{&sick}, nil
			}, helve.Options{HealthCheckPeriod: new(time.Second)})
			app.Ingress(helve.MethodOf(h, (*Frail).Do))
			return app, nil
		})
		h, err := helve.HandleOf[*Frail](sys, "frail", "Frail")
		if err != nil {
			t.Fatal(err)
		}
		do := helve.MethodOf(h, (*Frail).Do)
		sick.Store(true)
		time.Sleep(20 * time.Second)
		for name, call := range map[string]func(ctx context.Context) error{
			"Call": func(ctx context.Context) error { _, err := do.Call(ctx, "x"); return err },
			"Remote": func(ctx context.Context) error {
				_, err := do.Remote(ctx, "x").Result(context.Background())
				return err
			},
			"MethodNamed": func(ctx context.Context) error {
				_, err := helve.MethodNamed[string, string](h, "Do").Call(ctx, "x")
				return err
			},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := call(ctx)
			cancel()
			fixture.WantReason(t, err, helve.Deadline)
			if err != nil && !strings.Contains(err.Error(), "has no replica: frail/Frail.constructor: weights.bin: no such file") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if !strings.Contains(log.String(), "the GPU fell off") {
			t.Error("the log does not say that the replica was unhealthy")
		}
		sick.Store(false)
	})
}

// Judged is the input of Judger: "public" asks for an error with a public text, "secret" for another error.
type Judged struct{ How string }

type Judger struct{}

func (Judger) Judge(_ context.Context, in Judged) (string, error) {
	switch in.How {
	case "public":
		return "", fmt.Errorf("the ledger's row 7: %w", helve.Public(helve.NotFound, "no such user"))
	case "secret":
		return "", errors.New("the password is 1234")
	}
	return in.How, nil
}

// TestWhatClientsRead: a client outside reads the text of a public error and of its own mistake, and no text of
// other errors.
func TestWhatClientsRead(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, func() (*helve.App, error) {
		app := helve.NewApp("judge")
		h := helve.Deploy(app, "Judger", func(context.Context) (Judger, error) { return Judger{}, nil }, helve.Options{})
		app.Ingress(helve.MethodOf(h, Judger.Judge))
		return app, nil
	}, func(t *testing.T, s *helve.System) {
		url, _, err := s.Serve("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		for body, want := range map[string]struct {
			status int
			text   string
		}{
			`{"how":"public"}`: {404, "NotFound: no such user"},
			`{"how":"secret"}`: {500, "Internal Server Error"},
			`{"how":`:          {400, "the body is not valid JSON: byte 7: unexpected end of JSON input"},
			`{"how":"x"} x`:    {400, "the body is not valid JSON: byte 13: invalid character 'x' after top-level value"},
			" ":                {400, "the body is empty; this method takes JSON"},
			`{"how":"fine"}`:   {200, "fine"},
		} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header = http.Header{"Content-Type": {"application/json"}, "X-Request-Id": {"my-id"}}
			r, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r.Body)
			r.Body.Close()
			if err != nil || r.StatusCode != want.status || !strings.HasSuffix(string(b), want.text) {
				t.Errorf("%s: %s %q, %v", body, r.Status, b, err)
			}
			if strings.Contains(string(b), "1234") || strings.Contains(string(b), "ledger") {
				t.Errorf("%s: the client reads %q", body, b)
			}
		}
	}, helvetest.Local, helvetest.Encoded)
}

// Piper has methods whose types stay in their process.
type Piper struct{}

type pipe struct {
	Name string
	Ends []struct{ In, Out chan int }
}

func (Piper) Open(context.Context, helve.None) (pipe, error)              { return pipe{}, nil }
func (Piper) Run(context.Context, func()) (string, error)                 { return "", nil }
func (Piper) Unbound(context.Context, chan int) (map[chan int]int, error) { return nil, nil }

// TestTypesThatCannotLeave: Run finds them where a deployment has a process of its own, and does not mind elsewhere.
func TestTypesThatCannotLeave(t *testing.T) {
	t.Parallel()
	build := func(o helve.Options) helve.Build {
		return func() (*helve.App, error) {
			app := helve.NewApp("pipes")
			h := helve.Deploy(app, "Piper", func(context.Context) (Piper, error) { return Piper{}, nil }, o)
			helve.MethodOf(h, Piper.Run)
			app.Ingress(helve.MethodOf(h, Piper.Open))
			return app, nil
		}
	}
	for name, err := range map[string]error{
		"Options": fixture.StartError(t, helve.Config{}, build(helve.Options{Isolation: helve.Process})),
		"Config":  fixture.StartError(t, helve.Config{Isolation: helve.Process}, build(helve.Options{})),
		"strict":  fixture.StartError(t, helve.Config{}, build(helve.Options{StrictCodec: true})),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		fixture.WantText(t, err, `deployment "Piper": method Open: its output .ends[].in: chan int cannot be encoded`,
			`deployment "Piper": method Run: its input func() cannot be encoded`)
		if strings.Contains(err.Error(), "Unbound") {
			t.Errorf("%s: %v", name, err)
		}
	}
	sys := helvetest.Start(t, helve.Config{}, build(helve.Options{}))
	if _, err := helve.HandleOf[Piper](sys, "pips", "Piper"); err == nil || !strings.Contains(err.Error(), `no application "pips" is running; there is pipes`) {
		t.Errorf("%v", err)
	}
	if _, err := helve.HandleOf[Piper](sys, "pipes", "Pipers"); err == nil || !strings.Contains(err.Error(), "it has Piper") {
		t.Errorf("%v", err)
	}
}
