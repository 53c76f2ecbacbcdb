package ejection

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

// five ejects after five failures, for 5 s, and half of a deployment.
var five = Config{Enabled: true, Failures: 5, Time: 5 * time.Second, MaxPercent: 50} //nolint:gochecknoglobals // a constant

// replicas makes a deployment of n ready replicas on a node of its own.
func replicas(n int) []*Replica {
	_, of := add(new(Node).Deployment(), n)
	return of
}

// add adds n ready replicas to a deployment.
func add(d *Deployment, n int) (_ *Deployment, of []*Replica) {
	for range n {
		r, _ := d.Add(true)
		of = append(of, r)
	}
	return d, of
}

// fail fails calls until there is a decision.
func fail(r *Replica, now time.Time, c Config) (d Decision) {
	for range c.Failures {
		d = r.Failed(0, now, c)
	}
	return d
}

func TestFailuresInARow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		succeeded []uint64 // calls that had ended well at each failure
		config    Config
		want      Decision
	}{
		"five":                              {[]uint64{7, 7, 7, 7, 7}, five, Eject},
		"four":                              {[]uint64{7, 7, 7, 7}, five, Nothing},
		"a call ends well between them":     {[]uint64{7, 7, 7, 8, 8}, five, Nothing},
		"a call ends well before the first": {[]uint64{6, 7, 7, 7, 7, 7}, five, Eject},
		"no ejections":                      {[]uint64{7, 7, 7, 7, 7}, Config{Failures: 5, Time: 1, MaxPercent: 100}, Nothing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := replicas(2)[0]
			got := Nothing
			for _, n := range c.succeeded {
				if d := r.Failed(n, start, c.config); d != Nothing {
					got = d
				}
			}
			if got != c.want || r.Takes() == (c.want == Eject) {
				t.Errorf("the decision is %d, the replica gets calls: %t", got, r.Takes())
			}
		})
	}
}

