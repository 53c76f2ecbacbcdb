// Package batch joins single calls into batches. It does no I/O, and has no goroutine while nothing waits.
//
// A batch forms from the first call that waits. It is due when it is full, or when its first call has waited for
// Options.Wait, and runs as soon as fewer than Options.MaxConcurrent batches run. Calls keep their order; a call that
// does not fit begins the next batch. For example, with MaxSize 10 by a size function, calls of the sizes 4, 5 and 3
// make a batch of the first two, and the third begins another. Calls for different models are never in one batch.
package batch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// Options are the limits of a batcher. A field that is zero has its default.
type Options struct {
	MaxSize       int            // largest size of a batch, in items or in units of the size function; default 10
	Wait          *time.Duration // longest wait after the first item of a batch; 0 takes the items that are there; default 10 ms
	MaxConcurrent int            // largest number of batches that run at a time; default 1
}

func (o Options) withDefaults() Options {
	if o.MaxSize == 0 {
		o.MaxSize = 10
	}
	if o.Wait == nil {
		o.Wait = new(10 * time.Millisecond)
	}
	if o.MaxConcurrent == 0 {
		o.MaxConcurrent = 1
	}
	return o
}

// Validate returns an error that lists every mistake.
func (o Options) Validate() error {
	var errs []error
	if o.MaxSize < 0 {
		errs = append(errs, fmt.Errorf("batch: MaxSize must be at least 1, is %d", o.MaxSize))
	}
	if o.Wait != nil && *o.Wait < 0 {
		errs = append(errs, fmt.Errorf("batch: Wait must not be negative, is %s", *o.Wait))
	}
	if o.MaxConcurrent < 0 {
		errs = append(errs, fmt.Errorf("batch: MaxConcurrent must be at least 1, is %d", o.MaxConcurrent))
	}
	return errors.Join(errs...)
}

// Measures counts batches.
type Measures interface {
	// Began gets the waits of the members of a batch, its size in parts of the largest one, and the number of items that go on waiting.
	Began(waits []time.Duration, filled float64, waiting int)
	// Ended gets the time of the function.
	Ended(took time.Duration)
}

// Stats has counts since the start, and the present number of items and batches.
type Stats struct {
	Batches, Items uint64
	Waiting        int
	Running        int // number of batches
}

// item is one call. Its fields, except for the channels, are guarded by queue.mu.
type item[In, Out any] struct {
	ctx   context.Context
	in    In
	size  int
	at    time.Time
	group *group[In, Out] // the group in which it waits, else nil
	batch *running        // the batch it is in, else nil

	out  chan Out      // the output of a stream; nil for a single answer
	gone chan struct{} // closed when the stream has no reader any more
	done chan struct{} // closed when err and value, or the end of out, are set
	over bool
	val  Out
	err  error
}

// end settles an item. A second call does nothing. q.mu is held.
func (it *item[In, Out]) end(err error) {
	if !it.over {
		it.over, it.err = true, err
		close(it.done)
	}
}

// group has the waiting calls for one model.
type group[In, Out any] struct {
	model string
	items []*item[In, Out]
}

// running is a batch that runs.
type running struct {
	membersLeft int // number of members that still want their answer
	cancel      context.CancelCauseFunc
}

// queue is the common part of both kinds of batcher.
type queue[In, Out any] struct {
	size     func(In) int // nil if every item counts 1
	run      func(ctx context.Context, b []*item[In, Out])
	measures Measures // nil for none; set before the first item

	mu      sync.Mutex
	options Options
	groups  []*group[In, Out] // sorted by the age of their first item, the oldest first
	running int
	timer   *time.Timer // fires when the next batch is due
	closed  bool
	batches uint64
	items   uint64
}

func (q *queue[In, Out]) init(o Options, size func(In) int) error {
	if err := o.Validate(); err != nil {
		return err
	}
	q.options, q.size = o.withDefaults(), size
	return nil
}

// Set changes the options, from the next batch on. It is safe for concurrent use.
func (q *queue[In, Out]) Set(o Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.options = o.withDefaults()
	q.schedule()
	return nil
}

// Options returns the options in force.
func (q *queue[In, Out]) Options() Options {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.options
}

// Stats returns the counts.
func (q *queue[In, Out]) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Stats{Batches: q.batches, Items: q.items, Running: q.running}
	for _, g := range q.groups {
		s.Waiting += len(g.items)
	}
	return s
}

// Close fails the calls that wait and all later ones. Batches that run finish.
func (q *queue[In, Out]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, g := range q.groups {
		for _, it := range g.items {
			it.group = nil
			it.end(errClosed())
		}
	}
	q.groups = nil
	q.schedule()
}

func errClosed() error {
	return call.NewError(helvetype.ReasonReplicaUnavailable, "the batcher is closed")
}

// measure is the size of an item, or the error of an item that fits in no batch.
func (q *queue[In, Out]) measure(in In) (n int, err error) {
	if q.size == nil {
		return 1, nil
	}
	ended := false
	defer func() {
		if !ended {
			err = call.Recovered(recover())
		}
	}()
	n = q.size(in)
	ended = true
	if n < 0 {
		return 0, call.NewError(helvetype.ReasonBadInput, fmt.Sprintf("batch: the size of an item is %d", n))
	}
	return n, nil
}

