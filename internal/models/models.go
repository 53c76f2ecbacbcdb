// Package models keeps the models that one replica has loaded. Least recently used models make room for new ones; a
// model in use is never unloaded. The package does no I/O of its own, and has no goroutine while nothing loads or
// unloads.
//
// A call gets a model by its id with [Cache.Get] and holds it until it is released. For example, with Max 2 and the
// models a and b loaded, a call for c waits while both are in use. When the call for a ends, a is closed, and then c
// is loaded.
//
// An id comes from a client and may name no model, so a model that was never loaded is on trial: it loads beside the
// others, one at a time, and another model is unloaded only when the load has succeeded. Without the trial each
// invented id would cost a model that is used. A model that was loaded before makes room first, because memory may
// not suffice for both.
//
// Loads are counted by their callers: one load serves all calls for its model, and is cancelled when all of them have
// given up. A failed load is not remembered: the next call tries again.
//
// A model may also be loaded ahead of its calls, because the replica that has it stops ([Cache.LoadAhead]). For example,
// with Max 2 and the models a and b loaded, of which a was used an hour ago, the model c that was used a minute ago at
// the other replica takes the place of a. Had a been used half a minute ago, c would not be loaded. See ahead.go.
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
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// Options are the limits of a cache. A field that is zero has its default.
type Options struct {
	Max      int   // largest number of loaded models; default 3 (Ray Serve's), -1 for no limit
	MaxBytes int64 // largest sum of Hooks.Size, in bytes, of models that load, are loaded or close; 0 for no limit
	MaxLoads int   // largest number of loads at a time; default 4
}

// Validate returns an error that lists every mistake.
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

// Hooks are functions of the cache's owner. Each may be nil.
type Hooks[M any] struct {
	Size  func(M) int64                        // size of a model in bytes; needed for MaxBytes
	Close func(ctx context.Context, m M) error // closes a model; nil calls the model's own Close() error or Close(context.Context) error
	// Changed gets the sorted ids of the models that are loaded, loading or in the queue, after every change, in
	// order and never concurrently. It must not call the cache.
	Changed func(ids []string)
	Report  func(id string, err error) // gets the error of a Close that failed
	// Waits is told of a call that begins to wait for the load of a model, and the function that it gives of the end of the wait: with the ids of the models that were unloaded for this one, and the error of a load
	// that failed. It must not call the cache. nil: nothing is told.
	Waits func(ctx context.Context, id string) (ended func(unloaded []string, err error))
	// Measures counts models. It must not call the cache. nil: nothing is counted.
	Measures Measures
}

// Measures counts what happens to the models of a cache.
type Measures interface {
	Asked() // a call asks for a model
	// Loaded says that a model was loaded, and number models are loaded now. ahead: no call has asked for the model yet.
	Loaded(id string, took time.Duration, number int, ahead bool)
	Left(id string, number int)  // a model is not loaded any more, and is being closed
	Unloaded(took time.Duration) // a model was closed
}

// unmeasured counts nothing.
type unmeasured struct{}

func (unmeasured) Asked()                                  {}
func (unmeasured) Loaded(string, time.Duration, int, bool) {}
func (unmeasured) Left(string, int)                        {}
func (unmeasured) Unloaded(time.Duration)                  {}

// Stats has counts since the start, and the present number of models and bytes.
type Stats struct {
	Gets, Loads, Failures, Unloads uint64
	Loaded, Loading                int
	Bytes                          int64
}