// TestTimesGrow: each ejection, and each probe that fails, waits twice as long as the one before, up to 16 times. A replica that has served for long
// begins anew.
func TestTimesGrow(t *testing.T) {
	t.Parallel()
	r, now := replicas(2)[0], start
	for i, want := range []time.Duration{5, 10, 20, 40, 80, 80} {
		if d := fail(r, now, five); d != Eject || r.Until() != now.Add(want*time.Second) {
			t.Fatalf("ejection %d: decision %d, until %s", i, d, r.Until().Sub(now))
		}
		now = r.Until()
		if r.Probed(true, now, five) != Return || !r.Takes() {
			t.Fatal("the replica has not returned")
		}
	}
	now = now.Add(81 * time.Second)
	fail(r, now, five)
	if r.Until() != now.Add(5*time.Second) {
		t.Errorf("after a long service it is ejected for %s", r.Until().Sub(now))
	}
	now = r.Until()
	if r.Probed(false, now, five) != Wait || r.Until() != now.Add(10*time.Second) || r.Takes() {
		t.Errorf("after a probe that failed it waits for %s", r.Until().Sub(now))
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	t.Run("the last replica", func(t *testing.T) {
		t.Parallel()
		all := replicas(2)
		c := five
		c.MaxPercent = 100
		if a, b := fail(all[0], start, c), fail(all[1], start, c); a != Eject || b != Keep {
			t.Errorf("decisions %d and %d", a, b)
		}
		if back := all[1].Remove(); len(back) != 1 || back[0] != (Move{all[0], Return}) || !all[0].Takes() {
			t.Errorf("%d replicas have returned when the other was gone", len(back))
		}
	})
	t.Run("the only replica", func(t *testing.T) {
		t.Parallel()
		if d := fail(replicas(1)[0], start, five); d != Keep {
			t.Errorf("decision %d", d)
		}
	})
	t.Run("a share of the deployment", func(t *testing.T) {
		t.Parallel()
		all := replicas(4)
		for i, want := range []Decision{Eject, Eject, Keep} {
			if d := fail(all[i], start.Add(time.Duration(i)), five); d != want {
				t.Errorf("replica %d: decision %d", i, d)
			}
		}
		if back := all[3].SetReady(false); len(back) != 1 || back[0] != (Move{all[0], Return}) {
			t.Errorf("%d replicas have returned when another was not ready", len(back))
		}
	})
	t.Run("half of the node", func(t *testing.T) {
		t.Parallel()
		var n Node
		var of [2][]*Replica
		for i := range of {
			_, of[i] = add(n.Deployment(), 3)
		}
		c := five
		c.MaxPercent = 100
		got := fmt.Sprint(fail(of[0][0], start, c), fail(of[0][1], start, c), fail(of[1][0], start, c), fail(of[1][1], start, c))
		if want := fmt.Sprint(Eject, Eject, Eject, Keep); got != want {
			t.Errorf("decisions %s, want %s", got, want)
		}
	})
	t.Run("an ejected replica that is not ready", func(t *testing.T) {
		t.Parallel()
		all := replicas(2)
		fail(all[0], start, five)
		all[0].SetReady(false)
		if d := fail(all[1], start, five); d != Keep {
			t.Errorf("decision %d", d)
		}
		all[0].SetReady(true)
		if all[0].Takes() {
			t.Error("the ejection was forgotten")
		}
	})
}

// TestBoundsHold: whatever happens to the replicas of a node, a deployment with a replica that has been ready has one that gets calls, one is kept only
// while no check passes, at most the share of the deployment is ejected, an ejected replica is never without a next probe, and the numbers of the node are those of its replicas.
func TestBoundsHold(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		var n Node
		type deployment struct {
			*Deployment
			c Config
		}
		var all []deployment
		for range 1 + r.IntN(3) {
			all = append(all, deployment{n.Deployment(), Config{true, 1 + r.IntN(3), time.Second, 1 + r.IntN(100)}})
		}
		now, ejections, keeps := start, 0, 0
		for step := range 300 {
			d := all[r.IntN(len(all))]
			now = now.Add(time.Duration(r.IntN(2000)) * time.Millisecond)
			before, keptBefore := map[*Replica]bool{}, map[*Replica]bool{}
			for _, x := range d.replicas {
				before[x], keptBefore[x] = x.ejected, x.kept
			}
			var moves []Move
			if len(d.replicas) == 0 || len(d.replicas) < 6 && r.IntN(8) == 0 {
				_, moves = d.Add(r.IntN(4) > 0)
			} else {
				x := d.replicas[r.IntN(len(d.replicas))]
				switch r.IntN(8) {
				case 0:
					moves = x.Remove()
				case 1:
					moves = x.SetReady(r.IntN(3) > 0)
				case 2:
					if x.ejected && !now.Before(x.until) {
						x.Probed(r.IntN(2) == 0, now, d.c)
					}
				default:
					switch x.Failed(uint64(step/20), now, d.c) { //nolint:gosec // small
					case Eject:
						ejections++
						if n.ejected*2 > n.ready && x.ready {
							t.Fatalf("seed %d: %d of %d replicas of the node are ejected", seed, n.ejected, n.ready)
						}
					case Keep:
						keeps++
					}
				}
			}
			for _, m := range moves {
				x := m.Replica
				if m.To == Return && (!before[x] || x.ejected) || m.To == Keep && (keptBefore[x] || !x.kept) || m.To == Release && (!keptBefore[x] || x.kept) || m.To < Keep || m.To == Wait {
					t.Fatalf("seed %d: a replica was told the decision %d, and this is not its change", seed, m.To)
				}
				keeps++
			}
			ready, ejected := 0, 0
			for _, d := range all {
				takes, mine, out, passes, once, keptNow := 0, 0, 0, 0, 0, 0
				for _, x := range d.replicas {
					if x.Takes() {
						takes++
					}
					if x.ready {
						mine++
					}
					if x.passes {
						passes++
					}
					if x.passes || x.failed > 0 {
						once++
					}
					if x.kept {
						keptNow++
					}
					if x.ready && x.ejected {
						out++
					}
					if x.ejected && !x.until.After(x.since) {
						t.Fatalf("seed %d: an ejected replica has no next probe", seed)
					}
				}
				if once > 0 && takes == 0 || once == 0 && takes > 0 {
					t.Fatalf("seed %d, step %d: %d replicas have been ready, and %d get calls", seed, step, once, takes)
				}
				if passes > 0 && keptNow > 0 || keptNow > 1 || mine != passes+keptNow {
					t.Fatalf("seed %d, step %d: %d replicas are kept, and the checks of %d pass", seed, step, keptNow, passes)
				}
				if out*100 > mine*d.c.MaxPercent {
					t.Fatalf("seed %d, step %d: %d of %d replicas are ejected, at most %d%%", seed, step, out, mine, d.c.MaxPercent)
				}
				ready, ejected = ready+mine, ejected+out
			}
			if ready != n.ready || ejected != n.ejected {
				t.Fatalf("seed %d: the node counts %d and %d, its replicas are %d and %d", seed, n.ready, n.ejected, ready, ejected)
			}
		}
		if seed == 0 && ejections+keeps == 0 {
			t.Error("no replica was ever ejected")
		}
	}
}

