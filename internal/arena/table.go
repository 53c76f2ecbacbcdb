package arena

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Slab is the unit of allocation, and the alignment of every buffer. It is half of the smallest buffer (see MinBuffer).
// With 64 KB the state of the pages of an arena of 1 GB takes 16 KB.
const Slab = 64 << 10

// The errors of Table, to be recognized by errors.Is. ErrFull is an ordinary answer. The others mean that a worker has
// an error or lies.
var (
	ErrFull   = errors.New("arena: no room")
	ErrHolder = errors.New("arena: unknown holder")
	ErrLease  = errors.New("arena: not leased")
	ErrBuffer = errors.New("arena: no such buffer held")
)

// Holder identifies a process in a Table. The zero Holder identifies no process.
type Holder uint64

// Limits are the limits of all holders together and of each. A zero value is no limit.
type Limits struct {
	Lease   uint64 // bytes that one holder may lease at a time
	Buffers int    // buffers from which on leases are refused; extents that are leased can still be published
}

// Stats describes the state of a Table. Bytes count whole slabs: Size = Free + Leased + Published + Sweeping.
type Stats struct {
	Size, Free, Leased, Published, Sweeping uint64
	Filled                                  uint64 // bytes of all slabs that have memory
	Holders, Buffers                        int
	References                              int    // of all holders to all buffers
	Full                                    uint64 // leases that were refused, since the start
	Rejected                                uint64 // requests of workers that break the rules, since the start
}

// Table is the account of one arena, in the node. It does no I/O. All methods may be called from any goroutine.
//
// Table allocates extents of whole slabs, at the lowest offset that fits (first fit), and joins free extents that are
// adjacent. The usual alternative, size classes of powers of two, would waste up to half of the room, because tensors
// have any size. A search through the free extents is cheap here: buffers are so large that there are few of them, and
// copying one takes longer than the search. The lowest offset also keeps the same few pages in use. They are in the page
// tables of every process already, and the rest of the arena takes no memory.
type Table struct {
	id     uint64
	size   uint64
	limits Limits

	mu         sync.Mutex // guards the fields below
	free       []Extent   // by offset; no two are adjacent
	sweeping   []Extent   // taken out of free by Sweep, until FinishSweep
	pages      []pages    // by slab
	holders    map[Holder]*holder
	buffers    map[uint64]*buffer // by offset
	lastHolder Holder
	generation uint64
	stats      Stats
}

// pages is the state of the memory of one slab.
type pages uint8

const (
	hole pages = iota // has no memory
	idle              // has memory, and was free at the last Sweep
	warm              // has memory
)

type holder struct {
	leases []Grant // by offset
	leased uint64
	refs   map[*buffer]int
}

type buffer struct {
	ref   Ref
	slabs Extent
	refs  int // of all holders together, at least 1
}

// NewTable makes the account of an empty arena without memory. It panics if size is not a positive multiple of Slab.
func NewTable(id, size uint64, l Limits) *Table {
	if size == 0 || size%Slab != 0 || size > 1<<62 {
		panic(fmt.Sprintf("arena: size %d is not a positive multiple of %d", size, Slab))
	}
	return &Table{
		id: id, size: size, limits: l,
		free:    []Extent{{0, size}},
		pages:   make([]pages, size/Slab),
		holders: map[Holder]*holder{},
		buffers: map[uint64]*buffer{},
	}
}

// Join adds a process; the node adds itself, too. A Holder is never used for a second process. So an operation for a
// holder that was dropped fails, and leaves nothing behind.
func (t *Table) Join() Holder {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastHolder++
	t.holders[t.lastHolder] = &holder{refs: map[*buffer]int{}}
	return t.lastHolder
}

// Drop removes a process. Its leases become free, and its references are released; a buffer that it has published lives
// on while other holders have references. Drop must not be called before the process has ended or has unmapped the
// arena, because until then it may write and read. For an unknown holder Drop does nothing.
func (t *Table) Drop(h Holder) {
	t.mu.Lock()
	defer t.mu.Unlock()
	who := t.holders[h]
	if who == nil {
		return
	}
	delete(t.holders, h)
	for _, l := range who.leases {
		t.put(l.Extent)
	}
	t.stats.Leased -= who.leased
	for b, n := range who.refs {
		t.unref(b, n)
	}
}

// Lease gives h an extent of at least n bytes. If unfilled is true, a part of it has no memory: the caller calls
// Memory.Fill and then MarkFilled before a process writes, or Return if Fill fails. The error is ErrFull if there is no
// room or a limit is reached.
func (t *Table) Lease(h Holder, n uint64) (g Grant, unfilled bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	who := t.holders[h]
	if who == nil {
		return Grant{}, false, t.reject(ErrHolder, "%d asks for a lease", h)
	}
	if n == 0 {
		return Grant{}, false, t.reject(ErrLease, "a lease of 0 bytes is asked for")
	}
	if n > t.size {
		t.stats.Full++
		return Grant{}, false, ErrFull
	}
	n = slabs(n)
	i := slices.IndexFunc(t.free, func(e Extent) bool { return e.Length >= n })
	if i < 0 || t.limits.Lease > 0 && n+who.leased > t.limits.Lease ||
		t.limits.Buffers > 0 && len(t.buffers) >= t.limits.Buffers {
		t.stats.Full++
		return Grant{}, false, ErrFull
	}
	t.generation++
	g = Grant{Extent{t.free[i].Offset, n}, t.generation}
	t.take(i, g.Extent)
	at, _ := who.find(g.Offset)
	who.leases = slices.Insert(who.leases, at, g)
	who.leased += n
	t.stats.Leased += n
	return g, slices.Contains(t.state(g.Extent), hole), nil
}

