package composition_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// blob is a large value that counts how often it is written and read in its process.
type blob struct{ data []byte }

var blobs struct{ written, read atomic.Int64 } //nolint:gochecknoglobals // counts in a worker, where nothing else is shared

func (b blob) MarshalText() ([]byte, error) {
	blobs.written.Add(1)
	return b.data, nil
}

func (b *blob) UnmarshalText(text []byte) error {
	blobs.read.Add(1)
	b.data = bytes.Clone(text)
	return nil
}

func newBlob(n int) blob { return blob{bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]} }

func (b blob) ok(n int) bool { return bytes.Equal(b.data, newBlob(n).data) }

type pair struct {
	Left, Right blob
	Tag         string
}

// quarry makes large values and takes them.
type quarry struct{}

func (quarry) Make(_ context.Context, n int) (blob, error) { return newBlob(n), nil }

func (quarry) Bytes(_ context.Context, n int) ([]byte, error) { return newBlob(n).data, nil }

func (quarry) Weigh(_ context.Context, b blob) (int, error) {
	if !b.ok(len(b.data)) {
		return 0, errors.New("the blob is damaged")
	}
	return len(b.data), nil
}

func (q quarry) WeighBoth(ctx context.Context, p pair) (int, error) {
	l, err1 := q.Weigh(ctx, p.Left)
	r, err2 := q.Weigh(ctx, p.Right)
	if p.Tag != "tag" {
		return 0, fmt.Errorf("tag %q", p.Tag)
	}
	return l + r, errors.Join(err1, err2)
}

func (quarry) Echo(_ context.Context, b []byte) ([]byte, error) { return b, nil }

func (quarry) Fail(context.Context, blob) (blob, error) { return blob{}, errors.New("it fails") }

// mason composes them, in a worker or not.
type mason struct {
	make      helve.Method[int, blob]
	weigh     helve.Method[blob, int]
	weighBoth helve.Method[pair, int]
	fail      helve.Method[blob, blob]
	echo      helve.Method[[]byte, []byte]
	kept      *helve.Response[blob]
}

type hauled struct {
	Total, Written, Read int
	Again                bool
}

// Haul passes a result on by reference, reads it twice, and says how often blobs were written and read in this process.
func (m *mason) Haul(ctx context.Context, n int) (hauled, error) {
	written, read := blobs.written.Load(), blobs.read.Load()
	made := m.make.With(helve.ByReference).Remote(ctx, n)
	weight := m.weigh.With(helve.Idempotent).RemoteFrom(ctx, made) // an option, so that it goes through the node
	total, err := weight.Result(ctx)
	if err != nil {
		return hauled{}, err
	}
	h := hauled{Total: total, Written: int(blobs.written.Load() - written), Read: int(blobs.read.Load() - read)}
	for range 2 {
		b, err := made.Result(ctx)
		if err != nil {
			return h, err
		}
		h.Again = b.ok(n)
	}
	again, err := m.weigh.With(helve.Idempotent).RemoteFrom(ctx, made).Result(ctx)
	if err != nil || again != n {
		return h, fmt.Errorf("passed on after it was read: %d, %w", again, err)
	}
	return h, nil
}

// HaulBoth is Haul with two results in fields of an input.
func (m *mason) HaulBoth(ctx context.Context, n int) (hauled, error) {
	written, read := blobs.written.Load(), blobs.read.Load()
	a, b := m.make.With(helve.ByReference).Remote(ctx, n), m.make.With(helve.ByReference).Remote(ctx, 2*n)
	total, err := m.weighBoth.With(helve.Idempotent).RemoteWith(ctx, pair{Tag: "tag"},
		helve.Fill(func(p *pair) *blob { return &p.Left }, a), helve.Fill(func(p *pair) *blob { return &p.Right }, b)).Result(ctx)
	return hauled{Total: total, Written: int(blobs.written.Load() - written), Read: int(blobs.read.Load() - read)}, err
}

