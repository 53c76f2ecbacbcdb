package models

import (
	"context"
	"errors"
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

func (t *tally) Asked() { t.note("asked") }
func (t *tally) Loaded(id string, took time.Duration, n int, ahead bool) {
	t.note("loaded %s in %v: %d%s", id, took, n, map[bool]string{true: ", ahead"}[ahead])
}
func (t *tally) Left(id string, n int)       { t.note("left %s: %d", id, n) }
func (t *tally) Unloaded(took time.Duration) { t.note("unloaded in %v", took) }

// TestMeasures: requests, loads and unloads are counted with their times; a load that fails is no load.
func TestMeasures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m tally
		c, err := New(func(_ context.Context, id string) (string, error) {
			time.Sleep(2 * time.Second)
			if id == "bad" {
				return "", errors.New("bad")
			}
			return id, nil
		}, Options{Max: 1}, Hooks[string]{Measures: &m, Close: func(context.Context, string) error { time.Sleep(time.Second); return nil }})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"a", "a", "bad", "b"} {
			if _, release, err := c.Get(t.Context(), id); err == nil {
				release()
			}
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		want := []string{"asked", "loaded a in 2s: 1", "asked", "asked", "asked", "loaded b in 2s: 2", "left a: 1", "unloaded in 1s", "left b: 0", "unloaded in 1s"}
		slices.Sort(want[6:])
		slices.Sort(m.log[min(6, len(m.log)):])
		if !slices.Equal(m.log, want) {
			t.Errorf("%q, want %q", m.log, want)
		}
	})
}