// TestKept: the last replica of a deployment gets calls although its readiness check fails, until that of another one passes.
func TestKept(t *testing.T) {
	t.Parallel()
	same := func(t *testing.T, step string, got []Move, want ...Move) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: the changes are %v, want %v", step, got, want)
		}
	}
	t.Run("the check of each fails", func(t *testing.T) {
		t.Parallel()
		d, all := add(new(Node).Deployment(), 2)
		a, b := all[0], all[1]
		same(t, "the first", a.SetReady(false))
		same(t, "the last", b.SetReady(false), Move{b, Keep})
		same(t, "the last, again", b.SetReady(false))
		c, moves := d.Add(false)
		same(t, "a new one", moves)
		same(t, "a new one fails", c.SetReady(false))
		if a.Takes() || !b.Takes() || !b.Kept() || b.Ready() || c.Takes() {
			t.Errorf("calls: %t, %t, %t", a.Takes(), b.Takes(), c.Takes())
		}
		same(t, "the new one passes", c.SetReady(true), Move{b, Release})
		if b.Takes() || b.Kept() || !c.Takes() {
			t.Errorf("calls: %t, %t", b.Takes(), c.Takes())
		}
	})
	t.Run("the kept one passes", func(t *testing.T) {
		t.Parallel()
		r := replicas(1)[0]
		same(t, "fails", r.SetReady(false), Move{r, Keep})
		same(t, "passes", r.SetReady(true))
		if !r.Takes() || r.Kept() {
			t.Error("it gets calls, and is kept no more")
		}
	})
	t.Run("the kept one ends", func(t *testing.T) {
		t.Parallel()
		d, all := add(new(Node).Deployment(), 3)
		d.Add(false)
		for _, r := range all {
			r.SetReady(false)
		}
		same(t, "the last ends", all[2].Remove(), Move{all[1], Keep})
		same(t, "the next ends", all[1].Remove(), Move{all[0], Keep})
		same(t, "the first ends", all[0].Remove())
	})
	t.Run("a replica that was never ready", func(t *testing.T) {
		t.Parallel()
		r, moves := new(Node).Deployment().Add(false)
		same(t, "is there", moves)
		if same(t, "fails", r.SetReady(false)); r.Takes() {
			t.Error("it gets calls")
		}
	})
	t.Run("an ejected one returns first", func(t *testing.T) {
		t.Parallel()
		all := replicas(2)
		fail(all[0], start, five)
		same(t, "the other fails its check", all[1].SetReady(false), Move{all[0], Return})
		if all[1].Takes() || !all[0].Takes() {
			t.Error("the replica whose check passes gets the calls")
		}
	})
	t.Run("an ejected one is kept", func(t *testing.T) {
		t.Parallel()
		all := replicas(2)
		fail(all[0], start, five)
		all[0].SetReady(false)
		all[1].SetReady(false)
		same(t, "the other ends", all[1].Remove(), Move{all[0], Keep}, Move{all[0], Return})
		if !all[0].Takes() {
			t.Error("no replica gets calls")
		}
	})
}
