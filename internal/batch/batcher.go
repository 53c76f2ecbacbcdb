package batch

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// Batcher runs a function of many inputs for callers with one input each. It is safe for concurrent use.
type Batcher[In, Out any] struct{ queue[In, Out] }

// New makes a batcher. The function run returns one result per input, in order. The function size is the weight of an
// item in Options.MaxSize; nil means 1 each.
func New[In, Out any](run func(ctx context.Context, in []In) ([]Out, error), o Options, size func(In) int) (*Batcher[In, Out], error) {
	if run == nil {
		return nil, errors.New("batch: the function is nil")
	}
	b := &Batcher[In, Out]{}
	if err := b.init(o, size); err != nil {
		return nil, err
	}
	b.run = func(ctx context.Context, members []*item[In, Out]) {
		var out []Out
		var err error
		ended := false
		defer func() {
			if !ended {
				err = call.Recovered(recover())
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			for i, m := range members {
				if err == nil && !m.over {
					m.val = out[i]
				}
				m.end(err)
			}
		}()
		out, err = run(ctx, inputs(members))
		if err == nil && len(out) != len(members) {
			err = wrongLength(len(out), len(members))
		}
		ended = true
	}
	return b, nil
}

func inputs[In, Out any](members []*item[In, Out]) []In {
	in := make([]In, len(members))
	for i, m := range members {
		in[i] = m.in
	}
	return in
}

func wrongLength(got, want int) error {
	return call.NewError(helvetype.ReasonUser, fmt.Sprintf("batch: the function gave %d results for %d inputs", got, want))
}

// Do adds in to a batch and waits for its result. If ctx ends first, its cause is returned: a waiting item drops out,
// and a running batch goes on for the others.
func (b *Batcher[In, Out]) Do(ctx context.Context, in In) (Out, error) {
	it := &item[In, Out]{ctx: ctx, in: in, done: make(chan struct{})}
	if err := b.add(it); err != nil {
		var none Out
		return none, err
	}
	select {
	case <-it.done:
	case <-ctx.Done():
		b.leave(it, call.FromContext(ctx))
		<-it.done
	}
	return it.val, it.err
}

// Item is the part of one step of a batched stream that belongs to one member.
type Item[Out any] struct {
	Value Out
	Skip  bool // this member has no item in this step
	End   bool // the member's stream has ended; Value is ignored
}

// Stream is a [Batcher] whose function streams: each step has an [Item] per member. It is safe for concurrent use.
type Stream[In, Out any] struct{ queue[In, Out] }

// ahead is the number of items of a member that may wait for its reader. Beyond that the batch waits for its slowest
// reader.
const ahead = 64

// NewStream makes a batcher. Each step of the function run has one item per input, in order; part converts the caller's type of
// items. The function size is as in [New].
func NewStream[In, Out, I any](run func(ctx context.Context, in []In) iter.Seq2[[]I, error], part func(I) Item[Out], o Options, size func(In) int) (*Stream[In, Out], error) {
	if run == nil {
		return nil, errors.New("batch: the function is nil")
	}
	s := &Stream[In, Out]{}
	if err := s.init(o, size); err != nil {
		return nil, err
	}
	s.run = func(ctx context.Context, members []*item[In, Out]) {
		var err error
		ended, stopped := false, false
		defer func() {
			if !ended {
				if e := call.Recovered(recover()); err == nil && !stopped { // the function went on after it was told to stop
					err = e
				}
			}
			s.settle(members, err)
		}()
		for step, e := range run(ctx, inputs(members)) {
			if e != nil {
				err = e
				break
			}
			if len(step) != len(members) {
				err = wrongLength(len(step), len(members))
				break
			}
			if !s.deliver(ctx, members, func(i int) Item[Out] { return part(step[i]) }) {
				stopped = true
				break
			}
		}
		ended = true
		if err == nil && ctx.Err() != nil {
			err = call.FromContext(ctx)
		}
	}
	return s, nil
}

// deliver sends each member its item of a step, which step returns by the member's place. It returns false if no member
// wants more.
func (s *Stream[In, Out]) deliver(ctx context.Context, members []*item[In, Out], step func(int) Item[Out]) bool {
	wanted := 0
	for i, m := range members {
		select {
		case <-m.done:
			continue
		default:
		}
		part := step(i)
		if part.End {
			s.mu.Lock()
			if !m.over {
				m.end(nil)
				s.memberLeft(m.batch, context.Canceled)
			}
			s.mu.Unlock()
			continue
		}
		wanted++
		if part.Skip {
			continue
		}
		select {
		case m.out <- part.Value:
		case <-m.gone:
		case <-ctx.Done():
			return false
		}
	}
	return wanted > 0
}

// Do returns the member's own items. The input joins a batch when the result is ranged over. An error is yielded
// once, as the last pair. A reader that breaks out of the loop, or whose ctx ends, drops out of the batch.
func (s *Stream[In, Out]) Do(ctx context.Context, in In) iter.Seq2[Out, error] {
	return func(yield func(Out, error) bool) {
		it := &item[In, Out]{ctx: ctx, in: in, done: make(chan struct{}), gone: make(chan struct{}), out: make(chan Out, ahead)}
		var none Out
		if err := s.add(it); err != nil {
			yield(none, err)
			return
		}
		defer func() {
			close(it.gone)
			s.leave(it, context.Canceled)
		}()
		for {
			select {
			case v := <-it.out:
				if !yield(v, nil) {
					return
				}
				continue
			case <-it.done:
			case <-ctx.Done():
				yield(none, call.FromContext(ctx))
				return
			}
			for { // read the items that came before the end
				select {
				case v := <-it.out:
					if !yield(v, nil) {
						return
					}
					continue
				default:
				}
				break
			}
			if it.err != nil {
				yield(none, it.err)
			}
			return
		}
	}
}
