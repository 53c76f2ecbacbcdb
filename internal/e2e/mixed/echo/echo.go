// Package echo has the deployments of the tests of mixed graphs, in Go. Package program runs them for Python programs, and the tests beside run them in
// graphs of Go. The same deployments in Python are in fixture/python/mixed_echo.py.
package echo

import (
	"context"
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetype"
)

// Inner is a struct in a struct.
type Inner struct {
	DocURL string
	Score  float64
}

// Record has a field for each rule of names.
type Record struct {
	UserID int
	Tags   []string
	Inner  *Inner
	When   time.Time `json:"at"`
	Weight float64   `helve:"w" json:"ignored"`
}

// Seen has the context of a call as its method sees it.
type Seen struct{ Model, Session, Request string }

// Echoer are the methods that the deployments of all languages have.
type Echoer interface {
	Text(ctx context.Context, s string) (string, error)
	Number(ctx context.Context, n int64) (int64, error)
	Raw(ctx context.Context, b []byte) ([]byte, error)
	Floats(ctx context.Context, v []float64) ([]float64, error)
	Matrix(ctx context.Context, a helvetype.Array[float32]) (helvetype.Array[float32], error)
	Whatever(ctx context.Context, v any) (any, error)
	Record(ctx context.Context, r Record) (Record, error)
	Nothing(ctx context.Context, _ helve.None) (helve.None, error)
	Fail(ctx context.Context, text string) (string, error)
	Count(ctx context.Context, n int) iter.Seq2[int, error]
	Endless(ctx context.Context, _ helve.None) iter.Seq2[int, error]
	Block(ctx context.Context, _ helve.None) (string, error)
	Started(ctx context.Context, _ helve.None) (int64, error)
	Ended(ctx context.Context, _ helve.None) (int64, error)
	Left(ctx context.Context, _ helve.None) (float64, error)
	Who(ctx context.Context, _ helve.None) (Seen, error)
}

// Echo gives back the values that it gets.
type Echo struct{ started, ended atomic.Int64 }

// New makes an Echo.
func New(context.Context) (*Echo, error) { return &Echo{}, nil }

func (*Echo) Text(_ context.Context, s string) (string, error)          { return s, nil }
func (*Echo) Number(_ context.Context, n int64) (int64, error)          { return n, nil }
func (*Echo) Raw(_ context.Context, b []byte) ([]byte, error)           { return b, nil }
func (*Echo) Floats(_ context.Context, v []float64) ([]float64, error)  { return v, nil }
func (*Echo) Whatever(_ context.Context, v any) (any, error)            { return v, nil }
func (*Echo) Record(_ context.Context, r Record) (Record, error)        { return r, nil }
func (*Echo) Nothing(context.Context, helve.None) (helve.None, error)   { return helve.None{}, nil }
func (e *Echo) Started(context.Context, helve.None) (int64, error)      { return e.started.Load(), nil }
func (e *Echo) Ended(context.Context, helve.None) (int64, error)        { return e.ended.Load(), nil }
func (*Echo) Panics(_ context.Context, text string) (helve.None, error) { panic(text) }
func (*Echo) Matrix(_ context.Context, a helvetype.Array[float32]) (helvetype.Array[float32], error) {
	return a, nil
}

// Fail gives an error with a code.
func (*Echo) Fail(_ context.Context, text string) (string, error) {
	return "", helve.Public(helve.NotFound, text)
}

// Count gives n numbers.
func (*Echo) Count(_ context.Context, n int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
	}
}

// Endless gives numbers until its reader stops.
func (e *Echo) Endless(ctx context.Context, _ helve.None) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		e.started.Add(1)
		defer e.ended.Add(1)
		for i := 0; ctx.Err() == nil && yield(i, nil); i++ {
			continue
		}
	}
}

// Block returns when the call is cancelled.
func (e *Echo) Block(ctx context.Context, _ helve.None) (string, error) {
	e.started.Add(1)
	defer e.ended.Add(1)
	<-ctx.Done()
	return "", ctx.Err()
}

// Left is the time until the deadline in seconds, 0 for none.
func (*Echo) Left(ctx context.Context, _ helve.None) (float64, error) {
	if d, ok := ctx.Deadline(); ok {
		return time.Until(d).Seconds(), nil
	}
	return 0, nil
}

