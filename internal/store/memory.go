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

// Memory is a store in the memory of this process. Its zero value is not ready: see [NewMemory].
//
// A watch has no queue of its own. All watches read the one history of updates at their own pace, so a slow reader costs
// nothing, and a reader that is behind the history gets [ErrCompacted].
type Memory struct {
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
func NewMemory() *Memory {
	return &Memory{records: map[string]KV{}, changed: make(chan struct{}), leases: map[LeaseID]*memoryLease{}}
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
		return m.revision, conflict
	}
	for _, op := range t.Then {
		if op.Lease != 0 && m.leases[op.Lease] == nil {
			return m.revision, ErrNoLease
		}
	}
	m.applyLocked(t.Then)
	return m.revision, nil
}

// applyLocked makes one revision of operations, if they change something.
func (m *Memory) applyLocked(ops []Op) {
	u := Update{Revision: m.revision + 1}
	for _, op := range ops {
		was, exists := m.records[op.Key]
		if op.Delete && !exists {
			continue
		}
		if l := m.leases[was.Lease]; l != nil {
			delete(l.keys, op.Key)
		}
		if op.Delete {
			delete(m.records, op.Key)
			u.Changes = append(u.Changes, Change{KV{Key: op.Key, Modified: u.Revision}, true})
			continue
		}
		r := KV{Key: op.Key, Value: bytes.Clone(op.Value), Created: was.Created, Modified: u.Revision, Lease: op.Lease}
		if !exists {
			r.Created = u.Revision
		}
		if l := m.leases[op.Lease]; l != nil {
			l.keys[op.Key] = true
		}
		m.records[op.Key] = r
		u.Changes = append(u.Changes, Change{KV: r})
	}
	if len(u.Changes) == 0 {
		return
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
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	l.endLocked()
	return nil
}

// expire ends the lease, unless it was renewed while its timer fired.
func (l *memoryLease) expire() {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	if !time.Now().Before(l.ends) {
		l.endLocked()
	}
}

func (l *memoryLease) endLocked() {
	if l.store.leases[l.id] == nil {
		return
	}
	l.timer.Stop()
	var ops []Op
	for _, key := range slices.Sorted(maps.Keys(l.keys)) {
		ops = append(ops, Delete(key))
	}
	delete(l.store.leases, l.id)
	l.store.applyLocked(ops)
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
