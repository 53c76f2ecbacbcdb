package calls_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Joiner batches.
type Joiner struct {
	sum    *helve.Batcher[int, int]
	tokens *helve.StreamBatcher[int, int]
}

func (j *Joiner) Sum(ctx context.Context, n int) (int, error)             { return j.sum.Do(ctx, n) }
func (j *Joiner) Tokens(ctx context.Context, n int) iter.Seq2[int, error] { return j.tokens.Do(ctx, n) }

func TestBatching(t *testing.T) {
	t.Parallel()
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Encoded, helvetest.Pipe} {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var sizes []int
				var mu sync.Mutex
				sys := helvetest.Start(t, r.Config, func() (*helve.App, error) {
					app := helve.NewApp("join")
					h := helve.Deploy(app, "Joiner", func(context.Context) (*Joiner, error) {
						sum, err := helve.NewBatcher(func(ctx context.Context, in []int) ([]int, error) {
							if len(helve.BatchMembers(ctx)) != len(in) {
								return nil, errors.New("members")
							}
							mu.Lock()
							defer mu.Unlock()
							sizes = append(sizes, len(in))
							total := 0
							for _, n := range in {
								total += n
							}
							return slices.Repeat([]int{total}, len(in)), nil
						}, helve.BatchOptions[int]{MaxSize: 4, Wait: new(time.Minute)})
						if err != nil {
							return nil, err
						}
						tokens, err := helve.NewStreamBatcher(func(_ context.Context, in []int) iter.Seq2[[]helve.BatchItem[int], error] {
							return func(yield func([]helve.BatchItem[int], error) bool) {
								for i := range 3 {
									step := make([]helve.BatchItem[int], len(in))
									for k, n := range in {
										step[k] = helve.BatchItem[int]{Value: 10*n + i}
									}
									if !yield(step, nil) {
										return
									}
								}
							}
						}, helve.BatchOptions[int]{MaxSize: 2, Wait: new(time.Minute)})
						return &Joiner{sum, tokens}, err
					}, helve.Options{MaxOngoingRequests: new(8)})
					app.Ingress(helve.MethodOf(h, (*Joiner).Sum))
					return app, nil
				})
				h, err := helve.HandleOf[*Joiner](sys, "join", "Joiner")
				if err != nil {
					t.Fatal(err)
				}
				sum, tokens, ctx := helve.MethodOf(h, (*Joiner).Sum), helve.StreamOf(h, (*Joiner).Tokens), t.Context()
				var rs []*helve.Response[int]
				for n := range 5 {
					rs = append(rs, sum.Remote(ctx, n))
					synctest.Wait()
				}
				start := time.Now()
				vs, err := helve.All(ctx, rs...)
				if err != nil || !slices.Equal(vs, []int{6, 6, 6, 6, 4}) || !slices.Equal(sizes, []int{4, 1}) || time.Since(start) != time.Minute {
					t.Errorf("%v, %v, batches of %v after %v", vs, err, sizes, time.Since(start))
				}
				a, b := tokens.Remote(ctx, 1), tokens.Remote(ctx, 2)
				if got, err := fixture.Collect(a.All()); err != nil || !slices.Equal(got, []int{10, 11, 12}) {
					t.Errorf("%v, %v", got, err)
				}
				if got, err := fixture.Collect(b.All()); err != nil || !slices.Equal(got, []int{20, 21, 22}) {
					t.Errorf("%v, %v", got, err)
				}
			})
		})
	}
	if _, err := helve.NewBatcher[int, int](nil, helve.BatchOptions[int]{MaxSize: -1}); err == nil {
		t.Error("mistakes were accepted")
	}
}