// HaulMixed has one result by reference and one by value in the fields of an input.
func (m *mason) HaulMixed(ctx context.Context, n int) (int, error) {
	a, b := m.make.With(helve.ByReference).Remote(ctx, n), m.make.Remote(ctx, 10)
	return m.weighBoth.With(helve.Idempotent).RemoteWith(ctx, pair{Tag: "tag"},
		helve.Fill(func(p *pair) *blob { return &p.Left }, a), helve.Fill(func(p *pair) *blob { return &p.Right }, b)).Result(ctx)
}

// FillFailed fills an input with a result by reference that is there, and one of a call that fails after that.
func (m *mason) FillFailed(ctx context.Context, n int) (string, error) {
	a := m.make.With(helve.ByReference).Remote(ctx, n)
	if _, err := m.weigh.With(helve.Idempotent).RemoteFrom(ctx, a).Result(ctx); err != nil {
		return "", err
	}
	b := m.fail.With(helve.Idempotent).Remote(ctx, newBlob(n))
	_, err := m.weighBoth.With(helve.Idempotent).RemoteWith(ctx, pair{Tag: "tag"},
		helve.Fill(func(p *pair) *blob { return &p.Left }, a), helve.Fill(func(p *pair) *blob { return &p.Right }, b)).Result(ctx)
	again, err2 := m.weigh.With(helve.Idempotent).Call(ctx, newBlob(10)) // the connection works
	return fmt.Sprint(err, again), err2
}

// Ship is the code of docs/references.md.
func (g *mason) Ship(ctx context.Context, size int) (int, error) {
	made := g.make.With(helve.ByReference).Remote(ctx, size) // the result stays where it is made
	weight := g.weigh.RemoteFrom(ctx, made)                  // goes there from where it lies, and never comes here
	return weight.Result(ctx)
}

// Keep keeps a response until after the method has returned.
func (m *mason) Keep(ctx context.Context, detached bool) (string, error) {
	if detached {
		ctx = helve.Detach(ctx)
	}
	if m.kept != nil {
		m.kept.Close()
	}
	m.kept = m.make.With(helve.ByReference).Remote(ctx, 300_000)
	_, err := helve.All(ctx, m.weigh.RemoteFrom(ctx, m.kept))
	return "", err
}

// Kept reads the result that Keep kept; its argument names a further step.
func (m *mason) Kept(ctx context.Context, what string) (string, error) {
	if what == "close" {
		m.kept.Close()
	}
	b, err := m.kept.Result(ctx)
	if err != nil {
		return string(helve.ReasonOf(err)) + ": " + err.Error(), nil
	}
	return fmt.Sprint(b.ok(300_000)), nil
}

// Upstream passes on the result of a call that fails.
func (m *mason) Upstream(ctx context.Context, n int) (string, error) {
	_, err := m.weigh.RemoteFrom(ctx, m.fail.With(helve.ByReference).Remote(ctx, newBlob(n))).Result(ctx)
	return fmt.Sprint(err), nil
}

// Many passes many values on at once.
func (m *mason) Many(ctx context.Context, n int) (int, error) {
	var all []*helve.Response[int]
	for i := range 20 {
		all = append(all, m.weigh.With(helve.Idempotent).RemoteFrom(ctx, m.make.With(helve.ByReference).Remote(ctx, n+i)))
	}
	sum := 0
	got, err := helve.All(ctx, all...)
	for _, w := range got {
		sum += w
	}
	return sum, err
}

var buildQuarry = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("quarry")
	q := helve.Deploy(app, "Quarry", func(context.Context) (quarry, error) { return quarry{}, nil },
		helve.Options{MaxOngoingRequests: new(50)})
	m := &mason{
		make: helve.MethodOf(q, quarry.Make), weigh: helve.MethodOf(q, quarry.Weigh), weighBoth: helve.MethodOf(q, quarry.WeighBoth),
		fail: helve.MethodOf(q, quarry.Fail), echo: helve.MethodOf(q, quarry.Echo),
	}
	h := helve.Deploy(app, "Mason", func(context.Context) (*mason, error) { c := *m; return &c, nil }, helve.Options{Uses: []helve.Target{q}})
	app.Ingress(helve.MethodOf(h, (*mason).Haul))
	return app, nil
})