// add appends an item to the group of its model.
func (q *queue[In, Out]) add(it *item[In, Out]) error {
	if it.ctx.Err() != nil {
		return call.FromContext(it.ctx)
	}
	size, err := q.measure(it.in)
	if err != nil {
		return err
	}
	it.size, it.at = size, time.Now()
	model := ""
	if i := call.InfoFrom(it.ctx); i != nil {
		model = i.Model()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return errClosed()
	}
	if size > q.options.MaxSize {
		return call.NewError(helvetype.ReasonBadInput, fmt.Sprintf("batch: the size of the item is %d, a batch holds at most %d", size, q.options.MaxSize))
	}
	i := slices.IndexFunc(q.groups, func(g *group[In, Out]) bool { return g.model == model })
	if i < 0 {
		i = len(q.groups)
		q.groups = append(q.groups, &group[In, Out]{model: model})
	}
	g := q.groups[i]
	g.items = append(g.items, it)
	it.group = g
	q.schedule()
	return nil
}

// leave takes an item of a caller that has given up out of its group. A batch whose members have all left is
// cancelled.
func (q *queue[In, Out]) leave(it *item[In, Out], cause error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if it.over {
		return
	}
	it.end(cause)
	if g := it.group; g != nil {
		it.group = nil
		g.items = slices.DeleteFunc(g.items, func(x *item[In, Out]) bool { return x == it })
		q.schedule()
	}
	if it.batch != nil {
		q.memberLeft(it.batch, cause)
	}
}

func (q *queue[In, Out]) memberLeft(r *running, cause error) {
	if r.membersLeft--; r.membersLeft == 0 {
		r.cancel(cause)
	}
}

// schedule starts the batches that are due, and sets the timer for the next one. mu is held.
func (q *queue[In, Out]) schedule() {
	q.groups = slices.DeleteFunc(q.groups, func(g *group[In, Out]) bool { return len(g.items) == 0 })
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
	now := time.Now()
	var next time.Time
	for i := 0; i < len(q.groups) && q.running < q.options.MaxConcurrent; {
		g := q.groups[i]
		n, full := q.fits(g)
		due := g.items[0].at.Add(*q.options.Wait)
		if !full && now.Before(due) {
			if next.IsZero() || due.Before(next) {
				next = due
			}
			i++
			continue
		}
		q.start(g, n)
		if len(g.items) == 0 {
			q.groups = slices.Delete(q.groups, i, i+1)
			continue
		}
		// The rest of the group goes behind groups whose first item is older.
		slices.SortStableFunc(q.groups, func(a, b *group[In, Out]) int { return a.items[0].at.Compare(b.items[0].at) })
		i = 0
	}
	if !next.IsZero() && q.running < q.options.MaxConcurrent {
		q.timer = time.AfterFunc(next.Sub(now), func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.schedule()
		})
	}
}

// fits is the number of items of a group that go into one batch. The result full is true if no further item would
// fit.
func (q *queue[In, Out]) fits(g *group[In, Out]) (n int, full bool) {
	total := 0
	for _, it := range g.items {
		if n > 0 && total+it.size > q.options.MaxSize {
			return n, true
		}
		n, total = n+1, total+it.size
	}
	return n, total >= q.options.MaxSize
}

// start runs the first n items of a group. mu is held.
func (q *queue[In, Out]) start(g *group[In, Out], n int) {
	b := slices.Clone(g.items[:n])
	g.items = slices.Delete(g.items, 0, n)
	r := &running{membersLeft: n}
	ctx, stop := context.WithCancelCause(context.WithoutCancel(b[0].ctx))
	r.cancel = stop
	members := make([]context.Context, n)
	var latest time.Time
	limited := true // every member has a deadline: the batch has the latest of them
	for i, it := range b {
		it.group, it.batch, members[i] = nil, r, it.ctx
		d, ok := it.ctx.Deadline()
		limited = limited && ok
		if d.After(latest) {
			latest = d
		}
	}
	done := func() { stop(nil) }
	if limited {
		bounded, cancel := context.WithDeadline(ctx, latest)
		ctx, done = bounded, func() { cancel(); stop(nil) }
	}
	ctx = context.WithValue(ctx, membersKey{}, members)
	q.running++
	q.batches++
	q.items += uint64(n)
	began := q.began(b)
	go func() {
		ended := began()
		defer func() {
			ended()
			done()
			q.mu.Lock()
			defer q.mu.Unlock()
			q.running--
			q.schedule()
		}()
		q.run(ctx, b)
	}()
}

// began notes the numbers of a batch. Its result counts them, and gives the function that counts the end. mu is held here, and not in either of these.
func (q *queue[In, Out]) began(b []*item[In, Out]) func() (ended func()) {
	if q.measures == nil {
		return func() func() { return func() {} }
	}
	now, waits, size, waiting := time.Now(), make([]time.Duration, len(b)), 0, 0
	for i, it := range b {
		waits[i], size = now.Sub(it.at), size+it.size
	}
	for _, g := range q.groups {
		waiting += len(g.items)
	}
	filled := float64(size) / float64(q.options.MaxSize)
	return func() func() {
		q.measures.Began(waits, filled, waiting)
		start := time.Now()
		return func() { q.measures.Ended(time.Since(start)) }
	}
}

// Measure has the batches counted. It is called before the first item.
func (q *queue[In, Out]) Measure(m Measures) { q.measures = m }

// settle ends the items of a batch that have not ended, with err.
func (q *queue[In, Out]) settle(b []*item[In, Out], err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range b {
		it.end(err)
	}
}

type membersKey struct{}

// Members are the contexts of the calls in a batch, in the order of their items. The parameter ctx is the context
// that the batch function got, or one made from it; for any other context the result is nil.
func Members(ctx context.Context) []context.Context {
	m, _ := ctx.Value(membersKey{}).([]context.Context)
	return m
}
