package arena

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

const testID = 7

func refOf(g Grant, length uint64) Ref { return Ref{testID, g.Generation, g.Offset, length} }

func mustLease(t *testing.T, tab *Table, h Holder, n uint64) Grant {
	t.Helper()
	g, _, err := tab.Lease(h, n)
	if err != nil {
		t.Fatalf("lease of %d: %v", n, err)
	}
	return g
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestLifeOfABuffer(t *testing.T) {
	t.Parallel()
	tab := NewTable(testID, 8*Slab, Limits{})
	a, b, c := tab.Join(), tab.Join(), tab.Join()
	g := mustLease(t, tab, a, 3*Slab-5)
	if g.Offset != 0 || g.Length != 3*Slab || g.Generation == 0 {
		t.Fatalf("granted %+v", g)
	}
	r := refOf(g, Slab+1)
	wantErr(t, "publish by another", tab.Publish(b, r), ErrLease)
	wantErr(t, "share before publish", tab.Share(a, b, r), ErrBuffer)
	wantErr(t, "publish", tab.Publish(a, r), nil)
	wantErr(t, "publish twice", tab.Publish(a, r), ErrLease)
	wantErr(t, "publish under its last slab", tab.Publish(a, Ref{testID, g.Generation, Slab, 1}), ErrLease)
	if s := tab.Stats(); s.Published != 2*Slab || s.Leased != Slab || s.Free != 5*Slab || s.Buffers != 1 || s.References != 1 {
		t.Errorf("after publish: %+v", s)
	}
	wantErr(t, "share", tab.Share(a, b, r), nil)
	wantErr(t, "share twice", tab.Share(a, b, r), nil)
	wantErr(t, "share of what one has not", tab.Share(c, b, r), ErrBuffer)
	wantErr(t, "release", tab.Release(a, r), nil)
	wantErr(t, "double release", tab.Release(a, r), ErrBuffer)
	wantErr(t, "passing on", tab.Share(b, c, r), nil)
	tab.Drop(a) // the producer dies; its lease goes, its buffer stays
	if s := tab.Stats(); s.Published != 2*Slab || s.Leased != 0 || s.Free != 6*Slab || s.References != 3 {
		t.Errorf("after the producer's death: %+v", s)
	}
	wantErr(t, "a share in a dead one's name", tab.Share(a, b, r), ErrHolder)
	wantErr(t, "a share with a dead one", tab.Share(b, a, r), ErrHolder)
	tab.Drop(b)
	wantErr(t, "the node's retain", tab.Retain(c, r), nil)
	wantErr(t, "release by c", tab.Release(c, r), nil)
	wantErr(t, "the last release", tab.Release(c, r), nil)
	if s := tab.Stats(); s.Free != s.Size || s.Buffers != 0 || s.References != 0 || s.Holders != 1 {
		t.Errorf("at the end: %+v", s)
	}
	// The same place again: the old reference names nothing.
	again := refOf(mustLease(t, tab, c, r.Length), r.Length)
	wantErr(t, "publish again", tab.Publish(c, again), nil)
	if again.Offset != r.Offset {
		t.Fatalf("the lowest place was not reused: %+v", again)
	}
	wantErr(t, "stale release", tab.Release(c, r), ErrBuffer)
	wantErr(t, "stale retain", tab.Retain(c, r), ErrBuffer)
	wantErr(t, "release", tab.Release(c, again), nil)
	tab.Drop(c)
	tab.Drop(c)
	_, _, err := tab.Lease(c, 1)
	wantErr(t, "lease of a dead one", err, ErrHolder)
}

// A lease of a generation ago, of which the place has been leased again by the same holder.
func TestStalePublish(t *testing.T) {
	t.Parallel()
	tab := NewTable(testID, 4*Slab, Limits{})
	h := tab.Join()
	old := mustLease(t, tab, h, 2*Slab)
	wantErr(t, "return", tab.Return(h, old), nil)
	wantErr(t, "return again", tab.Return(h, old), ErrLease)
	now := mustLease(t, tab, h, 2*Slab)
	wantErr(t, "return of the old lease", tab.Return(h, old), ErrLease)
	wantErr(t, "publish under the old lease", tab.Publish(h, refOf(old, 1)), ErrLease)
	wantErr(t, "publish", tab.Publish(h, refOf(now, 1)), nil)
}

func TestRefusedRanges(t *testing.T) {
	t.Parallel()
	const size = 8 * Slab
	tab := NewTable(testID, size, Limits{})
	h := tab.Join()
	mustLease(t, tab, h, Slab)
	g := mustLease(t, tab, h, 4*Slab) // at Slab
	const most = ^uint64(0)
	for _, r := range []Ref{
		{testID, g.Generation, g.Offset, 0},
		{testID, g.Generation, g.Offset, g.Length + 1},
		{testID, g.Generation, g.Offset, most},
		{testID, g.Generation, g.Offset + 1, 1},
		{testID, g.Generation, g.Offset - Slab, 1},
		{testID, g.Generation, 0, 2 * Slab}, // over two leases
		{testID, g.Generation, g.Offset + g.Length, 1},
		{testID, g.Generation, size, Slab},
		{testID, g.Generation, most - Slab + 1, Slab},
		{testID, g.Generation, most - Slab + 1, 2 * Slab},
		{testID, g.Generation + 1, g.Offset, 1},
		{testID + 1, g.Generation, g.Offset, 1},
	} {
		wantErr(t, fmt.Sprintf("publish %+v", r), tab.Publish(h, r), ErrLease)
	}
	for _, e := range []Extent{
		{g.Offset, 0}, {g.Offset, 1}, {g.Offset, 5 * Slab}, {g.Offset, most - Slab + 1}, {most - Slab + 1, Slab},
	} {
		wantErr(t, fmt.Sprintf("return %+v", e), tab.Return(h, Grant{e, g.Generation}), ErrLease)
	}
	if s := tab.Stats(); s.Leased != 5*Slab || s.Rejected != 17 {
		t.Errorf("%+v", s)
	}
	// A part out of the middle leaves two leases.
	wantErr(t, "the middle", tab.Publish(h, Ref{testID, g.Generation, g.Offset + Slab, Slab}), nil)
	wantErr(t, "before it", tab.Publish(h, Ref{testID, g.Generation, g.Offset, Slab}), nil)
	wantErr(t, "after it", tab.Return(h, Grant{Extent{g.Offset + 2*Slab, 2 * Slab}, g.Generation}), nil)
}

func TestLimits(t *testing.T) {
	t.Parallel()
	tab := NewTable(testID, 8*Slab, Limits{Lease: 2 * Slab, Buffers: 2})
	a, b := tab.Join(), tab.Join()
	full := func(h Holder, n uint64) {
		t.Helper()
		_, _, err := tab.Lease(h, n)
		wantErr(t, "lease over a limit", err, ErrFull)
	}
	full(a, 2*Slab+1)
	full(a, ^uint64(0))
	one, two := mustLease(t, tab, a, 1), mustLease(t, tab, a, Slab)
	full(a, 1)
	three := mustLease(t, tab, b, Slab)
	tab.Publish(a, refOf(one, 1))
	tab.Publish(a, refOf(two, 1))
	full(a, 1) // two buffers
	wantErr(t, "what is in stock", tab.Publish(b, refOf(three, 1)), nil)
	tab.Release(a, refOf(one, 1))
	full(a, 1)
	tab.Release(a, refOf(two, 1))
	mustLease(t, tab, a, 1)
	if s := tab.Stats(); s.Full != 5 {
		t.Errorf("%+v", s)
	}
}

func TestFirstFitJoinsNeighbours(t *testing.T) {
	t.Parallel()
	tab := NewTable(testID, 6*Slab, Limits{})
	h := tab.Join()
	var gs []Grant
	for range 6 {
		gs = append(gs, mustLease(t, tab, h, Slab))
	}
	for _, i := range []int{1, 3, 2} { // the last joins both sides
		tab.Return(h, gs[i])
	}
	if g := mustLease(t, tab, h, 3*Slab); g.Offset != Slab {
		t.Errorf("three slabs in one: %+v", g)
	}
	_, _, err := tab.Lease(h, 1)
	wantErr(t, "a full arena", err, ErrFull)
}

func TestSweep(t *testing.T) {
	t.Parallel()
	tab := NewTable(testID, 8*Slab, Limits{})
	h := tab.Join()
	lease := func(n uint64, holes bool) Grant {
		t.Helper()
		g, unfilled, err := tab.Lease(h, n)
		if err != nil || unfilled != holes {
			t.Fatalf("%+v, unfilled %v, %v", g, unfilled, err)
		}
		return g
	}
	g := lease(4*Slab, true)
	tab.Return(h, g) // the memory could not be filled
	g = lease(4*Slab, true)
	tab.MarkFilled(g.Extent)
	if got := tab.Sweep(8 * Slab); got != nil {
		t.Errorf("swept what is leased: %v", got)
	}
	tab.Return(h, g)
	if got := tab.Sweep(8 * Slab); got != nil {
		t.Errorf("swept what was used just now: %v", got)
	}
	g = lease(Slab, false) // used between the sweeps
	tab.Return(h, g)
	got := tab.Sweep(2 * Slab)
	if want := []Extent{{Slab, 2 * Slab}}; !slices.Equal(got, want) {
		t.Fatalf("swept %v, want %v", got, want)
	}
	if s := tab.Stats(); s.Sweeping != 2*Slab || s.Filled != 4*Slab {
		t.Errorf("%+v", s)
	}
	if g := lease(2*Slab, true); g.Offset != 3*Slab {
		t.Errorf("leased what is being swept: %+v", g)
	}
	tab.FinishSweep(got[0], true)
	if s := tab.Stats(); s.Sweeping != 0 || s.Filled != 2*Slab {
		t.Errorf("%+v", s)
	}
	got = tab.Sweep(8 * Slab)
	if want := []Extent{{0, Slab}}; !slices.Equal(got, want) {
		t.Fatalf("swept %v, want %v", got, want)
	}
	tab.FinishSweep(got[0], false) // that failed: it counts as used, and is given out after two sweeps
	if got := tab.Sweep(8 * Slab); got != nil {
		t.Errorf("swept %v", got)
	}
	if got := tab.Sweep(8 * Slab); len(got) != 1 {
		t.Errorf("swept %v", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("an extent that is not being swept did not panic")
		}
	}()
	tab.FinishSweep(Extent{5 * Slab, Slab}, true)
}

func TestNewTablePanics(t *testing.T) {
	t.Parallel()
	for _, size := range []uint64{0, Slab - 1, Slab + 1, ^uint64(0) - Slab + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("size %d did not panic", size)
				}
			}()
			NewTable(1, size, Limits{})
		}()
	}
}

