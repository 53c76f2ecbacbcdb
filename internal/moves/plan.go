package moves

import (
	"cmp"
	"slices"
	"time"
)

// Lately is the time since the last use of a model after which it does not move: the model would probably be loaded for no call, and would take memory from models that are
// used. It is as long as the time without load after which the autoscaler's default gives up a replica (downscale_delay_s): a model is kept as long as a replica is.
const Lately = 10 * time.Minute

// tries is the number of replicas that are asked to load one model. A replica refuses a model for which it has no room, and where three have none the others rarely have.
const tries = 3

// Model is a model that a replica has which stops.
type Model struct {
	ID     string
	Unused time.Duration // since its last use; 0 for a model in use
}

// Candidate is a replica that stays.
type Candidate struct {
	ID     string
	Newest bool // of the newest revision, and no other replica is to take its place
	Models int  // that it has or is loading
	Calls  int  // that it executes
}

// Move is a model that moves. To has the positions of the candidates that are asked to load it, one after the other, until one has loaded it.
type Move struct {
	Model Model
	To    []int
}

// Plan decides which models of a replica that stops move, and where. Models that were used lately move, the most recently used first. Candidates of the newest revision are
// asked, or, if there is none, all. A model goes to the candidate with the fewest models, where the models that move there count; then to the candidate with the fewest calls, and then to the
// first by id.
//
// For example, a replica with the models fr and de, used a second and a minute ago, and es, used an hour ago, stops. R1 has two models and R2 three. fr goes to R1, de to R1 too, because
// both have three models then and R1 comes first, and es goes nowhere.
func Plan(models []Model, candidates []Candidate) []Move {
	var asked []int
	for i, c := range candidates {
		if c.Newest {
			asked = append(asked, i)
		}
	}
	if len(asked) == 0 {
		for i := range candidates {
			asked = append(asked, i)
		}
	}
	if len(asked) == 0 {
		return nil
	}
	has := make([]int, len(candidates))
	for i, c := range candidates {
		has[i] = c.Models
	}
	models = slices.Clone(models)
	slices.SortFunc(models, func(a, b Model) int { return cmp.Or(cmp.Compare(a.Unused, b.Unused), cmp.Compare(a.ID, b.ID)) })
	var moves []Move
	for _, m := range models {
		if m.Unused > Lately {
			continue
		}
		slices.SortFunc(asked, func(i, j int) int {
			a, b := candidates[i], candidates[j]
			return cmp.Or(cmp.Compare(has[i], has[j]), cmp.Compare(a.Calls, b.Calls), cmp.Compare(a.ID, b.ID))
		})
		moves = append(moves, Move{m, slices.Clone(asked[:min(tries, len(asked))])})
		has[asked[0]]++
	}
	return moves
}
