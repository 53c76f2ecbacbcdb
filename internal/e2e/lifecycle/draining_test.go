package lifecycle_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Lingerer has a stream and a handler that end when the drain of their replica begins, and a loop of its constructor that does.
type Lingerer struct{ looped chan struct{} }

func newLingerer(ctx context.Context) (*Lingerer, error) {
	l := &Lingerer{looped: make(chan struct{})}
	draining := helve.Draining(ctx)
	go func() {
		<-draining
		close(l.looped)
	}()
	return l, nil
}

// Close returns when the loop has ended.
func (l *Lingerer) Close(context.Context) error {
	<-l.looped
	return nil
}

// Watch yields "begun" and, when the drain begins, "bye".
func (l *Lingerer) Watch(ctx context.Context, _ int) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if yield("begun", nil) {
			<-helve.Draining(ctx)
			yield("bye", nil)
		}
	}
}

func (l *Lingerer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, "begun")
	http.NewResponseController(w).Flush() //nolint:errcheck // the client tells
	<-helve.Draining(r.Context())
	fmt.Fprintln(w, "bye")
}

// buildLingerer makes the application with a number in its options, for a deploy that replaces the replicas.
func buildLingerer(version string) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp("lingerer")
		l := helve.Deploy(app, "Lingerer", newLingerer, helve.Options{Version: version})
		helve.StreamOf(l, (*Lingerer).Watch)
		app.Ingress(helve.HTTP(l))
		return app, nil
	}
}

// TestCodeLearnsOfItsDrain: streams, handlers and the loops of constructors learn of the drain of their replica, in the node and in a worker: when the
// node closes, the replicas are fewer, a deploy replaces them, or their application is deleted.
func TestCodeLearnsOfItsDrain(t *testing.T) {
	t.Parallel()
	for name, drain := range map[string]func(ctx context.Context, s *helve.System) error{
		"close":  func(ctx context.Context, s *helve.System) error { return s.Close(ctx) },
		"scale":  func(ctx context.Context, s *helve.System) error { return s.Scale(ctx, "lingerer", "Lingerer", 0) },
		"deploy": func(ctx context.Context, s *helve.System) error { return s.Deploy(ctx, buildLingerer("2")) },
		"delete": func(ctx context.Context, s *helve.System) error { return s.Delete(ctx, "lingerer") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fixture.EachRunner(t, func(t *testing.T, r helvetest.Runner) {
				s := helvetest.Start(t, r.Config, buildLingerer("1"))
				h, err := helve.HandleOf[*Lingerer](s, "lingerer", "Lingerer")
				if err != nil {
					t.Fatal(err)
				}
				next, stop := iter.Pull2(helve.StreamOf(h, (*Lingerer).Watch).Call(t.Context(), 0))
				defer stop()
				if item, err, _ := next(); item != "begun" || err != nil {
					t.Fatalf("%q, %v", item, err)
				}
				server := httptest.NewServer(s.Handler())
				defer server.Close()
				answer, err := http.Get(server.URL) //nolint:noctx // the test waits for its end
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				in := bufio.NewReader(answer.Body)
				if line, err := in.ReadString('\n'); line != "begun\n" || err != nil {
					t.Fatalf("%q, %v", line, err)
				}
				drained := make(chan error, 1)
				go func() { drained <- drain(t.Context(), s) }()
				if item, err, _ := next(); item != "bye" || err != nil {
					t.Errorf("the stream: %q, %v", item, err)
				}
				if b, err := io.ReadAll(in); string(b) != "bye\n" || err != nil {
					t.Errorf("the handler: %q, %v", b, err)
				}
				if _, err, more := next(); err != nil || more {
					t.Errorf("after the stream: %v", err)
				}
				if err := <-drained; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestNoDrainOutsideOfReplicas: a context that belongs to no replica has no drain.
func TestNoDrainOutsideOfReplicas(t *testing.T) {
	t.Parallel()
	if helve.Draining(t.Context()) != nil {
		t.Error("a drain of no replica")
	}
}
