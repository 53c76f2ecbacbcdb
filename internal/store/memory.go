package store

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// The bounds of the history that a Memory keeps for watches, unless [Memory.Compact] drops it before: revisions, and bytes of values.
const (
	historySize  = 10_000
	historyBytes = 8 << 20
)

// Memory is a store in the memory of this process. Its zero value is not ready: see [NewMemory] and [RestoreMemory].
//
// A watch has no queue of its own. All watches read the one history of updates at their own pace, so a slow reader costs
// nothing, and a reader that is behind the history gets [ErrCompacted].
//
// A change has its turn from the decision to the effect, and a store on disk makes it durable in between. Reads take only the mutex: for example,
// while a deploy waits 20 ms for the disk, the status of the node is read as it was before the deploy, and the lease of the node is renewed.
type Memory struct {
	turn   chan struct{}      // of one: full while a change is decided, made durable and applied; taken before mu
	commit func(Update) error // makes a change durable; nil for none

	mu        sync.Mutex
	revision  int64
	records   map[string]KV
	history   []Update // of the revisions compacted+1 to revision; updates are never changed, so readers share them
	bytes     int      // of the values in the history
	compacted int64    // the newest revision that the history does not have any more
	changed   chan struct{}
	leases    map[LeaseID]*memoryLease
	lastLease LeaseID
}

// NewMemory makes an empty store.
func NewMemory() *Memory { return RestoreMemory(0, nil, nil) }

// RestoreMemory makes a store with records that another store had at a revision. Watches of that revision, and of older ones, get [ErrCompacted].
//
// commit is called with each update before it has its effect, one at a time, and an error of it refuses the transaction. The end of a lease is not
// refused. commit may read the store, and must not change it. nil: there is none.
func RestoreMemory(revision int64, records []KV, commit func(Update) error) *Memory {
	m := &Memory{
		turn: make(chan struct{}, 1), commit: commit, revision: revision, compacted: revision, records: make(map[string]KV, len(records)),
		changed: make(chan struct{}), leases: map[LeaseID]*memoryLease{},
	}
	for _, r := range records {
		m.records[r.Key] = r.clone()
	}
	return m
}

