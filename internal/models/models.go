// Package models is the set of models that one replica has loaded: least recently used ones make room, those in use never
// do. It does no I/O of its own, and has no goroutine while nothing loads or unloads.
package models

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/helve-serve/helve/internal/call"
)

// Options of a cache. The zero value of a field takes its default.
type Options struct {
	Max      int   // how many models are loaded at most; default 3 (the reference's), -1 for no limit
	MaxBytes int64 // how much they hold by the size function at most, with those that load and close; 0 for no limit
	MaxLoads int   // loads under way at a time; default 4
}

// Validate lists every mistake.
func (o Options) Validate() error {
	var errs []error
	if o.Max < -1 {
		errs = append(errs, fmt.Errorf("models: Max must be at least 1, or -1 for no limit, is %d", o.Max))
	}
	if o.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("models: MaxBytes must not be negative, is %d", o.MaxBytes))
	}
	if o.MaxLoads < 0 {
		errs = append(errs, fmt.Errorf("models: MaxLoads must be at least 1, is %d", o.MaxLoads))
	}
	return errors.Join(errs...)
}

// Hooks are what a cache asks and tells its owner. All may be nil.
type Hooks[M any] struct {
	Size  func(M) int64                        // bytes; needed for MaxBytes
	Close func(ctx context.Context, m M) error // nil: the model's own Close() error or Close(context.Context) error
	// Changed is told which models are loaded, loading or waiting to be, sorted, after every change, in order and never
	// concurrently. It must not call the cache.
	Changed func(ids []string)
	Report  func(id string, err error) // a Close that failed
}

// Stats are counts since the start, and what is loaded now.
type Stats struct {
	Gets, Loads, Failures, Unloads uint64
	Loaded, Loading                int
	Bytes                          int64
}

// Cache is the set. It is safe for concurrent use.
type Cache[M any] struct {
	load func(ctx context.Context, id string) (M, error)
	o    Options
	h    Hooks[M]

	telling sync.Mutex // one Changed at a time; taken before mu
	told    []string

	mu      sync.Mutex
	entries map[string]*entry[M]
	recent  list.List   // of *entry[M] that are loaded, the most recently used in front
	queue   []*entry[M] // that wait to be loaded, in order
	loading int
	closing int  // models that make room
	trying  bool // one that loads is on trial
	bytes   int64
	closed  bool

	known map[string]struct{} // models that were loaded

	// Under MaxBytes alone.
	sizes    map[string]int64 // of models that were loaded
	largest  int64            // of those
	reserved int64            // for models that load
	leaving  int64            // bytes of those that make room
	blind    bool             // one loads whose size is not known
	idle     chan struct{}    // closed when nothing is left after Close
	stats    Stats
}

// entry is one model: in the queue, then loading, then loaded. Its fields are guarded by Cache.mu.
type entry[M any] struct {
	id      string
	ctx     context.Context // of the load
	cancel  context.CancelCauseFunc
	waiters int           // callers that wait for the load
	ready   chan struct{} // closed when it is loaded or has failed
	err     error

	place *list.Element // in recent, when it is loaded
	model M
	size  int64 // while it loads, what is reserved for it
	blind bool
	trial bool // it loads beside as many as there may be
	users int
}

// New makes an empty cache.
func New[M any](load func(ctx context.Context, id string) (M, error), o Options, h Hooks[M]) (*Cache[M], error) {
	err := o.Validate()
	if load == nil {
		err = errors.Join(err, errors.New("models: the loader is nil"))
	}
	if o.MaxBytes > 0 && h.Size == nil {
		err = errors.Join(err, errors.New("models: MaxBytes needs a Size function"))
	}
	if err != nil {
		return nil, err
	}
	if o.Max == 0 {
		o.Max = 3
	}
	if o.MaxLoads == 0 {
		o.MaxLoads = 4
	}
	return &Cache[M]{load: load, o: o, h: h, entries: map[string]*entry[M]{}}, nil
}