// model is a slow Table that is plain to see: one owner per slab, and lists.
type model struct {
	size    int // in slabs
	limits  Limits
	owner   []string // "" is free
	leases  map[Holder][]Grant
	refs    map[Ref]map[Holder]int
	sweeps  []Extent
	holders []Holder
}

func (m *model) own(e Extent, who string) {
	for i := e.Offset / Slab; i < e.end()/Slab; i++ {
		m.owner[i] = who
	}
}

func (m *model) lease(h Holder, n uint64) (offset uint64, ok bool) {
	var held uint64
	for _, g := range m.leases[h] {
		held += g.Length
	}
	want := int((n + Slab - 1) / Slab)
	if held+uint64(want)*Slab > m.limits.Lease || len(m.refs) >= m.limits.Buffers {
		return 0, false
	}
	for i := 0; i+want <= m.size; i++ {
		if !slices.ContainsFunc(m.owner[i:i+want], func(o string) bool { return o != "" }) {
			return uint64(i) * Slab, true
		}
	}
	return 0, false
}

// cut is Table.cut by enumeration of slabs.
func (m *model) cut(h Holder, e Extent, generation uint64) bool {
	for i, g := range m.leases[h] {
		if g.Generation != generation || e.Length == 0 || e.Offset%Slab != 0 || e.Length%Slab != 0 ||
			e.Length > uint64(m.size)*Slab || e.Offset < g.Offset || e.Offset >= g.end() || e.end() > g.end() {
			continue
		}
		m.leases[h] = slices.Delete(m.leases[h], i, i+1)
		for _, rest := range []Extent{{g.Offset, e.Offset - g.Offset}, {e.end(), g.end() - e.end()}} {
			if rest.Length > 0 {
				m.leases[h] = append(m.leases[h], Grant{rest, generation})
			}
		}
		return true
	}
	return false
}

