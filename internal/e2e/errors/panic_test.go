package errors_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestGoexitUnderCall: a method that ends its goroutine ends that of its caller where Call runs it there. The caller of that one
// gets an error, and all slots are free.
func TestGoexitUnderCall(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		var labs map[string]fixture.RunningLab
		labs = fixture.StartLabs(t, r, map[string]helve.Options{"A": fixture.OneSlot(), "B": fixture.OneSlot()}, func(name string) *fixture.Lab {
			do := func(_ context.Context, n int) (int, error) {
				if n < 0 {
					runtime.Goexit()
				}
				return n, nil
			}
			if name == "A" {
				do = func(ctx context.Context, n int) (int, error) { return labs["B"].Do.Call(ctx, n) }
			}
			return &fixture.Lab{OnDo: do}
		})
		ctx, a, b := t.Context(), labs["A"].Do, labs["B"].Do
		for way, call := range map[string]func() error{
			"Remote":    func() error { _, err := a.Remote(ctx, -1).Result(ctx); return err },
			"Broadcast": func() error { _, err := a.Broadcast(ctx, -1).Results(ctx); return err },
		} {
			if e, ok := errors.AsType[*helve.Error](call()); !ok || e.Type() != "goexit" {
				t.Errorf("%s: %v", way, e)
			}
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			a.Call(ctx, -1) //nolint:errcheck // it may end this goroutine
		}()
		<-ended
		for way, m := range map[string]helve.Method[int, int]{"A": a, "B": b} {
			limit, cancel := context.WithTimeout(ctx, time.Minute)
			if v, err := m.Call(limit, 3); v != 3 || err != nil {
				t.Errorf("then %s: %d, %v", way, v, err)
			}
			cancel()
		}
	})
}

func TestGoexitAndPanicResolve(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		l := fixture.StartLab(t, r, fixture.OneSlot(), &fixture.Lab{
			OnDo: func(_ context.Context, n int) (int, error) {
				switch n {
				case 0:
					panic("boom")
				case 1:
					fixture.Exit()
				}
				return n, nil
			},
			OnSeq: func(_ context.Context, n int) fixture.Seq {
				return func(yield func(int, error) bool) {
					yield(5, nil)
					if n == 0 {
						panic("boom")
					}
					fixture.Exit()
				}
			},
		})
		for n, want := range []string{"panic", "goexit"} {
			_, err := l.Do.Remote(t.Context(), n).Result(t.Context())
			var e *helve.Error
			if !errors.As(err, &e) || e.Type() != want || e.Traceback() == "" {
				t.Errorf("%d: %+v", n, err)
			}
			got, err := fixture.Collect(l.Seq.Remote(t.Context(), n).All())
			if !errors.As(err, &e) || e.Type() != want || !slices.Equal(got, []int{5}) {
				t.Errorf("stream %d: %v, %+v", n, got, err)
			}
		}
		if _, err := l.Do.Call(t.Context(), 0); helve.ReasonOf(err) != helve.User {
			t.Errorf("%v", err)
		}
		if got, err := fixture.Collect(l.Seq.Call(t.Context(), 0)); helve.ReasonOf(err) != helve.User || len(got) != 1 {
			t.Errorf("%v, %v", got, err)
		}
		if v, err := l.Do.Call(t.Context(), 2); v != 2 || err != nil {
			t.Errorf("the slot was lost: %d, %v", v, err)
		}
	})
}