// Get gives a model, loaded if it was not, and keeps it loaded until release is called, which may be done more than once.
// While every model that is loaded is in use and there may be no more, it waits its turn; an end of ctx ends the wait. A
// load serves all who wait for it, ends when all of those have gone, and is not remembered if it fails.
func (c *Cache[M]) Get(ctx context.Context, id string) (m M, release func(), err error) {
	if id == "" {
		return m, nop, call.NewError(call.BadInput, "the call carries no model id; give its handle one: With(helve.ModelID(id))")
	}
	if ctx.Err() != nil {
		return m, nop, call.FromContext(ctx)
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return m, nop, errClosed()
	}
	c.stats.Gets++
	e := c.entries[id]
	if e != nil && e.place != nil {
		e.users++
		c.recent.MoveToFront(e.place)
		c.mu.Unlock()
		return e.model, c.releaser(e), nil
	}
	fresh := e == nil
	if fresh {
		e = &entry[M]{id: id, ready: make(chan struct{})}
		e.ctx, e.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
		c.entries[id] = e
		c.queue = append(c.queue, e)
		c.schedule()
	}
	e.waiters++
	c.mu.Unlock()
	if fresh {
		c.tell()
	}
	select {
	case <-e.ready:
	case <-ctx.Done():
		if c.abandon(ctx, e) {
			return m, nop, call.FromContext(ctx)
		}
	}
	if e.err != nil { // set before ready was closed
		return m, nop, e.err
	}
	return e.model, c.releaser(e), nil
}

func nop() {}

func errClosed() error { return call.NewError(call.ReplicaUnavailable, "the models are closed") }

// abandon is for a caller that waits no more. false: the load has ended, and the caller is counted as a user.
func (c *Cache[M]) abandon(ctx context.Context, e *entry[M]) bool {
	c.mu.Lock()
	select {
	case <-e.ready:
		c.mu.Unlock()
		return false
	default:
	}
	e.waiters--
	last := e.waiters == 0
	if last {
		e.cancel(call.FromContext(ctx))
		if i := slices.Index(c.queue, e); i >= 0 { // its load never begins
			c.queue = slices.Delete(c.queue, i, i+1)
			c.failLocked(e, call.FromContext(ctx))
			c.schedule()
		} else if c.entries[e.id] == e { // it is given up: who asks now begins a load of its own
			delete(c.entries, e.id)
		}
	}
	c.mu.Unlock()
	if last {
		c.tell()
	}
	return true
}

// failLocked ends an entry that did not load.
func (c *Cache[M]) failLocked(e *entry[M], err error) {
	if c.entries[e.id] == e {
		delete(c.entries, e.id)
	}
	e.err = err
	close(e.ready)
}

func (c *Cache[M]) releaser(e *entry[M]) func() {
	var once sync.Once
	return func() {
		once.Do(func() {
			c.mu.Lock()
			e.users--
			if e.users == 0 {
				c.schedule()
			}
			c.mu.Unlock()
		})
	}
}

