package planner

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestFailuresAgainstAModel: a failure begins another round if its replica was started after the first failure of the round before, of
// its kind. The model compares the times of starts and failures; [Failures] has numbers.
func TestFailuresAgainstAModel(t *testing.T) {
	t.Parallel()
	type kind struct {
		rounds int
		begun  int // the time of the first failure of the last round
	}
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 0))
			var f Failures
			var starting, running kind
			var startedAt []int // by the number of the start, from 1
			number := 0
			fail := func(k *kind, order, now int) {
				number++
				if startedAt[order-1] > k.begun {
					k.rounds, k.begun = k.rounds+1, now
				}
			}
			for now := 1; now <= 1000; now++ {
				at := start.Add(time.Duration(now) * time.Second)
				switch step := rnd.IntN(20); {
				case step < 7 || len(startedAt) == 0:
					startedAt = append(startedAt, now)
					if order := f.Start(); order != len(startedAt) {
						t.Fatalf("start %d has the number %d", len(startedAt), order)
					}
				case step < 11:
					order := 1 + rnd.IntN(len(startedAt))
					fail(&starting, order, now)
					f.StartFailed(order, at)
				case step < 15:
					order := 1 + rnd.IntN(len(startedAt))
					fail(&running, order, now)
					f.ReplicaFailed(order, at)
				case step < 16:
					starting.rounds = 0
					f.Ready()
				case step < 17:
					running.rounds, number = 0, 0
					f.Forgive(HealthyTime + time.Second)
				case step < 18:
					f.Forgive(HealthyTime)
				case step < 19:
					starting.rounds, running.rounds = 0, 0
					f.Retry()
				default:
					starting.rounds, running.rounds, number = 0, 0, 0
					f.Forget()
				}
				h := f.History(now%2 == 0)
				if h.Failures != number || f.Number() != number || h.Rounds != max(starting.rounds, running.rounds) || h.Ran != (now%2 == 0) {
					t.Fatalf("after %d steps: %+v, want %d failures, rounds %d and %d", now, h, number, starting.rounds, running.rounds)
				}
			}
		})
	}
}

// TestDelayAfterFailures: one moment of trouble delays no start, however many replicas it took; the next failure delays by a second.
func TestDelayAfterFailures(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(f *Failures, order int){
		"of starts":   func(f *Failures, order int) { f.StartFailed(order, start) },
		"of replicas": func(f *Failures, order int) { f.ReplicaFailed(order, start) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wake := func(f *Failures) time.Duration {
				_, wake := Plan([]Target{{Key: a, Replicas: 3}}, nil, map[Key]History{a: f.History(true)}, start)
				if wake.IsZero() {
					return 0
				}
				return wake.Sub(start)
			}
			var f Failures
			for range 3 {
				f.Start()
			}
			fail(&f, 0) // of a replica that another node started
			for order := range 3 {
				fail(&f, order+1)
				if got := wake(&f); got != 0 {
					t.Errorf("after the failure of start %d of a round: %s", order+1, got)
				}
			}
			fail(&f, f.Start())
			if got := wake(&f); got != time.Second {
				t.Errorf("after the next round: %s", got)
			}
			if f.Number() != 5 {
				t.Errorf("%d failures", f.Number())
			}
		})
	}
}

// TestFlapping: three rounds of ends after replicas were ready are flapping; starts that fail, and ends after a long time, are not.
func TestFlapping(t *testing.T) {
	t.Parallel()
	var f Failures
	for i := range 3 {
		if got := f.Flapping(); got != 0 {
			t.Errorf("%d after %d ends", got, i)
		}
		order := f.Start()
		f.StartFailed(order, start)
		order = f.Start()
		f.Ready()
		f.ReplicaFailed(order, start)
	}
	if got := f.Flapping(); got != 3 {
		t.Errorf("%d after three ends", got)
	}
	if f.Forgive(HealthyTime + 1); f.Flapping() != 0 {
		t.Error("it flaps after it ran for long")
	}
}