func quarryHandles(t *testing.T, s *helve.System) (helve.Handle[quarry], helve.Handle[*mason]) {
	t.Helper()
	q, err1 := helve.HandleOf[quarry](s, "quarry", "Quarry")
	m, err2 := helve.HandleOf[*mason](s, "quarry", "Mason")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return q, m
}

// withoutMemory is a runner whose workers share no memory: a result that is kept by reference stays with the node.
var withoutMemory = helvetest.Runner{Name: "process-sockets", Config: helve.Config{Isolation: helve.Process, ArenaSize: -1}} //nolint:gochecknoglobals // a constant

// nothingKept waits until no buffer is published and no result is kept.
func nothingKept(t *testing.T, s *helve.System) {
	t.Helper()
	fixture.Eventually(t, func() string {
		st := s.Status()
		if r := st.References; r != nil && (r.Results != 0 || r.Bytes != 0) {
			return fmt.Sprintf("%+v are kept", *r)
		}
		for name, a := range st.Applications {
			if m := a.SharedMemory; m != nil && (m.Buffers != 0 || m.References != 0 || m.Published != 0 || m.Rejected != 0) {
				return fmt.Sprintf("%s: %+v", name, *m)
			}
		}
		return ""
	})
}

// largeRunners are the runners that move large values in different ways. JSON is left out: megabytes of it take long under
// the race detector.
var largeRunners = []helvetest.Runner{helvetest.Local, helvetest.Encoded, helvetest.Socket, helvetest.Process, withoutMemory} //nolint:gochecknoglobals // a constant

// TestLargeValues sends values of all sizes to and from workers, and finds that nothing of them is left.
func TestLargeValues(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildQuarry, func(t *testing.T, s *helve.System) {
		q, _ := quarryHandles(t, s)
		ctx := t.Context()
		echo := helve.MethodOf(q, quarry.Echo)
		for _, n := range []int{0, 1, 127 << 10, 128 << 10, 128<<10 + 1, 300_000, 1 << 20, 5<<20 + 3} {
			want := newBlob(n).data
			for range 3 {
				if got, err := echo.Call(ctx, want); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("Call with %d bytes: %d bytes, %v", n, len(got), err)
				}
				if got, err := echo.Remote(ctx, want).Result(ctx); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("Remote with %d bytes: %d bytes, %v", n, len(got), err)
				}
			}
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				want := newBlob(200_000 + i).data
				for range 10 {
					if got, err := echo.Call(ctx, want); err != nil || !bytes.Equal(got, want) {
						t.Errorf("%d bytes: %d bytes, %v", len(want), len(got), err)
					}
				}
			})
		}
		wg.Wait()
		all, err := echo.Broadcast(ctx, newBlob(400_000).data).Results(ctx)
		if err != nil || len(all) != 1 || all[0].Err != nil || !bytes.Equal(all[0].Value, newBlob(400_000).data) {
			t.Errorf("broadcast: %d answers, %v", len(all), err)
		}
		nothingKept(t, s)
	}, largeRunners...)
}

