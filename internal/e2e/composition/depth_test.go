package composition_test

import (
	"context"
	"iter"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestDepth(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		var l fixture.RunningLab
		l = fixture.StartLab(t, r, helve.Options{MaxOngoingRequests: new(100)}, &fixture.Lab{OnDo: func(ctx context.Context, n int) (int, error) {
			if n%2 == 0 {
				return l.In(ctx).Do.Call(ctx, n+1)
			}
			return l.In(ctx).Do.Remote(ctx, n+1).Result(ctx)
		}})
		_, err := l.Do.Call(t.Context(), 0)
		fixture.WantReason(t, err, "depth")
		above := "Lab.Do -> Lab.Do -> "
		if r.Config.Isolation != helve.InNode { // the calls above were made in another process
			above = "Lab.Do"
		}
		if !strings.Contains(err.Error(), "64 deep: "+above) {
			t.Errorf("%v", err)
		}
	})
}

// TestDepthOfOneWay: the limit holds although every call goes the same way, as long as there are slots.
func TestDepthOfOneWay(t *testing.T) {
	t.Parallel()
	ways := map[string]func(ctx context.Context, l fixture.RunningLab, n int) (int, error){
		"Call": func(ctx context.Context, l fixture.RunningLab, n int) (int, error) { return l.Do.Call(ctx, n) },
		"Remote": func(ctx context.Context, l fixture.RunningLab, n int) (int, error) {
			return l.Do.Remote(ctx, n).Result(ctx)
		},
		"named": func(ctx context.Context, l fixture.RunningLab, n int) (int, error) {
			return helve.MethodNamed[int, int](l.Handle, "Do").Call(ctx, n)
		},
		"dispatch": func(ctx context.Context, l fixture.RunningLab, n int) (int, error) {
			s, err := l.Do.Choose(context.WithoutCancel(ctx))
			if err != nil {
				return 0, err
			}
			return l.Do.Dispatch(ctx, s, n).Result(ctx)
		},
	}
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		for name, call := range ways {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var l fixture.RunningLab
				var deepest atomic.Int64
				l = fixture.StartLab(t, r, helve.Options{MaxOngoingRequests: new(400)}, &fixture.Lab{OnDo: func(ctx context.Context, n int) (int, error) {
					deepest.Store(int64(n))
					return call(ctx, l.In(ctx), n+1)
				}})
				_, err := call(t.Context(), l, 0)
				fixture.WantReason(t, err, "depth")
				if deepest.Load() != 63 {
					t.Errorf("%d calls nested", deepest.Load()+1)
				}
			})
		}
		t.Run("stream", func(t *testing.T) {
			t.Parallel()
			for _, remote := range []bool{false, true} {
				var l fixture.RunningLab
				var deepest atomic.Int64
				l = fixture.StartLab(t, r, helve.Options{MaxOngoingRequests: new(400)}, &fixture.Lab{OnSeq: func(ctx context.Context, n int) iter.Seq2[int, error] {
					deepest.Store(int64(n))
					if remote {
						return l.In(ctx).Seq.Remote(ctx, n+1).All()
					}
					return l.In(ctx).Seq.Call(ctx, n+1)
				}})
				for _, err := range l.Seq.Call(t.Context(), 0) {
					fixture.WantReason(t, err, "depth")
				}
				if deepest.Load() != 63 {
					t.Errorf("%d streams nested, remote %t", deepest.Load()+1, remote)
				}
			}
		})
	})
}