func (m *model) gone(r Ref) {
	if len(m.refs[r]) == 0 {
		delete(m.refs, r)
		m.own(Extent{r.Offset, (r.Length + Slab - 1) / Slab * Slab}, "")
	}
}

func (m *model) drop(h Holder) {
	for _, g := range m.leases[h] {
		m.own(g.Extent, "")
	}
	delete(m.leases, h)
	for r, by := range m.refs {
		delete(by, h)
		m.gone(r)
	}
}

func (m *model) unref(h Holder, r Ref) {
	if m.refs[r][h]--; m.refs[r][h] == 0 {
		delete(m.refs[r], h)
	}
	m.gone(r)
}

// choices are the source of a run's decisions: random numbers, or a fuzzer's bytes.
type choices interface{ IntN(n int) int }

type bytesOf struct{ b []byte }

func (f *bytesOf) IntN(n int) int {
	if len(f.b) == 0 {
		return 0
	}
	v := int(f.b[0]) % n
	f.b = f.b[1:]
	return v
}

// compareWithModel does steps operations on a Table and on the model, sensible ones and lies, and stops at a difference.
func compareWithModel(steps int, c choices) error {
	const size = 24
	limits := Limits{Lease: 12 * Slab, Buffers: 8}
	tab := NewTable(testID, size*Slab, limits)
	m := &model{
		size: size, limits: limits, owner: make([]string, size),
		leases: map[Holder][]Grant{}, refs: map[Ref]map[Holder]int{},
	}
	var known []Ref   // published ever
	var seen []Grant  // granted ever
	var dead []Holder // dropped ever
	generation := uint64(0)
	holder := func() Holder {
		if len(m.holders) == 0 || c.IntN(12) == 0 {
			return Holder(c.IntN(40)) // a reference to a buffer that never was, or that is freed
		}
		return m.holders[c.IntN(len(m.holders))]
	}
	ref := func() Ref {
		if len(known) == 0 {
			return Ref{testID, 1, 0, 1}
		}
		r := known[len(known)-1-c.IntN(min(len(known), 6))]
		switch c.IntN(16) {
		case 0:
			r.Generation++
		case 1:
			r.Length += Slab
		case 2:
			r.Offset += Slab
		case 3:
			r.Arena++
		}
		return r
	}
	alive := func(h Holder) bool { return slices.Contains(m.holders, h) }
	for step := range steps {
		var got error
		var want bool
		var what string
		switch op := c.IntN(20); {
		case op == 0 && len(m.holders) < 5:
			what = "join"
			h := tab.Join()
			if alive(h) || slices.Contains(dead, h) {
				return fmt.Errorf("step %d: holder %d twice", step, h)
			}
			m.holders = append(m.holders, h)
			want = true
		case op == 1:
			h := holder()
			what = fmt.Sprintf("drop %d", h)
			tab.Drop(h)
			if i := slices.Index(m.holders, h); i >= 0 {
				m.holders = slices.Delete(m.holders, i, i+1)
				dead = append(dead, h)
				m.drop(h)
			}
			want = true
		case op < 7:
			h, n := holder(), uint64(c.IntN(8))*Slab/2+uint64(c.IntN(2))
			what = fmt.Sprintf("lease %d %d", h, n)
			var g Grant
			var unfilled bool
			g, unfilled, got = tab.Lease(h, n)
			var offset uint64
			if offset, want = m.lease(h, n); n == 0 || !alive(h) {
				want = false
			}
			if want {
				generation++
				w := Grant{Extent{offset, (n + Slab - 1) / Slab * Slab}, generation}
				if got == nil && g != w {
					return fmt.Errorf("step %d: %s: %+v, the model says %+v", step, what, g, w)
				}
				m.own(w.Extent, "leased")
				m.leases[h] = append(m.leases[h], w)
				seen = append(seen, w)
				if unfilled && c.IntN(4) > 0 {
					tab.MarkFilled(g.Extent)
				}
			}
		case op < 12 && len(seen) > 0:
			h, g := holder(), seen[len(seen)-1-c.IntN(min(len(seen), 6))]
			r := refOf(g, uint64(c.IntN(5))*Slab/2+uint64(c.IntN(2)))
			r.Offset += uint64(c.IntN(3)) * Slab
			if c.IntN(16) == 0 {
				r.Offset += uint64(c.IntN(2*size*2)) * Slab / 2
			}
			what = fmt.Sprintf("publish %d %+v", h, r)
			got = tab.Publish(h, r)
			if want = m.cut(h, Extent{r.Offset, (r.Length + Slab - 1) / Slab * Slab}, r.Generation); want {
				m.own(Extent{r.Offset, (r.Length + Slab - 1) / Slab * Slab}, "published")
				m.refs[r] = map[Holder]int{h: 1}
				known = append(known, r)
			}
		case op < 13 && len(seen) > 0:
			h, g := holder(), seen[len(seen)-1-c.IntN(min(len(seen), 6))]
			g.Offset += uint64(c.IntN(3)) * Slab
			g.Length -= uint64(c.IntN(3)) * Slab / 2 // perhaps below zero, which is very large
			what = fmt.Sprintf("return %d %+v", h, g)
			got = tab.Return(h, g)
			if want = m.cut(h, g.Extent, g.Generation); want {
				m.own(g.Extent, "")
			}
		case op < 15:
			h, r := holder(), ref()
			what = fmt.Sprintf("retain %d %+v", h, r)
			got = tab.Retain(h, r)
			if want = m.refs[r] != nil && alive(h); want {
				m.refs[r][h]++
			}
		case op < 16:
			from, to, r := holder(), holder(), ref()
			what = fmt.Sprintf("share %d %d %+v", from, to, r)
			got = tab.Share(from, to, r)
			if want = m.refs[r][from] > 0 && alive(to); want {
				m.refs[r][to]++
			}
		case op < 18:
			h, r := holder(), ref()
			what = fmt.Sprintf("release %d %+v", h, r)
			got = tab.Release(h, r)
			if want = m.refs[r][h] > 0; want {
				m.unref(h, r)
			}
		case op == 18:
			what = "sweep"
			for _, e := range tab.Sweep(uint64(c.IntN(9)) * Slab) {
				for i := e.Offset / Slab; i < e.end()/Slab; i++ {
					if m.owner[i] != "" {
						return fmt.Errorf("step %d: slab %d is swept and %s", step, i, m.owner[i])
					}
				}
				m.own(e, "sweeping")
				m.sweeps = append(m.sweeps, e)
			}
			want = true
		case len(m.sweeps) > 0:
			what = "swept"
			tab.FinishSweep(m.sweeps[0], c.IntN(2) == 0)
			m.own(m.sweeps[0], "")
			m.sweeps = m.sweeps[1:]
			want = true
		default:
			continue
		}
		if (got == nil) != want {
			return fmt.Errorf("step %d: %s: %v, the model says %v", step, what, got, want)
		}
		if err := same(tab, m); err != nil {
			return fmt.Errorf("step %d: after %s: %w", step, what, err)
		}
	}
	for _, h := range m.holders {
		tab.Drop(h)
	}
	for _, e := range m.sweeps {
		tab.FinishSweep(e, true)
	}
	if s := tab.Stats(); s.Free != s.Size || s.Buffers != 0 || s.References != 0 || len(tab.free) != 1 {
		return fmt.Errorf("everybody is gone, and there is left: %+v", s)
	}
	return nil
}

