package moves

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestPlanExample is the example of [Plan].
func TestPlanExample(t *testing.T) {
	t.Parallel()
	models := []Model{{"es", time.Hour}, {"de", time.Minute}, {"fr", time.Second}}
	moves := Plan(models, []Candidate{{ID: "R2", Models: 3}, {ID: "R1", Models: 2}})
	if fmt.Sprint(moves) != "[{{fr 1s} [1 0]} {{de 1m0s} [1 0]}]" {
		t.Error(moves)
	}
	if moves := Plan(models, nil); moves != nil {
		t.Error(moves)
	}
}

// TestPlanProperty: of random models and replicas, each model that was used lately moves once, the most recently used first, to a replica of the newest revision if there is one, and
// never to a replica that has more models than another has then. The order of the arguments does not matter.
func TestPlanProperty(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		models := make([]Model, r.IntN(8))
		for i := range models {
			models[i] = Model{fmt.Sprint("m", i), time.Duration(r.IntN(int(20 * time.Minute)))}
		}
		candidates := make([]Candidate, 1+r.IntN(5))
		newest := false
		for i := range candidates {
			candidates[i] = Candidate{fmt.Sprint("R", i), r.IntN(2) == 0, r.IntN(4), r.IntN(3)}
			newest = newest || candidates[i].Newest
		}
		moves := Plan(models, candidates)
		moved, has := map[string]bool{}, map[int]int{}
		for i, c := range candidates {
			has[i] = c.Models
		}
		for n, m := range moves {
			if moved[m.Model.ID] || !slices.Contains(models, m.Model) || m.Model.Unused > Lately {
				t.Fatal(seed, m)
			}
			moved[m.Model.ID] = true
			if n > 0 && moves[n-1].Model.Unused > m.Model.Unused {
				t.Fatal(seed, moves)
			}
			if len(m.To) == 0 || len(m.To) > tries {
				t.Fatal(seed, m)
			}
			for i, to := range m.To {
				if newest && !candidates[to].Newest || slices.Contains(m.To[:i], to) {
					t.Fatal(seed, m)
				}
			}
			for i, c := range candidates {
				if (c.Newest || !newest) && has[i] < has[m.To[0]] {
					t.Fatal(seed, m, has)
				}
			}
			has[m.To[0]]++
		}
		for _, m := range models {
			if moved[m.ID] != (m.Unused <= Lately) {
				t.Fatal(seed, m, moves)
			}
		}
		names := func(moves []Move, candidates []Candidate) (out []string) {
			for _, m := range moves {
				for _, to := range m.To {
					out = append(out, m.Model.ID+" "+candidates[to].ID)
				}
			}
			return out
		}
		want := names(moves, candidates)
		r.Shuffle(len(models), func(i, j int) { models[i], models[j] = models[j], models[i] })
		r.Shuffle(len(candidates), func(i, j int) { candidates[i], candidates[j] = candidates[j], candidates[i] })
		if got := names(Plan(models, candidates), candidates); !slices.Equal(got, want) {
			t.Fatal(seed, got, want)
		}
	}
}
