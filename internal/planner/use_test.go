package planner

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestLeastToLose: of replicas that are too many those go whose end loses the least, in this order: not ready, fewer calls, fewer streams, fewer models that no other
// replica has, fewer models, younger.
func TestLeastToLose(t *testing.T) {
	t.Parallel()
	k, start := Key{"app", "D"}, time.Unix(0, 0)
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var all []Observed
		for i := range 1 + r.IntN(8) {
			o := Observed{Key: k, ID: fmt.Sprint(i), State: []State{Starting, Unready, Running, Running}[r.IntN(4)], StartedAt: start.Add(time.Duration(r.IntN(3)) * time.Second)}
			if o.State == Running {
				o.Use = Use{Calls: r.IntN(3), Streams: r.IntN(3), Alone: r.IntN(2), Models: r.IntN(3)}
			}
			all = append(all, o)
		}
		n := r.IntN(len(all) + 1)
		stopped := map[string]bool{}
		actions, _ := Step(Target{Key: k, Replicas: n}, all, History{}, func(bool) bool { return false }, start)
		for _, a := range actions {
			if s, ok := a.(Stop); ok {
				stopped[s.Replica] = true
			}
		}
		if len(stopped) != len(all)-n {
			t.Fatalf("%d of %d replicas stop, and %d are wanted: %v", len(stopped), len(all), n, all)
		}
		worth := func(o Observed) []int {
			return []int{int(o.State), o.Use.Calls, o.Use.Streams, o.Use.Alone, o.Use.Models, -int(o.StartedAt.Unix())}
		}
		for _, gone := range all {
			for _, stays := range all {
				if stopped[gone.ID] && !stopped[stays.ID] && slices.Compare(worth(gone), worth(stays)) > 0 {
					t.Fatalf("%v stops, and %v stays", gone, stays)
				}
			}
		}
		slices.SortFunc(all, func(a, b Observed) int { return cmp.Compare(b.ID, a.ID) })
		again, _ := Step(Target{Key: k, Replicas: n}, all, History{}, func(bool) bool { return false }, start)
		if !slices.Equal(actions, again) {
			t.Fatalf("the order of the replicas changes the answer: %v, %v", actions, again)
		}
	}
}