// same compares the states, and the Table with its own rules.
func same(tab *Table, m *model) error {
	count := map[string]uint64{}
	for _, o := range m.owner {
		count[o] += Slab
	}
	references := 0
	for _, by := range m.refs {
		for _, n := range by {
			references += n
		}
	}
	s := tab.Stats()
	want := Stats{
		Size: uint64(m.size) * Slab, Free: count[""], Leased: count["leased"], Published: count["published"],
		Sweeping: count["sweeping"], Holders: len(m.holders), Buffers: len(m.refs), References: references,
		Filled: s.Filled, Full: s.Full, Rejected: s.Rejected,
	}
	if s != want {
		return fmt.Errorf("%+v, the model says %+v", s, want)
	}
	for i, e := range tab.free {
		if i > 0 && tab.free[i-1].end() >= e.Offset || e.Length == 0 {
			return fmt.Errorf("free extents out of order, touching or empty: %v", tab.free)
		}
		for j := e.Offset / Slab; j < e.end()/Slab; j++ {
			if m.owner[j] != "" {
				return fmt.Errorf("slab %d is free and %s", j, m.owner[j])
			}
		}
	}
	return nil
}

// Seeds are kept: a run that failed once is added here.
func TestTableAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		if err := compareWithModel(2500, rand.New(rand.NewPCG(seed, 1))); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

func FuzzTable(f *testing.F) {
	r := rand.NewChaCha8([32]byte{1})
	for range 8 {
		b := make([]byte, 400)
		r.Read(b)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := compareWithModel(len(b), &bytesOf{b}); err != nil {
			t.Error(err)
		}
	})
}

// Many goroutines, for the race detector; at the end nothing is left.
func TestTableConcurrently(t *testing.T) {
	t.Parallel()
	tab := NewTable(testID, 64*Slab, Limits{})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			consumer := tab.Join()
			for range 50 {
				h := tab.Join()
				g, _, err := tab.Lease(h, uint64(1+i)*Slab/2)
				if err != nil {
					t.Errorf("lease: %v", err)
					return
				}
				r := refOf(g, g.Length)
				if err := errors.Join(tab.Publish(h, r), tab.Share(h, consumer, r)); err != nil {
					t.Error(err)
				}
				for _, e := range tab.Sweep(Slab) {
					tab.FinishSweep(e, true)
				}
				tab.Drop(h)
				if err := tab.Release(consumer, r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if s := tab.Stats(); s.Free != s.Size || s.Holders != 8 {
		t.Errorf("%+v", s)
	}
}
