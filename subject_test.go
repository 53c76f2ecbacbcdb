package helve_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
)

func TestMain(m *testing.M) {
	if os.Getenv("HELVE_PYTHON") == "" { // make test sets it; go test finds what make test made
		if path, err := filepath.Abs(".venv/bin/python"); err == nil {
			os.Setenv("HELVE_PYTHON", path)
		}
	}
	if dir := os.Getenv("HELVE_TEST_NODE"); dir != "" && os.Getenv("HELVE_WORKER") == "" {
		ledgerNode(dir)
	}
	helvetest.Main(m,
		buildLedger, buildGo, buildPython, buildMixed, buildErrors, buildCrash, buildDiffers, buildDies, buildExits,
		buildRaises, buildSplit, buildStuck, buildBlock, buildFar, buildPyStreams, buildQuarry, buildWatched,
		buildShelf, buildGuide, buildAdapter, buildFinder, buildLedgerPython, buildPyAsker,
		buildText, buildBytes, buildWords, buildCount, buildDesks(nil), loops[0], loops[1], loops[2], loops[3], buildLookup,
		buildSizes, buildTouchy, buildEstate, buildSender, buildPicky, buildCounted, buildPasser, buildFacade, buildTakes, buildMakes, buildIdentity, buildIdentityTwice,
		buildSnared, buildEcho, buildChooser, buildBounds,
	)
}

// Service is what the same cases call on every path: in process, in a Go worker, in a Python worker.
type Service interface {
	Echo(ctx context.Context, value string) (string, error)
	Bytes(ctx context.Context, value []byte) ([]byte, error)
	Add(ctx context.Context, in AddIn) (AddOut, error)
	List(ctx context.Context, values []int) ([]int, error)
	Nothing(ctx context.Context, _ helve.None) error
	Fail(ctx context.Context, text string) error
	Panic(ctx context.Context, _ helve.None) error
	Block(ctx context.Context, _ helve.None) error
	AwaitStarted(ctx context.Context, _ helve.None) error
	AwaitCancelled(ctx context.Context, _ helve.None) error
	Work(ctx context.Context, ms int) (int, error)
	RequestID(ctx context.Context, _ helve.None) (string, error)
	Replica(ctx context.Context, _ helve.None) (string, error)
	PID(ctx context.Context, _ helve.None) (int, error)
	Record(ctx context.Context, e Entry) (string, error)
}

type AddIn struct {
	X      int               `json:"x"`
	Y      int               `json:"y"`
	Labels map[string]string `json:"labels,omitempty"`
	At     *time.Time        `json:"at,omitempty"`
}

type AddOut struct {
	Sum    int
	Labels map[string]string
	At     *time.Time
}

type Entry struct {
	File string `json:"file"`
	ID   string `json:"id"`
	MS   int    `json:"ms"`
	Pad  []byte `json:"pad,omitempty"` // makes it large
}

// Subject is the Go implementation; testdata/subject.py is its twin.
type Subject struct {
	now, most          atomic.Int64
	started, cancelled chan struct{}
	once, onceC        sync.Once
}

func newSubject(context.Context) (*Subject, error) {
	return &Subject{started: make(chan struct{}), cancelled: make(chan struct{})}, nil
}

type Quota struct{ text string }

func (q *Quota) Error() string { return q.text }

func (s *Subject) Echo(_ context.Context, v string) (string, error)  { return v, nil }
func (s *Subject) Bytes(_ context.Context, v []byte) ([]byte, error) { return v, nil }
func (s *Subject) Nothing(context.Context, helve.None) error         { return nil }
func (s *Subject) Fail(_ context.Context, text string) error         { return &Quota{text} }
func (s *Subject) Panic(context.Context, helve.None) error           { panic("boom") }
func (s *Subject) PID(context.Context, helve.None) (int, error)      { return os.Getpid(), nil }
func (s *Subject) Add(_ context.Context, in AddIn) (AddOut, error) {
	if in.Labels == nil {
		in.Labels = map[string]string{}
	}
	return AddOut{in.X + in.Y, in.Labels, in.At}, nil
}

func (s *Subject) List(_ context.Context, vs []int) ([]int, error) {
	out := make([]int, len(vs))
	for i, v := range vs {
		out[i] = 2 * v
	}
	return out, nil
}

func (s *Subject) Block(ctx context.Context, _ helve.None) error {
	s.once.Do(func() { close(s.started) })
	<-ctx.Done()
	s.onceC.Do(func() { close(s.cancelled) })
	return ctx.Err()
}

func (s *Subject) AwaitStarted(ctx context.Context, _ helve.None) error {
	return await(ctx, s.started)
}

func (s *Subject) AwaitCancelled(ctx context.Context, _ helve.None) error {
	return await(ctx, s.cancelled)
}

func await(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Subject) Work(_ context.Context, ms int) (int, error) {
	n := s.now.Add(1)
	for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
	}
	<-time.After(time.Duration(ms) * time.Millisecond)
	s.now.Add(-1)
	return int(s.most.Load()), nil
}

func (s *Subject) RequestID(ctx context.Context, _ helve.None) (string, error) {
	return helve.RequestIDFrom(ctx), nil
}

func (s *Subject) Replica(ctx context.Context, _ helve.None) (string, error) {
	return helve.ReplicaFrom(ctx).ID, nil
}

func (s *Subject) Record(_ context.Context, e Entry) (string, error) {
	f, err := os.OpenFile(e.File, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintln(f, e.ID)
	<-time.After(time.Duration(e.MS) * time.Millisecond)
	return e.ID, errors.Join(err, f.Close())
}

// Front is an ingress in Go that calls the subject through handles, so that calls between deployments take every path.
type Front struct {
	id     helve.Method[helve.None, string]
	echo   helve.Method[string, string]
	remote bool
}

func (f *Front) Greet(ctx context.Context, name string) (string, error) {
	return f.echo.Remote(ctx, name).Result(ctx)
}

func (f *Front) IDs(ctx context.Context, _ helve.None) ([]string, error) {
	down, err := f.id.Call(ctx, helve.None{})
	return []string{helve.RequestIDFrom(ctx), down}, err
}

const replicas, ongoing = 2, 3

func options() helve.Options {
	return helve.Options{NumReplicas: new(replicas), MaxOngoingRequests: new(ongoing)}
}

func withFront[R any](app *helve.App, subject helve.Handle[R], echo helve.Method[string, string], id helve.Method[helve.None, string]) {
	front := helve.Deploy(app, "Front", func(context.Context) (*Front, error) {
		return &Front{id: id, echo: echo}, nil
	}, helve.Options{Uses: []helve.Target{subject}})
	app.Ingress(helve.MethodOf(front, (*Front).Greet))
}

func buildGo() (*helve.App, error) {
	app := helve.NewApp("go")
	s := helve.Deploy(app, "Subject", newSubject, options())
	withFront(app, s, helve.MethodOf(s, (*Subject).Echo), helve.MethodOf(s, (*Subject).RequestID))
	return app, nil
}

func buildPython() (*helve.App, error) {
	app := helve.NewApp("python")
	s := helve.Python[Service](app, "Subject", "testdata.subject:Subject", helve.Args{}, options())
	withFront(app, s, helve.MethodOf(s, Service.Echo), helve.MethodOf(s, Service.RequestID))
	return app, nil
}
