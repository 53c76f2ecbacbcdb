package batch

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// tally writes down what it is told.
type tally struct {
	mu  sync.Mutex
	log []string
}

func (t *tally) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log = append(t.log, fmt.Sprintf(format, args...))
}

// take gives what was written down since the last time, once nothing runs any more.
func (t *tally) take() []string {
	synctest.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.log
	t.log = nil
	return l
}

func (t *tally) Began(waits []time.Duration, filled float64, waiting int) {
	slices.Sort(waits)
	t.note("began %v, %.2f full, %d wait", waits, filled, waiting)
}

func (t *tally) Ended(took time.Duration) { t.note("ended after %v", took) }

// TestMeasures: each batch is counted with the waits of its calls, its size by the size function, the calls that are left, and its time, also when it panics.
func TestMeasures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m tally
		b, err := New(func(_ context.Context, in []int) ([]int, error) {
			time.Sleep(time.Second)
			if in[0] == 5 {
				panic("five")
			}
			return in, nil
		}, Options{MaxSize: 10, Wait: new(time.Millisecond)}, func(n int) int { return n })
		if err != nil {
			t.Fatal(err)
		}
		b.Measure(&m)
		var calls sync.WaitGroup
		for _, n := range []int{2, 3, 5, 6, 7} {
			calls.Go(func() {
				time.Sleep(time.Duration(n) * 100 * time.Microsecond)
				b.Do(t.Context(), n) //nolint:errcheck // one panics
			})
		}
		calls.Wait()
		want := []string{
			"began [0s 200µs 300µs], 1.00 full, 0 wait", "ended after 1s",
			"began [999.9ms], 0.60 full, 1 wait", "ended after 1s",
			"began [1.9998s], 0.70 full, 0 wait", "ended after 1s",
		}
		if got := m.take(); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		b.Do(t.Context(), 5) //nolint:errcheck // it panics
		want = []string{"began [1ms], 0.50 full, 0 wait", "ended after 1s"}
		if got := m.take(); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}