// Cache has the models of one replica. It is safe for concurrent use.
type Cache[M any] struct {
	load    func(ctx context.Context, id string) (M, error)
	options Options
	hooks   Hooks[M]

	changedMu   sync.Mutex // held while Changed runs; taken before mu
	reportedIDs []string

	mu        sync.Mutex
	entries   map[string]*entry[M]
	recent    list.List   // loaded models (*entry[M]), the most recently used in front
	queue     []*entry[M] // models that wait for their load, in order
	loading   int
	roomFor   *entry[M] // for which unload makes room now; nil for none
	closing   int       // number of models that are being closed to make room
	trialRuns bool      // a model on trial loads
	bytes     int64
	closed    bool

	known map[string]struct{} // ids of models that were loaded once

	// The fields below are used with MaxBytes only.
	sizes        map[string]int64 // size of each model that was loaded once
	largest      int64            // the largest of these sizes
	reserved     int64            // bytes set aside for models that load
	closingBytes int64            // bytes of models that are being closed
	unknownSize  bool             // a model of unknown size loads
	allClosed    chan struct{}    // closed when the last model has ended after Close
	stats        Stats
}

// entry is one model: in the queue, then loading, then loaded. Its fields are guarded by Cache.mu.
type entry[M any] struct {
	id      string
	ctx     context.Context // the context of the load
	cancel  context.CancelCauseFunc
	waiters int           // number of callers that wait for the load
	ready   chan struct{} // closed when the model is loaded or its load has failed
	err     error

	place       *list.Element // position in Cache.recent when loaded, else nil
	model       M
	size        int64 // bytes of the model; while it loads, bytes set aside for it
	unknownSize bool
	trial       bool // the model loads although Max is reached: see the package comment
	users       int
	unloaded    []string  // ids of the models that made room for it
	ahead       bool      // no call has asked for the model yet
	used        time.Time // when a call asked for it or released it last, here or, of a model that is ahead, at another replica
}

// New makes an empty cache. The function load runs on a goroutine of its own; its ctx ends when all callers have
// given up.
func New[M any](load func(ctx context.Context, id string) (M, error), options Options, hooks Hooks[M]) (*Cache[M], error) {
	err := options.Validate()
	if load == nil {
		err = errors.Join(err, errors.New("models: the loader is nil"))
	}
	if options.MaxBytes > 0 && hooks.Size == nil {
		err = errors.Join(err, errors.New("models: MaxBytes needs a Size function"))
	}
	if err != nil {
		return nil, err
	}
	if options.Max == 0 {
		options.Max = 3
	}
	if options.MaxLoads == 0 {
		options.MaxLoads = 4
	}
	if hooks.Measures == nil {
		hooks.Measures = unmeasured{}
	}
	return &Cache[M]{load: load, options: options, hooks: hooks, entries: map[string]*entry[M]{}}, nil
}

