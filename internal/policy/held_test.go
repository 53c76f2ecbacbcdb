package policy

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// scripted answers as it is told.
type scripted struct {
	asked chan []View
	say   chan any // a number, or an error
}

func (s scripted) Ask(ctx context.Context, views []View) (map[string]Answer, error) {
	s.asked <- views
	switch x := (<-s.say).(type) {
	case error:
		return nil, x
	case float64:
		return map[string]Answer{views[0].Deployment: {Replicas: x}}, nil
	}
	return nil, nil
}

func newScripted() scripted { return scripted{make(chan []View, 1), make(chan any)} }

func views() []View { return []View{{Deployment: "D"}} }

// TestHeld: one question at a time, the last answer holds over failures, and failures are asked again later and later.
func TestHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScripted()
		changes := 0
		h := Hold(s, Settings{Limit: 10 * time.Second, Changed: func() { changes++ }})
		defer h.Close()
		if _, ok := h.Last("D"); ok {
			t.Error("an answer before the first")
		}
		h.Offer(time.Now(), views)
		<-s.asked
		h.Offer(time.Now().Add(time.Hour), func() []View { t.Error("a second question"); return nil })
		s.say <- 3.0
		synctest.Wait()
		if a, ok := h.Last("D"); !ok || a.Replicas != 3 || h.Failure() != nil || changes != 1 {
			t.Error(a, ok, h.Failure(), changes)
		}
		if again := h.Offer(time.Now(), views); time.Until(again) != Period {
			t.Error("asked again at once", again)
		}
		for i, wait := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second} {
			time.Sleep(time.Minute)
			h.Offer(time.Now(), views)
			<-s.asked
			s.say <- errors.New("broken")
			synctest.Wait()
			f := h.Failure()
			if a, _ := h.Last("D"); a.Replicas != 3 || f == nil || f.Row != i+1 || f.Err.Error() != "broken" {
				t.Error(a, f)
			}
			if got := time.Until(h.Offer(time.Now(), views)); got != wait {
				t.Errorf("failure %d: asked again in %s", i, got)
			}
		}
		time.Sleep(time.Minute)
		h.Offer(time.Now(), views)
		<-s.asked
		s.say <- 5.0
		synctest.Wait()
		if a, _ := h.Last("D"); a.Replicas != 5 || h.Failure() != nil {
			t.Error(a, h.Failure())
		}
	})
}

// TestHeldLate: a policy that is late has failed, and its number does not count when it comes; it is asked again when it has returned.
func TestHeldLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScripted()
		h := Hold(s, Settings{Limit: 10 * time.Second})
		defer h.Close()
		h.Offer(time.Now(), views)
		<-s.asked
		time.Sleep(11 * time.Second)
		if f := h.Failure(); f == nil || f.Err.Error() != "it has not answered within 10s" {
			t.Error(f)
		}
		time.Sleep(time.Hour)
		h.Offer(time.Now(), func() []View { t.Error("asked while it runs"); return nil })
		s.say <- 7.0
		synctest.Wait()
		if a, ok := h.Last("D"); ok {
			t.Error(a)
		}
		h.Offer(time.Now(), views)
		<-s.asked
		s.say <- 8.0
		synctest.Wait()
		if a, _ := h.Last("D"); a.Replicas != 8 || h.Failure() != nil {
			t.Error(a, h.Failure())
		}
	})
}

func TestFunc(t *testing.T) {
	t.Parallel()
	f := Func(func(_ context.Context, v View) (Answer, error) {
		if v.Total > 100 {
			panic("much")
		}
		return Answer{Replicas: v.Total - 1}, nil
	})
	got, err := f.Ask(t.Context(), []View{{Deployment: "A", Total: 3}, {Deployment: "B", Total: 2}})
	if err != nil || got["A"].Replicas != 2 || got["B"].Replicas != 1 {
		t.Error(got, err)
	}
	for total, want := range map[float64]string{101: "panic: much", 0: "it must answer a number of replicas, 0 or more, and has answered -1"} {
		if _, err := f.Ask(t.Context(), []View{{Total: total}}); err == nil || err.Error() != want {
			t.Error(err)
		}
	}
}