// MarkFilled records that all of e has memory.
func (t *Table) MarkFilled(e Extent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mark(e, warm)
}

// Return gives up a lease, or a part of it in whole slabs.
func (t *Table) Return(h Holder, g Grant) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	who := t.holders[h]
	if who == nil {
		return t.reject(ErrHolder, "%d returns a lease", h)
	}
	if g.Length%Slab != 0 || !t.cut(who, g.Extent, g.Generation) {
		return t.reject(ErrLease, "%d returns %d bytes at %d, generation %d", h, g.Length, g.Offset, g.Generation)
	}
	t.put(g.Extent)
	return nil
}

// Publish makes a buffer of a part of h's lease, and gives h the first reference to it. The buffer begins at a slab. The
// rest of its last slab belongs to it, and the rest of the lease stays a lease. Publish does not fail for a limit,
// because the Ref has been sent already: limits are checked when a lease is given.
func (t *Table) Publish(h Holder, r Ref) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.publish(h, h, r)
}

// Receive records that from has sent r to another holder, and gives this holder a reference. If r is a buffer of which
// from has a reference, it is one more reference to this buffer; otherwise from publishes a part of its lease.
func (t *Table) Receive(from, to Holder, r Ref) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if who, b := t.holders[from], t.buffers[r.Offset]; who != nil && b != nil && b.ref == r && who.refs[b] > 0 {
		return t.ref(to, b)
	}
	return t.publish(from, to, r)
}

// publish is Publish, and gives the reference to another holder. mu is held.
func (t *Table) publish(from, to Holder, r Ref) error {
	who, owner := t.holders[from], t.holders[to]
	if who == nil || owner == nil {
		return t.reject(ErrHolder, "%d publishes to %d", from, to)
	}
	if r.Arena != t.id || r.Length > t.size {
		return t.reject(ErrLease, "%d publishes %+v", from, r)
	}
	e := Extent{r.Offset, slabs(r.Length)}
	if !t.cut(who, e, r.Generation) {
		return t.reject(ErrLease, "%d publishes %+v", from, r)
	}
	b := &buffer{ref: r, slabs: e, refs: 1}
	t.buffers[r.Offset] = b
	owner.refs[b] = 1
	t.stats.Published += e.Length
	t.stats.References++
	return nil
}

// Share gives the holder to a reference to a buffer of which from has a reference. Each reference is released once.
func (t *Table) Share(from, to Holder, r Ref) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, err := t.held(from, r)
	if err != nil {
		return err
	}
	return t.ref(to, b)
}

// Retain gives h a reference to a buffer. It is for decisions of the node. A request of a worker goes through Share,
// which checks that the worker has a reference itself.
func (t *Table) Retain(h Holder, r Ref) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.buffers[r.Offset]
	if b == nil || b.ref != r {
		return t.reject(ErrBuffer, "%d retains %+v", h, r)
	}
	return t.ref(h, b)
}

// Release takes a reference of h back. When the last reference is released, the buffer is freed.
func (t *Table) Release(h Holder, r Ref) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, err := t.held(h, r)
	if err != nil {
		return err
	}
	refs := t.holders[h].refs
	if refs[b]--; refs[b] == 0 {
		delete(refs, b)
	}
	t.unref(b, 1)
	return nil
}

// Sweep returns at most max bytes of free memory that were free at the last Sweep too. They cannot be leased before
// FinishSweep; the caller punches them out of the memfd meanwhile. For example, if Sweep is called every ten seconds,
// memory that was not used for ten to twenty seconds goes back to the system.
func (t *Table) Sweep(max uint64) []Extent {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []Extent
	for _, e := range t.free {
		for o := e.Offset; o < e.end(); o += Slab {
			switch s := &t.pages[o/Slab]; *s {
			case warm:
				*s = idle
			case idle:
				if max < Slab {
					continue
				}
				max -= Slab
				if n := len(found); n > 0 && found[n-1].end() == o {
					found[n-1].Length += Slab
				} else {
					found = append(found, Extent{o, Slab})
				}
			}
		}
	}
	for _, e := range found {
		t.take(t.covering(e.Offset), e)
		t.stats.Sweeping += e.Length
	}
	t.sweeping = append(t.sweeping, found...)
	return found
}

// FinishSweep makes an extent of Sweep free again. punched says whether its memory is gone. It panics if e is not an
// extent that Sweep has returned.
func (t *Table) FinishSweep(e Extent, punched bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.sweeping, e)
	if i < 0 {
		panic(fmt.Sprintf("arena: %+v is not being swept", e))
	}
	t.sweeping = slices.Delete(t.sweeping, i, i+1)
	t.stats.Sweeping -= e.Length
	if punched {
		t.mark(e, hole)
	}
	t.put(e)
}