// TestByReference: a result goes from its replica to another replica without being read by the caller, and may be read many
// times.
func TestByReference(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildQuarry, func(t *testing.T, s *helve.System) {
		_, m := quarryHandles(t, s)
		ctx := t.Context()
		apart := s.Status().Applications["quarry"].Deployments["Mason"].Replicas[0].PID != 0
		for _, n := range []int{10, 300_000, 3 << 20} {
			h, err := helve.MethodOf(m, (*mason).Haul).Call(ctx, n)
			if err != nil || h.Total != n || !h.Again {
				t.Fatalf("%d bytes: %+v, %v", n, h, err)
			}
			if apart && (h.Written != 1 || h.Read != 1) {
				t.Errorf("%d bytes: written %d times and read %d times on their way", n, h.Written, h.Read)
			}
			h, err = helve.MethodOf(m, (*mason).HaulBoth).Call(ctx, n)
			if err != nil || h.Total != 3*n {
				t.Fatalf("two of %d bytes: %+v, %v", n, h, err)
			}
			if apart && (h.Written != 2 || h.Read != 2) {
				t.Errorf("two of %d bytes: written %d times and read %d times on their way", n, h.Written, h.Read)
			}
			if total, err := helve.MethodOf(m, (*mason).HaulMixed).Call(ctx, n); err != nil || total != n+10 {
				t.Errorf("one of %d bytes by reference, one of 10 by value: %d, %v", n, total, err)
			}
			if text, err := helve.MethodOf(m, (*mason).FillFailed).Call(ctx, n); err != nil || !strings.Contains(text, "it fails") || !strings.HasSuffix(text, "10") {
				t.Errorf("one of %d bytes, one fails: %s, %v", n, text, err)
			}
			if total, err := helve.MethodOf(m, (*mason).Ship).Call(ctx, n); err != nil || total != n {
				t.Errorf("%d bytes were shipped as %d, %v", n, total, err)
			}
			text, err := helve.MethodOf(m, (*mason).Upstream).Call(ctx, n)
			if err != nil || !strings.Contains(text, "it fails") {
				t.Errorf("upstream fails: %s, %v", text, err)
			}
		}
		if sum, err := helve.MethodOf(m, (*mason).Many).Call(ctx, 200_000); err != nil || sum != 20*200_000+190 {
			t.Errorf("many: %d, %v", sum, err)
		}
		nothingKept(t, s)
	}, largeRunners...)
}

// TestReferencesEnd: a reference ends with the method that made the call, unless the call was detached, and with Close.
func TestReferencesEnd(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildQuarry, func(t *testing.T, s *helve.System) {
		_, m := quarryHandles(t, s)
		ctx := t.Context()
		keep, kept := helve.MethodOf(m, (*mason).Keep), helve.MethodOf(m, (*mason).Kept)
		for _, c := range []struct {
			detached bool
			what     string
			want     string
		}{{false, "", "data_loss"}, {true, "", "true"}, {true, "close", "true"}, {true, "close first", "data_loss"}} {
			if _, err := keep.Call(ctx, c.detached); err != nil {
				t.Fatal(err)
			}
			what := c.what
			if what == "close first" {
				what = "close"
			} else if c.detached {
				if got, err := kept.Call(ctx, ""); err != nil || got != "true" { // the result is read, and so stays
					t.Errorf("%+v: %s, %v", c, got, err)
				}
			}
			if got, err := kept.Call(ctx, what); err != nil || !strings.HasPrefix(got, c.want) {
				t.Errorf("%+v: %s, %v", c, got, err)
			}
			kept.Call(ctx, "close") // else it lives until the collector of a process that has nothing to do finds it
		}
		nothingKept(t, s)
	}, helvetest.Process, withoutMemory)
}

