package ejection

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

// five ejects after five failures, for 5 s, and half of a deployment.
var five = Config{Enabled: true, Failures: 5, Time: 5 * time.Second, MaxPercent: 50} //nolint:gochecknoglobals // a constant

// replicas makes a deployment of n ready replicas on a node of its own.
func replicas(n int) (of []*Replica) {
	d := new(Node).Deployment()
	for range n {
		of = append(of, d.Add(true))
	}
	return of
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
		if back := all[1].Remove(); len(back) != 1 || back[0] != all[0] || !all[0].Takes() {
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
		if back := all[3].SetReady(false); len(back) != 1 || back[0] != all[0] {
			t.Errorf("%d replicas have returned when another was not ready", len(back))
		}
	})
	t.Run("half of the node", func(t *testing.T) {
		t.Parallel()
		var n Node
		var of [2][]*Replica
		for i := range of {
			d := n.Deployment()
			for range 3 {
				of[i] = append(of[i], d.Add(true))
			}
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

// TestBoundsHold: whatever happens to the replicas of a node, a deployment with a ready replica has one that gets calls, at most its share is ejected, an
// ejected replica is never without a next probe, and the numbers of the node are those of its replicas.
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
			before := map[*Replica]bool{}
			for _, x := range d.replicas {
				before[x] = x.ejected
			}
			var back []*Replica
			if len(d.replicas) == 0 || len(d.replicas) < 6 && r.IntN(8) == 0 {
				d.Add(r.IntN(4) > 0)
			} else {
				x := d.replicas[r.IntN(len(d.replicas))]
				switch r.IntN(8) {
				case 0:
					back = x.Remove()
				case 1:
					back = x.SetReady(r.IntN(3) > 0)
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
			for _, x := range back {
				if !before[x] || x.ejected {
					t.Fatalf("seed %d: a replica returns that was not ejected, or does not", seed)
				}
			}
			ready, ejected := 0, 0
			for _, d := range all {
				takes, mine, out := 0, 0, 0
				for _, x := range d.replicas {
					if x.Takes() {
						takes++
					}
					if x.ready {
						mine++
					}
					if x.ready && x.ejected {
						out++
					}
					if x.ejected && !x.until.After(x.since) {
						t.Fatalf("seed %d: an ejected replica has no next probe", seed)
					}
				}
				if mine > 0 && takes == 0 {
					t.Fatalf("seed %d, step %d: %d replicas are ready, and none gets calls", seed, step, mine)
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