// Stats returns the present state.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stats
	s.Size, s.Holders, s.Buffers = t.size, len(t.holders), len(t.buffers)
	s.Free = s.Size - s.Leased - s.Published - s.Sweeping
	for _, p := range t.pages {
		if p != hole {
			s.Filled += Slab
		}
	}
	return s
}

// The methods below are called with mu held.

func (t *Table) reject(err error, format string, args ...any) error {
	if err != ErrHolder { //nolint:errorlint // compared by identity. A holder that has ended meanwhile is no error of the worker
		t.stats.Rejected++
	}
	return fmt.Errorf("%w: "+format, append([]any{err}, args...)...)
}

// held finds a buffer by a reference that h should have.
func (t *Table) held(h Holder, r Ref) (*buffer, error) {
	who := t.holders[h]
	if who == nil {
		return nil, t.reject(ErrHolder, "%d refers to %+v", h, r)
	}
	b := t.buffers[r.Offset]
	if b == nil || b.ref != r || who.refs[b] == 0 {
		return nil, t.reject(ErrBuffer, "%d refers to %+v", h, r)
	}
	return b, nil
}

func (t *Table) ref(h Holder, b *buffer) error {
	who := t.holders[h]
	if who == nil { // the holder has ended meanwhile, which is no error of a worker
		return fmt.Errorf("%w: %d is to receive %+v", ErrHolder, h, b.ref)
	}
	who.refs[b]++
	b.refs++
	t.stats.References++
	return nil
}

func (t *Table) unref(b *buffer, n int) {
	t.stats.References -= n
	if b.refs -= n; b.refs == 0 {
		delete(t.buffers, b.ref.Offset)
		t.stats.Published -= b.slabs.Length
		t.put(b.slabs)
	}
}

// cut takes e out of the lease of this generation that contains it. The result is false if h has no such lease.
func (t *Table) cut(who *holder, e Extent, generation uint64) bool {
	if e.Length == 0 || e.Length > t.size || e.Offset > t.size-e.Length || e.Offset%Slab != 0 {
		return false
	}
	i, ok := who.find(e.Offset)
	if !ok {
		if i == 0 {
			return false
		}
		i-- // the lease that begins before e
	}
	l := who.leases[i]
	if l.Generation != generation || e.end() > l.end() {
		return false
	}
	var rest []Grant
	if e.Offset > l.Offset {
		rest = append(rest, Grant{Extent{l.Offset, e.Offset - l.Offset}, generation})
	}
	if e.end() < l.end() {
		rest = append(rest, Grant{Extent{e.end(), l.end() - e.end()}, generation})
	}
	who.leases = slices.Replace(who.leases, i, i+1, rest...)
	who.leased -= e.Length
	t.stats.Leased -= e.Length
	return true
}

// find returns the place of an offset among the leases, and true if a lease begins there.
func (h *holder) find(offset uint64) (int, bool) {
	return slices.BinarySearchFunc(h.leases, offset, func(g Grant, o uint64) int { return cmp.Compare(g.Offset, o) })
}

// take removes e from the free extent with index i, which contains it.
func (t *Table) take(i int, e Extent) {
	f := t.free[i]
	var buf [2]Extent
	rest := buf[:0]
	if e.Offset > f.Offset {
		rest = append(rest, Extent{f.Offset, e.Offset - f.Offset})
	}
	if e.end() < f.end() {
		rest = append(rest, Extent{e.end(), f.end() - e.end()})
	}
	t.free = slices.Replace(t.free, i, i+1, rest...)
}

// put makes e free, and joins it with adjacent free extents.
func (t *Table) put(e Extent) {
	for i, s := range t.state(e) {
		if s == idle { // it was in use since the last Sweep, or could not be punched
			t.state(e)[i] = warm
		}
	}
	i := t.covering(e.Offset) + 1
	j := i
	if i > 0 && t.free[i-1].end() == e.Offset {
		i--
		e = Extent{t.free[i].Offset, t.free[i].Length + e.Length}
	}
	if j < len(t.free) && t.free[j].Offset == e.end() {
		e.Length += t.free[j].Length
		j++
	}
	t.free = slices.Replace(t.free, i, j, e)
}

// covering returns the index of the last free extent that does not begin after offset, or -1.
func (t *Table) covering(offset uint64) int {
	i, ok := slices.BinarySearchFunc(t.free, offset, func(e Extent, o uint64) int { return cmp.Compare(e.Offset, o) })
	if ok {
		return i
	}
	return i - 1
}

func (t *Table) state(e Extent) []pages { return t.pages[e.Offset/Slab : e.end()/Slab] }

func (t *Table) mark(e Extent, p pages) {
	s := t.state(e)
	for i := range s {
		s[i] = p
	}
}

// slabs rounds n up to whole slabs. n is at most the size of an arena.
func slabs(n uint64) uint64 { return (n + Slab - 1) / Slab * Slab }