// Get implements [Store].
func (m *Memory) Get(ctx context.Context, key string) (KV, int64, error) {
	if err := firstError(ctx.Err(), CheckKey(key)); err != nil {
		return KV{}, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.records[key].clone()
	r.Key = key
	return r, m.revision, nil
}

// List implements [Store].
func (m *Memory) List(ctx context.Context, prefix string) ([]KV, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var records []KV
	for key, r := range m.records {
		if strings.HasPrefix(key, prefix) {
			records = append(records, r.clone())
		}
	}
	slices.SortFunc(records, func(a, b KV) int { return strings.Compare(a.Key, b.Key) })
	return records, m.revision, nil
}

// Txn implements [Store].
func (m *Memory) Txn(ctx context.Context, t Txn) (int64, error) {
	if err := firstError(ctx.Err(), t.Check()); err != nil {
		return 0, err
	}
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-m.turn }()
	u, revision, err := m.decide(t)
	if err != nil || len(u.Changes) == 0 {
		return revision, err
	}
	if m.commit != nil {
		if err := m.commit(u); err != nil {
			return revision, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applyLocked(u)
	return m.revision, nil
}

// Exclusive calls f while no change has its turn. f must not change the store.
func (m *Memory) Exclusive(f func()) {
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	f()
}

// decide gives the update that a transaction makes, and the revision of the store before it. The caller has the turn.
func (m *Memory) decide(t Txn) (u Update, revision int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	conflict := &ConflictError{}
	for _, c := range t.If {
		if r := m.records[c.Key].clone(); r.Modified != c.Modified {
			r.Key = c.Key
			conflict.Records = append(conflict.Records, r)
		}
	}
	if len(conflict.Records) > 0 {
		return u, m.revision, conflict
	}
	for _, op := range t.Then {
		if op.Lease != 0 && m.leases[op.Lease] == nil {
			return u, m.revision, ErrNoLease
		}
	}
	return m.updateLocked(t.Then), m.revision, nil
}

// updateLocked is the update that operations make. It has no changes if they change nothing.
func (m *Memory) updateLocked(ops []Op) Update {
	u := Update{Revision: m.revision + 1}
	for _, op := range ops {
		was, exists := m.records[op.Key]
		switch {
		case op.Delete && !exists:
		case op.Delete:
			u.Changes = append(u.Changes, Change{KV{Key: op.Key, Modified: u.Revision}, true})
		default:
			r := KV{Key: op.Key, Value: bytes.Clone(op.Value), Created: was.Created, Modified: u.Revision, Lease: op.Lease}
			if !exists {
				r.Created = u.Revision
			}
			u.Changes = append(u.Changes, Change{KV: r})
		}
	}
	return u
}

// applyLocked has an update take effect.
func (m *Memory) applyLocked(u Update) {
	if len(u.Changes) == 0 {
		return
	}
	for _, c := range u.Changes {
		if l := m.leases[m.records[c.Key].Lease]; l != nil {
			delete(l.keys, c.Key)
		}
		if c.Deleted {
			delete(m.records, c.Key)
			continue
		}
		if l := m.leases[c.Lease]; l != nil {
			l.keys[c.Key] = true
		}
		m.records[c.Key] = c.KV
	}
	m.revision = u.Revision
	m.history = append(m.history, u)
	m.bytes += u.bytes()
	m.compactLocked(m.revision - historySize)
	for m.bytes > historyBytes && len(m.history) > 1 { // the newest stays
		m.compactLocked(m.compacted + 1)
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

// Compact drops the changes of a revision and of all before it. The records stay.
func (m *Memory) Compact(revision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.compactLocked(min(revision, m.revision))
}

func (m *Memory) compactLocked(revision int64) {
	if n := revision - m.compacted; n > 0 {
		for _, u := range m.history[:n] {
			m.bytes -= u.bytes()
		}
		m.history = m.history[n:] // the next append to a full array leaves the dropped ones behind
		m.compacted = revision
	}
}

func (u Update) bytes() (n int) {
	for _, c := range u.Changes {
		n += len(c.Value)
	}
	return n
}

// Watch implements [Store].
func (m *Memory) Watch(ctx context.Context, prefix string, from int64) iter.Seq2[Update, error] {
	return func(yield func(Update, error) bool) {
		for next := max(from, 1); ; {
			m.mu.Lock()
			var pending []Update
			lost := next <= m.compacted
			if !lost && next <= m.revision {
				pending = m.history[next-m.compacted-1:]
				next = m.revision + 1
			}
			changed := m.changed
			m.mu.Unlock()
			if lost {
				yield(Update{}, ErrCompacted)
				return
			}
			for _, u := range pending {
				if u.Changes = matching(u.Changes, prefix); len(u.Changes) == 0 {
					continue
				}
				if err := ctx.Err(); err != nil {
					yield(Update{}, err)
					return
				}
				if !yield(u, nil) {
					return
				}
			}
			if len(pending) > 0 {
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
				yield(Update{}, ctx.Err())
				return
			}
		}
	}
}

// matching gives copies of the changes of keys with a prefix.
func matching(changes []Change, prefix string) (out []Change) {
	for _, c := range changes {
		if strings.HasPrefix(c.Key, prefix) {
			out = append(out, Change{c.clone(), c.Deleted})
		}
	}
	return out
}

// memoryLease is a lease of a [Memory]. The mutex of the Memory guards it.
type memoryLease struct {
	store *Memory
	id    LeaseID
	ttl   time.Duration
	keys  map[string]bool
	ends  time.Time
	timer *time.Timer
}

// Lease implements [Store].
func (m *Memory) Lease(ctx context.Context, ttl time.Duration) (Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if ttl <= 0 {
		return nil, &LimitError{"the time of a lease must be over 0, is " + ttl.String()}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastLease++
	l := &memoryLease{store: m, id: m.lastLease, ttl: ttl, keys: map[string]bool{}, ends: time.Now().Add(ttl)}
	l.timer = time.AfterFunc(ttl, l.expire)
	m.leases[l.id] = l
	return l, nil
}

// ID implements [Lease].
func (l *memoryLease) ID() LeaseID { return l.id }

// Renew implements [Lease].
func (l *memoryLease) Renew(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	if l.store.leases[l.id] == nil {
		return ErrNoLease
	}
	l.ends = time.Now().Add(l.ttl)
	l.timer.Reset(l.ttl)
	return nil
}

// End implements [Lease].
func (l *memoryLease) End(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case l.store.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.store.turn }()
	l.end(func() bool { return true })
	return nil
}

// expire ends the lease, unless it was renewed while its timer fired, or while the change before it had its turn.
func (l *memoryLease) expire() {
	l.store.turn <- struct{}{}
	defer func() { <-l.store.turn }()
	l.end(func() bool { return !time.Now().Before(l.ends) })
}

// end ends the lease if it has not ended, and due says so. The caller has the turn. commit may refuse nothing: a record under a lease is in no
// durable store, and its writer is gone.
func (l *memoryLease) end(due func() bool) {
	m := l.store
	m.mu.Lock()
	if m.leases[l.id] == nil || !due() {
		m.mu.Unlock()
		return
	}
	l.timer.Stop()
	delete(m.leases, l.id) // before the mutex is free: a renewal that comes now is too late
	var ops []Op
	for _, key := range slices.Sorted(maps.Keys(l.keys)) {
		ops = append(ops, Delete(key))
	}
	u := m.updateLocked(ops)
	m.mu.Unlock()
	if m.commit != nil && len(u.Changes) > 0 {
		m.commit(u) //nolint:errcheck // see above
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applyLocked(u)
}

func (r KV) clone() KV {
	r.Value = bytes.Clone(r.Value)
	return r
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