// The result of Who describes the call.
func (*Echo) Who(ctx context.Context, _ helve.None) (Seen, error) {
	return Seen{helve.ModelIDFrom(ctx), helve.SessionIDFrom(ctx), helve.RequestIDFrom(ctx)}, nil
}

// Relay passes each call to another deployment.
type Relay struct {
	to     helve.Handle[Echoer]
	prefix string
}

// RelayArgs are the arguments of a Relay that a Python program binds.
type RelayArgs struct{ Prefix string }

// NewRelay makes a Relay to the deployment that a Python program has bound.
func NewRelay(ctx context.Context) (*Relay, error) {
	to, err := helve.Bound[Echoer](ctx, "to")
	if err != nil {
		return nil, err
	}
	args, err := helve.BoundArgs(ctx, RelayArgs{})
	return &Relay{to, args.Prefix}, err
}

// NewRelayTo returns a constructor of a Relay in a graph of Go.
func NewRelayTo(to helve.Handle[Echoer]) func(context.Context) (*Relay, error) {
	return func(context.Context) (*Relay, error) { return &Relay{to: to}, nil }
}

func (r *Relay) Text(ctx context.Context, s string) (string, error) {
	return helve.MethodOf(r.to, Echoer.Text).Call(ctx, strings.TrimPrefix(s, r.prefix))
}
func (r *Relay) Number(ctx context.Context, n int64) (int64, error) {
	return helve.MethodOf(r.to, Echoer.Number).Call(ctx, n)
}
func (r *Relay) Raw(ctx context.Context, b []byte) ([]byte, error) {
	return helve.MethodOf(r.to, Echoer.Raw).Call(ctx, b)
}
func (r *Relay) Floats(ctx context.Context, v []float64) ([]float64, error) {
	return helve.MethodOf(r.to, Echoer.Floats).Call(ctx, v)
}
func (r *Relay) Matrix(ctx context.Context, a helvetype.Array[float32]) (helvetype.Array[float32], error) {
	return helve.MethodOf(r.to, Echoer.Matrix).Call(ctx, a)
}
func (r *Relay) Whatever(ctx context.Context, v any) (any, error) {
	return helve.MethodOf(r.to, Echoer.Whatever).Call(ctx, v)
}
func (r *Relay) Record(ctx context.Context, in Record) (Record, error) {
	return helve.MethodOf(r.to, Echoer.Record).Call(ctx, in)
}
func (r *Relay) Nothing(ctx context.Context, in helve.None) (helve.None, error) {
	return helve.MethodOf(r.to, Echoer.Nothing).Call(ctx, in)
}
func (r *Relay) Fail(ctx context.Context, text string) (string, error) {
	return helve.MethodOf(r.to, Echoer.Fail).Call(ctx, text)
}
func (r *Relay) Count(ctx context.Context, n int) iter.Seq2[int, error] {
	return helve.StreamOf(r.to, Echoer.Count).Call(ctx, n)
}
func (r *Relay) Endless(ctx context.Context, in helve.None) iter.Seq2[int, error] {
	return helve.StreamOf(r.to, Echoer.Endless).Call(ctx, in)
}
func (r *Relay) Block(ctx context.Context, in helve.None) (string, error) {
	return helve.MethodOf(r.to, Echoer.Block).Call(ctx, in)
}
func (r *Relay) Started(ctx context.Context, in helve.None) (int64, error) {
	return helve.MethodOf(r.to, Echoer.Started).Call(ctx, in)
}
func (r *Relay) Ended(ctx context.Context, in helve.None) (int64, error) {
	return helve.MethodOf(r.to, Echoer.Ended).Call(ctx, in)
}
func (r *Relay) Left(ctx context.Context, in helve.None) (float64, error) {
	return helve.MethodOf(r.to, Echoer.Left).Call(ctx, in)
}

// The model and the session are passed on by Who: a call does not do so by itself.
func (r *Relay) Who(ctx context.Context, in helve.None) (Seen, error) {
	to := helve.MethodOf(r.to, Echoer.Who).With(helve.ModelID(helve.ModelIDFrom(ctx)), helve.SessionID(helve.SessionIDFrom(ctx)))
	who, err := to.Call(ctx, in)
	if err == nil && who.Request != helve.RequestIDFrom(ctx) {
		who.Request = "another request"
	}
	return who, err
}