// TestReferenceLimits: over the limit a call answers by value, and fails if the value is too large for that.
func TestReferenceLimits(t *testing.T) {
	t.Parallel()
	s := helvetest.Start(t, helve.Config{Isolation: helve.Process, ArenaSize: -1, ReferenceLimit: 1 << 20}, buildQuarry)
	_, m := quarryHandles(t, s)
	ctx := t.Context()
	if h, err := helve.MethodOf(m, (*mason).Haul).Call(ctx, 2<<20); err != nil || h.Total != 2<<20 {
		t.Errorf("by value: %+v, %v", h, err)
	}
	_, err := helve.MethodOf(m, (*mason).Haul).Call(ctx, 9<<20)
	if helve.CodeOf(err) != helve.ResourceExhausted || !strings.Contains(err.Error(), "ReferenceLimit") {
		t.Errorf("neither by reference nor by value: %v", err)
	}
	if r := s.Status().References; r == nil || r.Refused != 2 {
		t.Errorf("references: %+v", r)
	}
	nothingKept(t, s)
	for _, c := range []helve.Config{{ArenaSize: 5}, {ReferenceLimit: -1}} {
		if _, err := c.Run(ctx, buildQuarry); err == nil || !strings.Contains(err.Error(), "must ") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestFullArena: a value that does not fit into the shared memory travels over the socket.
func TestFullArena(t *testing.T) {
	t.Parallel()
	s := helvetest.Start(t, helve.Config{Isolation: helve.Process, ArenaSize: 1 << 20}, buildQuarry)
	q, m := quarryHandles(t, s)
	ctx := t.Context()
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for range 5 {
				want := newBlob(400_000 + i).data
				if got, err := helve.MethodOf(q, quarry.Echo).Call(ctx, want); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes: %d bytes, %v", len(want), len(got), err)
				}
				if h, err := helve.MethodOf(m, (*mason).Haul).Call(ctx, 700_000); err != nil || h.Total != 700_000 {
					t.Errorf("%+v, %v", h, err)
				}
			}
		})
	}
	wg.Wait()
	if full := s.Status().Applications["quarry"].SharedMemory.Full; full == 0 {
		t.Error("the arena was never full: the test shows nothing")
	}
	nothingKept(t, s)
}

// TestKilledWorkerLeaksNothing: the memory that a killed worker read is free when its process is gone, and the results that
// it made live as long as a reader has them.
func TestKilledWorkerLeaksNothing(t *testing.T) {
	t.Parallel()
	s := helvetest.Start(t, helve.Config{Isolation: helve.Process}, buildQuarry)
	q, m := quarryHandles(t, s)
	ctx := t.Context()
	var made []*helve.Response[blob]
	for range 10 {
		made = append(made, helve.MethodOf(q, quarry.Make).With(helve.ByReference).Remote(ctx, 500_000))
	}
	for _, r := range made[:5] {
		if _, err := r.Result(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := helve.MethodOf(m, (*mason).Keep).Call(ctx, true); err != nil {
		t.Fatal(err)
	}
	for _, r := range made { // all have ended
		if _, err := r.Result(ctx); err != nil {
			t.Fatal(err)
		}
	}
	before := s.Status().Applications["quarry"]
	if before.SharedMemory.Leased == 0 {
		t.Fatal("the worker holds no lease: the test shows nothing")
	}
	syscall.Kill(before.Deployments["Quarry"].Replicas[0].PID, syscall.SIGKILL)
	for _, r := range made { // the values are read again from shared memory
		if b, err := helve.MethodOf(q, quarry.Weigh).With(helve.Idempotent).RemoteFrom(ctx, r).Result(ctx); err != nil || b != 500_000 {
			t.Errorf("after the producer's end: %d, %v", b, err)
		}
		r.Close()
	}
	nothingKept(t, s)
}

// TestReferencesBetweenApplications: each application has shared memory of its own, and a value in it goes to another
// application as a copy.
func TestReferencesBetweenApplications(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildQuarry, func(t *testing.T, s *helve.System) {
		ctx := t.Context()
		if err := s.Deploy(ctx, func() (*helve.App, error) {
			app := helve.NewApp("other")
			app.RoutePrefix("/other")
			q := helve.Deploy(app, "Quarry", func(context.Context) (quarry, error) { return quarry{}, nil }, helve.Options{})
			app.Ingress(helve.MethodOf(q, quarry.Weigh))
			return app, nil
		}); err != nil {
			t.Fatal(err)
		}
		q, _ := quarryHandles(t, s)
		other, err := helve.HandleOf[quarry](s, "other", "Quarry")
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			made := helve.MethodOf(q, quarry.Make).With(helve.ByReference).Remote(ctx, 300_000)
			if n, err := helve.MethodOf(other, quarry.Weigh).RemoteFrom(ctx, made).Result(ctx); err != nil || n != 300_000 {
				t.Errorf("%d, %v", n, err)
			}
			made.Close()
		}
		nothingKept(t, s)
	}, helvetest.Socket)
}