// Get returns the model with an id, loaded if need be, and keeps it loaded until release is called. A second call of
// release does nothing. Get waits in order while all loaded models are in use and Max or MaxBytes is reached; the end
// of ctx ends the wait with its cause. One load serves all calls that wait for its model, and is cancelled when the
// last of them has given up. An error of load is returned and not remembered.
func (c *Cache[M]) Get(ctx context.Context, id string) (m M, release func(), err error) {
	if id == "" {
		return m, nop, call.NewError(helvetype.ReasonBadInput, "the call carries no model id; give its handle one: With(helve.ModelID(id))")
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
	c.hooks.Measures.Asked()
	e := c.entries[id]
	if e != nil {
		c.askedLocked(e)
	}
	if e != nil && e.place != nil {
		e.users++
		c.recent.MoveToFront(e.place)
		c.mu.Unlock()
		return e.model, c.releaser(e), nil
	}
	fresh := e == nil
	if fresh {
		e = &entry[M]{id: id, used: time.Now()}
		c.beginLocked(ctx, e)
	}
	e.waiters++
	c.mu.Unlock()
	if fresh {
		c.notify()
	}
	if c.hooks.Waits != nil {
		ended := c.hooks.Waits(ctx, id)
		defer func() {
			c.mu.Lock()
			unloaded := slices.Clone(e.unloaded)
			c.mu.Unlock()
			ended(unloaded, err)
		}()
	}
	select {
	case <-e.ready:
	case <-ctx.Done():
		if c.abandon(ctx, e) {
			return m, nop, call.FromContext(ctx)
		}
	}
	if e.err != nil { // e.err was set before ready was closed
		return m, nop, e.err
	}
	return e.model, c.releaser(e), nil
}

// beginLocked puts a model into the queue of the models that wait for their load. mu is held.
func (c *Cache[M]) beginLocked(ctx context.Context, e *entry[M]) {
	e.ready = make(chan struct{})
	e.ctx, e.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	c.entries[e.id] = e
	c.enqueueLocked(e)
	c.schedule()
}

// enqueueLocked puts a model behind the others that wait for their load. A model that a call has asked for goes before the models that are ahead of their calls. For example, the queue has a, which a
// call waits for, and b, which is ahead: c, which a call asks for, goes between them. mu is held.
func (c *Cache[M]) enqueueLocked(e *entry[M]) {
	at := len(c.queue)
	if first := slices.IndexFunc(c.queue, func(other *entry[M]) bool { return other.ahead }); first >= 0 && !e.ahead {
		at = first
	}
	c.queue = slices.Insert(c.queue, at, e)
}

func nop() {}

func errClosed() error {
	return call.NewError(helvetype.ReasonReplicaUnavailable, "the models are closed")
}

// abandon takes a caller out of the callers that wait. It returns false if the load has ended meanwhile: the caller
// then counts as a user of the model.
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
		if i := slices.Index(c.queue, e); i >= 0 { // the load never begins
			c.queue = slices.Delete(c.queue, i, i+1)
			c.failLocked(e, call.FromContext(ctx))
			c.schedule()
		} else if c.entries[e.id] == e { // the load is given up: a new caller begins one of its own
			delete(c.entries, e.id)
		}
	}
	c.mu.Unlock()
	if last {
		c.notify()
	}
	return true
}

// failLocked ends an entry whose model did not load.
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
			e.used = time.Now()
			c.releaseLocked(e)
			c.mu.Unlock()
		})
	}
}

func (c *Cache[M]) releaseLocked(e *entry[M]) {
	e.users--
	if e.users == 0 {
		c.schedule()
	}
}

