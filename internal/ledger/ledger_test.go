package ledger

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/placement"
)

func gpus(n float64) placement.Demand { return placement.Demand{GPUs: placement.AmountOf(n)} }

// at is the devices of a replica that has asked; "-" while it waits.
func at(w *Wait) string {
	select {
	case <-w.Done():
		return strings.Join(w.Holding().Devices, ",")
	default:
		return "-"
	}
}

// TestTurns: resources that come back go to the replicas that wait, in turn, past a replica that needs more.
func TestTurns(t *testing.T) {
	t.Parallel()
	l := New(placement.Unstated("", "0", "1"))
	a, b, c, d := l.Ask("A", "app/A", gpus(1)), l.Ask("B", "app/B", gpus(2)), l.Ask("C", "app/C", gpus(1)), l.Ask("D", "app/D", gpus(1))
	if got := at(a) + at(b) + at(c) + at(d); got != "0-1-" {
		t.Fatal(got)
	}
	if why := b.Reason(); why == nil || why.Error() != "needs 2 GPUs, and 0 of 2 are free: app/A holds 1, app/C holds 1" {
		t.Error(why)
	}
	l.Free("A")
	l.Free("A")
	if got := at(b) + at(d); got != "-0" || d.Reason() != nil {
		t.Error(got)
	}
	l.Free("C")
	d.Leave() // the place of the replica stays
	if got := at(b); got != "-" {
		t.Error(got)
	}
	l.Free("D")
	if got := at(b); got != "0,1" {
		t.Error(got)
	}
}

// TestLeave: a replica that does not wait any more gets nothing.
func TestLeave(t *testing.T) {
	t.Parallel()
	l := New(placement.Unstated("", "0"))
	l.Ask("A", "app/A", gpus(1))
	b, c := l.Ask("B", "app/B", gpus(1)), l.Ask("C", "app/C", gpus(1))
	b.Leave()
	b.Leave()
	l.Free("A")
	if got := at(b) + at(c); got != "-0" || b.Reason() != nil {
		t.Error(got)
	}
}

// TestClaim: the holding of a replica that ends for another one is for that one, also where two of them are needed, and other resources are for others.
func TestClaim(t *testing.T) {
	t.Parallel()
	l := New(placement.Unstated("", "0", "1", "2"))
	l.Ask("A#1", "app/A", gpus(1))
	l.Ask("A#2", "app/A", gpus(1))
	l.Ask("C#1", "app/C", gpus(1))
	y := l.Ask("Y", "app/Y", gpus(1))
	a := l.Ask("A#3", "app/A", gpus(2))
	a.Claim("A#1", []string{"A#1", "A#2"})
	l.Free("A#1")
	if got := at(y) + at(a); got != "--" {
		t.Errorf("%s after the first has ended", got)
	}
	if why := y.Reason(); why == nil || why.Error() != "what is free is for A#3, which takes the place of other replicas" {
		t.Error(why)
	}
	l.Free("C#1")
	if got := at(y) + at(a); got != "-0,2" {
		t.Errorf("%s with two free", got)
	}
	l.Free("A#2")
	if got := at(y); got != "1" {
		t.Error(got)
	}
	// A replica that claims and leaves holds up nothing.
	z, b := l.Ask("Z", "app/Z", gpus(1)), l.Ask("A#4", "app/A", gpus(2))
	b.Claim("A#3", []string{"A#3"})
	b.Leave()
	l.Free("Y")
	if got := at(z); got != "1" {
		t.Error(got)
	}
}

// TestKeep: the devices of a replica of the node before are not given to another before they are free, and a device that the node does not
// have any more is not given at all.
func TestKeep(t *testing.T) {
	t.Parallel()
	l := New(placement.Unstated("", "0"))
	l.Keep(placement.Holding{Holder: "old", Deployment: "app/D", Amount: 2, Devices: []string{"0", "7"}})
	w := l.Ask("new", "app/D", gpus(0.1))
	if got := at(w); got != "-" {
		t.Errorf("device %s was given twice", got)
	}
	l.Free("old")
	if got := at(w); got != "0" {
		t.Error(got)
	}
	if w := l.Ask("more", "app/D", gpus(1)); at(w) != "-" {
		t.Error("device 7 was given")
	}
}

// TestFits: the holdings of the replicas that would end count as free, and stay theirs.
func TestFits(t *testing.T) {
	t.Parallel()
	l := New(placement.Unstated("", "0", "1"))
	l.Ask("a", "app/A", gpus(1))
	l.Ask("b", "app/B", gpus(0.5))
	l.Ask("c", "app/C", placement.Demand{CPUs: placement.One})
	for _, x := range []struct {
		amount  float64
		without []string
		want    bool
	}{
		{1, nil, false}, {0.5, nil, true}, {1, []string{"a"}, true}, {1, []string{"b"}, true}, {2, []string{"a"}, false}, {2, []string{"a", "b", "a"}, true},
		{0, nil, true}, {0.6, []string{"d"}, false},
	} {
		if got := l.Fits("app/D", gpus(x.amount), x.without); got != x.want {
			t.Errorf("%v without %v: %v", x.amount, x.without, got)
		}
	}
	if len(l.Held()) != 3 || len(l.Elsewhere("app")) != 0 || len(l.Elsewhere("ap")) != 3 || !l.Holds("a") || l.Holds("c") || l.Holds("d") {
		t.Error(l.Held())
	}
}

// TestRandomTurns: over random sequences no device is given beyond its whole, and no replica waits that would fit, but for a claim; after the last has ended all is free.
func TestRandomTurns(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var names []string
		for i := range r.IntN(5) {
			names = append(names, fmt.Sprint("GPU-", i))
		}
		node := placement.Unstated("", names...)
		l := New(node)
		var waits []*Wait
		for step := range 120 {
			switch held := l.Held(); r.IntN(5) {
			case 0, 1:
				if len(held) > 0 {
					l.Free(held[r.IntN(len(held))].Holder)
				}
			case 2:
				if len(waits) > 0 {
					waits[r.IntN(len(waits))].Leave()
				}
			default:
				amount := []float64{0, 0.1, 0.25, 1.0 / 3, 0.5, 0.9, 1, 2, 3}[r.IntN(9)]
				w := l.Ask(fmt.Sprint(step), fmt.Sprint("app/D", r.IntN(3)), gpus(amount))
				if waits = append(waits, w); len(held) > 0 && r.IntN(4) == 0 {
					w.Claim(held[0].Holder, []string{held[0].Holder})
				}
			}
			use := map[string]placement.Amount{}
			for _, h := range l.Held() {
				for _, d := range h.Devices {
					if use[d] += min(placement.AmountOf(h.Amount), placement.One); use[d] > placement.One || !slices.Contains(names, d) {
						t.Fatalf("seed %d step %d: %v of %s", seed, step, use[d], d)
					}
				}
			}
			claimed := slices.ContainsFunc(l.waiting, func(w *Wait) bool { return len(w.claims) > 0 })
			for _, w := range l.waiting {
				if _, fits := l.space.Fit(w.deployment, &w.demand); fits && !claimed {
					t.Fatalf("seed %d step %d: %s waits, and fits: %v", seed, step, w.holder, w.Reason())
				}
			}
		}
		for _, w := range slices.Clone(l.waiting) {
			w.Leave()
		}
		for _, h := range l.Held() {
			l.Free(h.Holder)
		}
		if w := l.Ask("all", "app/D", gpus(float64(len(names)))); at(w) == "-" {
			t.Fatalf("seed %d: after the last has ended: %v", seed, w.Reason())
		}
	}
}
