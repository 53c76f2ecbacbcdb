package arena

import (
	"math/rand/v2"
	"testing"
)

func TestStock(t *testing.T) {
	t.Parallel()
	s := NewStock(testID, 8<<20)
	if s.NextRequest() != 0 {
		t.Error("wants something before anything was sent")
	}
	if _, ok := s.Take(MinBuffer); ok {
		t.Error("took from nothing")
	}
	if n := s.NextRequest(); n != firstAsk {
		t.Errorf("wants %d", n)
	}
	if n := s.NextRequest(); n != 0 {
		t.Errorf("wants %d while a request is under way", n)
	}
	s.AddGrant(Grant{Extent{10 * Slab, 4*Slab + MinBuffer}, 3})
	first, ok := s.Take(2*Slab - 1)
	if !ok || first != (Ref{testID, 3, 10 * Slab, 2*Slab - 1}) {
		t.Errorf("took %+v", first)
	}
	second, ok := s.Take(3 * Slab)
	if !ok || second.Offset != 12*Slab {
		t.Errorf("took %+v", second)
	}
	if got := s.Surplus(false); len(got) != 1 || got[0] != (Grant{Extent{15 * Slab, Slab}, 3}) {
		t.Errorf("one slab is of no use, returned were %v", got)
	}
	s.PutBack(second)
	s.PutBack(first)
	if got := s.Surplus(true); len(got) != 1 || got[0] != (Grant{Extent{10 * Slab, 5 * Slab}, 3}) {
		t.Errorf("at idle %v are returned", got)
	}
	if s.NextRequest() != 0 {
		t.Error("wants something when idle")
	}
	for _, n := range []uint64{0, 8<<20 + 1, ^uint64(0)} {
		if _, ok := s.Take(n); ok || s.NextRequest() != 0 {
			t.Errorf("%d bytes", n)
		}
	}
}

func TestStockAsksForLess(t *testing.T) {
	t.Parallel()
	s := NewStock(testID, 64<<20)
	s.Take(3 << 20)
	for i, want := range []uint64{12 << 20, 3 << 20, 3 << 20} {
		if n := s.NextRequest(); n != want {
			t.Errorf("request %d: %d", i, n)
		}
		s.AddGrant(Grant{})
	}
	s.NextRequest()
	s.AddGrant(Grant{Extent{0, 3 << 20}, 1})
	if n := s.NextRequest(); n != 12<<20 {
		t.Errorf("after a grant: %d", n)
	}
}

// TestStockThatRunsOut: a stock in which buffers found no room holds more from then on, up to a quarter of the worker's limit, and as little as
// before when it is idle or the node has refused memory.
func TestStockThatRunsOut(t *testing.T) {
	t.Parallel()
	const size, most = 1 << 20, 64 << 20
	s := NewStock(testID, most)
	s.Take(size)
	offset := uint64(0)
	ask := func(want uint64, give bool) {
		t.Helper()
		n := s.NextRequest()
		if n != want {
			t.Errorf("%d bytes are asked for, not %d", n, want)
		}
		if !give {
			n = 0
		}
		s.AddGrant(Grant{Extent{offset, n}, offset + 1})
		offset += n
	}
	use := func() {
		for ok := true; ok; {
			_, ok = s.Take(size)
		}
	}
	ask(4*size, true)
	for _, want := range []uint64{8 * size, 16 * size, 32 * size, 32 * size} {
		use()
		ask(want, true)
	}
	use()
	ask(32*size, false)
	ask(size, true)
	use()
	s.Surplus(true)
	s.Take(size)
	ask(4*size, true)
}

// TestStockWithEnough: after many requests between which all buffers found room, a stock holds as little as at first.
func TestStockWithEnough(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	s := NewStock(testID, 64*size)
	s.Take(size)
	asked := uint64(0)
	for i := range uint64(2 + 2*enoughTimes) {
		if i == 1 { // one buffer finds no room
			for ok := true; ok; {
				_, ok = s.Take(size)
			}
		}
		if asked = s.NextRequest(); i == 1 && asked != 8*size {
			t.Errorf("%d bytes are asked for after a shortage", asked)
		}
		s.AddGrant(Grant{Extent{100 * i * size, asked}, i + 1})
		for s.held >= s.least() {
			s.Take(size)
		}
	}
	if asked = s.NextRequest(); asked != 4*size {
		t.Errorf("%d bytes are asked for in the end", asked)
	}
}

// TestStockAgainstTable: a place that the stock of a worker gives can be published at the node, and in the end every lease is returned.
func TestStockAgainstTable(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		const most = 32 * Slab
		tab := NewTable(testID, 64*Slab, Limits{Lease: most})
		h, other := tab.Join(), tab.Join()
		s := NewStock(testID, most)
		var taken, sent []Ref
		out := 0
		for range 2000 {
			switch r.IntN(6) {
			case 0, 1:
				if ref, ok := s.Take(1 + r.Uint64N(6*Slab)); ok {
					taken = append(taken, ref)
					out++
				}
			case 2:
				if n := s.NextRequest(); n > 0 {
					g, _, _ := tab.Lease(h, n)
					s.AddGrant(g)
				}
			case 3:
				if len(taken) > 0 {
					i := r.IntN(len(taken))
					ref := taken[i]
					taken = append(taken[:i], taken[i+1:]...)
					if r.IntN(4) == 0 {
						s.PutBack(ref)
						break
					}
					if err := tab.Publish(h, ref); err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
					if err := tab.Share(h, other, ref); err != nil {
						t.Fatal(err)
					}
					tab.Release(h, ref)
					sent = append(sent, ref)
				}
			case 4:
				if len(sent) > 0 {
					if err := tab.Release(other, sent[0]); err != nil {
						t.Fatal(err)
					}
					sent = sent[1:]
				}
			case 5:
				for _, g := range s.Surplus(r.IntN(20) == 0) {
					if err := tab.Return(h, g); err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
				}
			}
		}
		if out < 300 {
			t.Errorf("seed %d: %d taken only", seed, out)
		}
		for _, ref := range taken {
			s.PutBack(ref)
		}
		for _, g := range s.Surplus(true) {
			if err := tab.Return(h, g); err != nil {
				t.Error(err)
			}
		}
		if st := tab.Stats(); st.Leased != 0 {
			t.Errorf("seed %d: %d bytes are leased and forgotten", seed, st.Leased)
		}
	}
}