// With runs f with the model, which stays loaded until f returns.
func (c *Cache[M]) With(ctx context.Context, id string, f func(context.Context, M) error) error {
	m, release, err := c.Get(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	return f(ctx, m)
}

// schedule starts the loads for which there is room, and makes room for the next one. A model that was never loaded
// goes on trial if there is no room. For example, with Max 1 and the model a loaded, a call for b, which does not
// exist, leaves a loaded. mu is held.
func (c *Cache[M]) schedule() {
	for c.overLimit() && c.unload() {
	}
	if c.closed {
		for c.unload() {
		}
		if c.recent.Len() == 0 && c.loading == 0 && c.closing == 0 && c.allClosed != nil {
			close(c.allClosed)
			c.allClosed = nil
		}
		return
	}
	for i := 0; i < len(c.queue) && c.loading < c.options.MaxLoads; {
		e := c.queue[i]
		size, known := c.sizeOf(e.id)
		if c.options.MaxBytes > 0 && !known && c.unknownSize {
			return
		}
		count := c.recent.Len() + c.loading + c.closing
		if c.trialRuns {
			count--
		}
		e.trial = false
		if c.options.Max >= 0 && count >= c.options.Max || c.options.MaxBytes > 0 && count > 0 && c.bytes+c.reserved+c.closingBytes+size > c.options.MaxBytes {
			if e.ahead && c.closing == 0 && !c.older(e) {
				c.queue = slices.Delete(c.queue, i, i+1)
				c.failLocked(e, errNoRoom(e))
				continue
			}
			if _, good := c.known[e.id]; good || e.ahead || c.closing > 0 || c.oldest() == nil {
				// Room is made before a load begins: the memory of the old model may be needed for the new one.
				c.roomFor = e
				if c.closing == 0 && c.unload() && i > 0 { // the room is for e
					c.queue = slices.Insert(slices.Delete(c.queue, i, i+1), 0, e)
				}
				c.roomFor = nil
				return
			}
			if c.trialRuns { // models behind e may have been loaded before
				i++
				continue
			}
			e.trial, c.trialRuns = true, true
		}
		e.size, e.unknownSize = size, !known
		c.reserved += size
		c.unknownSize = c.unknownSize || e.unknownSize
		c.queue = slices.Delete(c.queue, i, i+1)
		c.loading++
		c.stats.Loads++
		go c.runLoad(e)
	}
}

// overLimit reports whether more is loaded than the limits allow, which is so after a trial. mu is held.
func (c *Cache[M]) overLimit() bool {
	return c.options.MaxBytes > 0 && c.bytes > c.options.MaxBytes || c.options.Max >= 0 && c.recent.Len() > c.options.Max
}

// oldest is the least recently used model without a user, which unload would take; nil for none. mu is held.
func (c *Cache[M]) oldest() *entry[M] {
	for el := c.recent.Back(); el != nil; el = el.Prev() {
		if e := el.Value.(*entry[M]); e.users == 0 {
			return e
		}
	}
	return nil
}

// sizeOf is the number of bytes that a model had when it was loaded before. For a model without a known size it is a
// careful guess, and the result known is false. mu is held.
func (c *Cache[M]) sizeOf(id string) (size int64, known bool) {
	if c.options.MaxBytes == 0 {
		return 0, true
	}
	if size, known = c.sizes[id]; known {
		return size, true
	}
	return c.largest, false
}

// maxSizes is the number of remembered models. It bounds the memory of models that are never asked for again.
const maxSizes = 10_000

// remember remembers that a model can be loaded, and its size. mu is held.
func (c *Cache[M]) remember(id string, size int64) {
	if c.known == nil || len(c.known) >= maxSizes {
		c.known = map[string]struct{}{}
	}
	c.known[id] = struct{}{}
	if c.options.MaxBytes == 0 {
		return
	}
	if c.sizes == nil || len(c.sizes) >= maxSizes {
		c.sizes = map[string]int64{}
	}
	c.sizes[id] = size
	c.largest = max(c.largest, size)
}

// fits reports whether a model that was loaded without a known size may stay: it may if it fits after all unused
// models have gone. mu is held.
func (c *Cache[M]) fits(e *entry[M], size int64) bool {
	if c.options.MaxBytes == 0 || c.closed || e.waiters == 0 {
		return true
	}
	for c.bytes+c.reserved+size > c.options.MaxBytes {
		if e.ahead && !c.older(e) || !c.unload() {
			return false
		}
	}
	return true
}

// runLoad loads a model on a goroutine of its own.
func (c *Cache[M]) runLoad(e *entry[M]) {
	var m M
	var size int64
	var err error
	ended, begun := false, time.Now()
	defer func() {
		if !ended {
			err = call.Recovered(recover())
		}
		took := time.Since(begun)
		e.cancel(nil)
		c.mu.Lock()
		c.reserved -= e.size
		if e.trial {
			e.trial, c.trialRuns = false, false
		}
		if e.unknownSize {
			c.unknownSize = false
		}
		if err == nil {
			c.remember(e.id, size)
		}
		if err == nil && !c.fits(e, size) {
			// The model is larger than the bytes set aside for it, and the rest is in use: it waits again, now with a
			// known size.
			c.closingBytes += size
			c.mu.Unlock()
			c.closeModel(context.WithoutCancel(e.ctx), e.id, m)
			c.mu.Lock()
			c.closingBytes -= size
			c.loading--
			c.requeue(e)
			c.schedule()
			c.mu.Unlock()
			c.notify()
			return
		}
		c.loading--
		if err != nil {
			c.stats.Failures++
			c.failLocked(e, err)
		} else {
			e.model, e.size, e.users = m, size, e.waiters
			e.place = c.placeLocked(e)
			c.bytes += size
			c.hooks.Measures.Loaded(e.id, took, c.recent.Len(), e.ahead)
			close(e.ready)
			c.roomFor = e // after a trial
			for c.overLimit() && c.unload() {
			}
			c.roomFor = nil
		}
		c.schedule()
		c.mu.Unlock()
		c.notify()
	}()
	if m, err = c.load(e.ctx, e.id); err == nil && c.hooks.Size != nil {
		if size = c.hooks.Size(m); c.options.MaxBytes > 0 && size > c.options.MaxBytes {
			err = call.NewError(helvetype.ReasonBadInput, fmt.Sprintf("models: %s holds %d bytes, all together may hold %d", e.id, size, c.options.MaxBytes))
			c.closeModel(context.WithoutCancel(e.ctx), e.id, m)
		}
	}
	ended = true
}

// requeue puts an entry back in front of the queue. mu is held.
func (c *Cache[M]) requeue(e *entry[M]) {
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

// unload takes the least recently used model without a user out, and closes it on a goroutine of its own. It returns
// false if there is none. mu is held.
func (c *Cache[M]) unload() bool {
	e := c.oldest()
	if e != nil {
		c.remove(e)
	}
	return e != nil
}

// remove takes a loaded model out and closes it. mu is held.
func (c *Cache[M]) remove(e *entry[M]) {
	if c.roomFor != nil {
		c.roomFor.unloaded = append(c.roomFor.unloaded, e.id)
	}
	c.recent.Remove(e.place)
	if c.entries[e.id] == e {
		delete(c.entries, e.id)
	}
	c.bytes -= e.size
	c.closingBytes += e.size
	c.closing++
	c.stats.Unloads++
	c.hooks.Measures.Left(e.id, c.recent.Len())
	go func() {
		c.notify()
		begun := time.Now()
		c.closeModel(context.Background(), e.id, e.model)
		c.hooks.Measures.Unloaded(time.Since(begun))
		c.mu.Lock()
		c.closing--
		c.closingBytes -= e.size
		c.schedule()
		c.mu.Unlock()
	}()
}

// closeModel closes a model. An error is reported and fails no call.
func (c *Cache[M]) closeModel(ctx context.Context, id string, m M) {
	var err error
	ended := false
	defer func() {
		if !ended {
			err = call.Recovered(recover())
		}
		if err != nil && c.hooks.Report != nil {
			call.Enclose(func() { c.hooks.Report(id, err) }) // Report is user code too
		}
	}()
	switch closer := any(m).(type) {
	case nil:
	default:
		if c.hooks.Close != nil {
			err = c.hooks.Close(ctx, m)
		}
	case interface{ Close(context.Context) error }:
		if c.hooks.Close != nil {
			err = c.hooks.Close(ctx, m)
		} else {
			err = closer.Close(ctx)
		}
	case io.Closer:
		if c.hooks.Close != nil {
			err = c.hooks.Close(ctx, m)
		} else {
			err = closer.Close()
		}
	}
	ended = true
}

// notify calls Changed with the present models. The models are read under telling, so the last call of Changed has the
// last state.
func (c *Cache[M]) notify() {
	if c.hooks.Changed == nil {
		return
	}
	c.changedMu.Lock()
	defer c.changedMu.Unlock()
	c.mu.Lock()
	ids := slices.Sorted(maps.Keys(c.entries))
	c.mu.Unlock()
	if !slices.Equal(ids, c.reportedIDs) {
		c.reportedIDs = ids
		c.hooks.Changed(slices.Clone(ids))
	}
}

// IDs are the ids of the loaded models, the most recently used first, and then of the models that load or are in the
// queue.
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

// Stats returns the counts.
func (c *Cache[M]) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Loaded, s.Loading, s.Bytes = c.recent.Len(), c.loading+len(c.queue), c.bytes
	return s
}

// Close unloads all models and returns when they are closed. A model in use is closed when it is released, or at the
// end of ctx. Loads under way are cancelled, and Get fails from now on.
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
	allClosed := make(chan struct{})
	c.allClosed = allClosed
	c.schedule()
	c.mu.Unlock()
	select {
	case <-allClosed:
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