// With runs f with a model that stays loaded meanwhile.
func (c *Cache[M]) With(ctx context.Context, id string, f func(context.Context, M) error) error {
	m, release, err := c.Get(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	return f(ctx, m)
}

// schedule starts the loads for which there is room, and makes room for the next. A model that was never loaded is on trial where
// there is no room: it loads beside the others, one at a time, and puts another out when it is there. Else any id that a client
// invents would cost a model that is used. Example: there may be one, a is loaded, and a call comes for b, which does not exist: a
// stays. mu is held.
func (c *Cache[M]) schedule() {
	for c.over() && c.unload() {
	}
	if c.closed {
		for c.unload() {
		}
		if c.recent.Len() == 0 && c.loading == 0 && c.closing == 0 && c.idle != nil {
			close(c.idle)
			c.idle = nil
		}
		return
	}
	for i := 0; i < len(c.queue) && c.loading < c.o.MaxLoads; {
		e := c.queue[i]
		size, known := c.sizeOf(e.id)
		if c.o.MaxBytes > 0 && !known && c.blind {
			return
		}
		count := c.recent.Len() + c.loading + c.closing
		if c.trying {
			count--
		}
		e.trial = false
		if c.o.Max >= 0 && count >= c.o.Max || c.o.MaxBytes > 0 && count > 0 && c.bytes+c.reserved+c.leaving+size > c.o.MaxBytes {
			if _, good := c.known[e.id]; good || c.closing > 0 || !c.canUnload() {
				// Room is made before a load begins: the memory of the old model may be needed for the new one.
				if c.closing == 0 && c.unload() && i > 0 { // and it is for this one
					c.queue = slices.Insert(slices.Delete(c.queue, i, i+1), 0, e)
				}
				return
			}
			if c.trying { // those behind it may be known
				i++
				continue
			}
			e.trial, c.trying = true, true
		}
		e.size, e.blind = size, !known
		c.reserved += size
		c.blind = c.blind || e.blind
		c.queue = slices.Delete(c.queue, i, i+1)
		c.loading++
		c.stats.Loads++
		go c.bring(e)
	}
}

// over says whether there is more than there may be: a model that was on trial has been loaded. mu is held.
func (c *Cache[M]) over() bool {
	return c.o.MaxBytes > 0 && c.bytes > c.o.MaxBytes || c.o.Max >= 0 && c.recent.Len() > c.o.Max
}

// canUnload says whether unload would find a model. mu is held.
func (c *Cache[M]) canUnload() bool {
	for el := c.recent.Back(); el != nil; el = el.Prev() {
		if el.Value.(*entry[M]).users == 0 {
			return true
		}
	}
	return false
}

// sizeOf is what a model held when it was loaded before, or what is a careful guess for one that was not. mu is held.
func (c *Cache[M]) sizeOf(id string) (size int64, known bool) {
	if c.o.MaxBytes == 0 {
		return 0, true
	}
	if size, known = c.sizes[id]; known {
		return size, true
	}
	return c.largest, false
}

// maxSizes bounds the memory of models that are never asked for again.
const maxSizes = 10_000

// learn remembers that a model can be loaded, and what it holds. mu is held.
func (c *Cache[M]) learn(id string, size int64) {
	if c.known == nil || len(c.known) >= maxSizes {
		c.known = map[string]struct{}{}
	}
	c.known[id] = struct{}{}
	if c.o.MaxBytes == 0 {
		return
	}
	if c.sizes == nil || len(c.sizes) >= maxSizes {
		c.sizes = map[string]int64{}
	}
	c.sizes[id] = size
	c.largest = max(c.largest, size)
}

// fits says whether a model that was loaded without knowing its size may stay: it may if those that nobody uses go. mu is held.
func (c *Cache[M]) fits(e *entry[M], size int64) bool {
	if c.o.MaxBytes == 0 || c.closed || e.waiters == 0 {
		return true
	}
	for c.bytes+c.reserved+size > c.o.MaxBytes {
		if !c.unload() {
			return false
		}
	}
	return true
}

// bring loads a model on a goroutine of its own.
func (c *Cache[M]) bring(e *entry[M]) {
	var m M
	var size int64
	var err error
	ended := false
	defer func() {
		if !ended {
			err = call.Recovered(recover())
		}
		e.cancel(nil)
		c.mu.Lock()
		c.reserved -= e.size
		if e.trial {
			e.trial, c.trying = false, false
		}
		if e.blind {
			c.blind = false
		}
		if err == nil {
			c.learn(e.id, size)
		}
		if err == nil && !c.fits(e, size) {
			// It is larger than was reserved for it, and the rest is in use: it has to wait, now that its size is known.
			c.leaving += size
			c.mu.Unlock()
			c.closeModel(context.WithoutCancel(e.ctx), e.id, m)
			c.mu.Lock()
			c.leaving -= size
			c.loading--
			c.again(e)
			c.schedule()
			c.mu.Unlock()
			c.tell()
			return
		}
		c.loading--
		if err != nil {
			c.stats.Failures++
			c.failLocked(e, err)
		} else {
			e.model, e.size, e.users = m, size, e.waiters
			e.place = c.recent.PushFront(e)
			c.bytes += size
			close(e.ready)
		}
		c.schedule()
		c.mu.Unlock()
		c.tell()
	}()
	if m, err = c.load(e.ctx, e.id); err == nil && c.h.Size != nil {
		if size = c.h.Size(m); c.o.MaxBytes > 0 && size > c.o.MaxBytes {
			err = call.NewError(call.BadInput, fmt.Sprintf("models: %s holds %d bytes, all together may hold %d", e.id, size, c.o.MaxBytes))
			c.closeModel(context.WithoutCancel(e.ctx), e.id, m)
		}
	}
	ended = true
}

// again puts an entry back in front of the queue. mu is held.
func (c *Cache[M]) again(e *entry[M]) {
	if c.closed || e.waiters == 0 {
		err := call.FromCause(context.Canceled)
		if c.closed {
			err = call.AsError(errClosed())
		}
		c.failLocked(e, err)
		return
	}
	e.ctx, e.cancel = context.WithCancelCause(context.WithoutCancel(e.ctx))
	c.queue = slices.Insert(c.queue, 0, e)
}

// unload takes the least recently used model that nobody uses out and closes it on a goroutine of its own; false if there
// is none. mu is held.
func (c *Cache[M]) unload() bool {
	for el := c.recent.Back(); el != nil; el = el.Prev() {
		if e := el.Value.(*entry[M]); e.users == 0 {
			c.remove(e)
			return true
		}
	}
	return false
}

// remove takes a loaded model out and closes it. mu is held.
func (c *Cache[M]) remove(e *entry[M]) {
	c.recent.Remove(e.place)
	if c.entries[e.id] == e {
		delete(c.entries, e.id)
	}
	c.bytes -= e.size
	c.leaving += e.size
	c.closing++
	c.stats.Unloads++
	go func() {
		c.tell()
		c.closeModel(context.Background(), e.id, e.model)
		c.mu.Lock()
		c.closing--
		c.leaving -= e.size
		c.schedule()
		c.mu.Unlock()
	}()
}

// closeModel closes a model; what goes wrong is nobody's fault who waits.
func (c *Cache[M]) closeModel(ctx context.Context, id string, m M) {
	var err error
	ended := false
	defer func() {
		if !ended {
			err = call.Recovered(recover())
		}
		if err != nil && c.h.Report != nil {
			call.Enclose(func() { c.h.Report(id, err) }) // it is the user's too
		}
	}()
	switch closer := any(m).(type) {
	case nil:
	default:
		if c.h.Close != nil {
			err = c.h.Close(ctx, m)
		}
	case interface{ Close(context.Context) error }:
		if c.h.Close != nil {
			err = c.h.Close(ctx, m)
		} else {
			err = closer.Close(ctx)
		}
	case io.Closer:
		if c.h.Close != nil {
			err = c.h.Close(ctx, m)
		} else {
			err = closer.Close()
		}
	}
	ended = true
}

// tell passes on which models there are. The state is read under telling, so the last told is the last there was.
func (c *Cache[M]) tell() {
	if c.h.Changed == nil {
		return
	}
	c.telling.Lock()
	defer c.telling.Unlock()
	c.mu.Lock()
	ids := slices.Sorted(maps.Keys(c.entries))
	c.mu.Unlock()
	if !slices.Equal(ids, c.told) {
		c.told = ids
		c.h.Changed(slices.Clone(ids))
	}
}

// IDs are the models that are loaded, the most recently used first, and then those that load or wait to be loaded.
func (c *Cache[M]) IDs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids, rest []string
	for el := c.recent.Front(); el != nil; el = el.Next() {
		ids = append(ids, el.Value.(*entry[M]).id)
	}
	for id, e := range c.entries {
		if e.place == nil {
			rest = append(rest, id)
		}
	}
	slices.Sort(rest)
	return append(ids, rest...)
}

// Stats is what was and is done.
func (c *Cache[M]) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Loaded, s.Loading, s.Bytes = c.recent.Len(), c.loading+len(c.queue), c.bytes
	return s
}

// Close unloads all models and returns when they are closed: those in use when they are released, or at the end of ctx.
// Loads under way are cancelled. Get fails from now on.
func (c *Cache[M]) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	for _, e := range c.queue {
		e.cancel(errClosed())
		c.failLocked(e, errClosed())
	}
	c.queue = nil
	for _, e := range c.entries {
		if e.place == nil {
			e.cancel(errClosed())
		}
	}
	idle := make(chan struct{})
	c.idle = idle
	c.schedule()
	c.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
	}
	c.mu.Lock()
	n := c.recent.Len()
	for c.recent.Len() > 0 {
		c.remove(c.recent.Front().Value.(*entry[M]))
	}
	c.mu.Unlock()
	return fmt.Errorf("models: %d were still in use: %w", n, call.EndOf(ctx))
}
