package helve

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/trace"
)

// Filler puts the result of another call into one field of an input; [Fill] makes it. It is sealed.
type Filler[In any] interface {
	// whenEnded runs f when the result is there or has failed, on the goroutine that ends the call.
	whenEnded(f func())
	// encoded says, after the end, that the result has to be read, which is not for a goroutine of whenEnded.
	encoded() bool
	// failed is why there is no result, after the end.
	failed() *call.Error
	// apart is the result where it lies somewhere else, and the type of the field that it is for; false for others.
	apart() (field reflect.Type, p call.Payload, ok bool)
	// place gives the place of the field in the input.
	place(in *In) (from, to uintptr, failure *call.Error)
	// write writes the result, which is there, at its place.
	write(in *In, at uintptr) *call.Error
}

type filler[In, F any] struct {
	field func(*In) *F
	from  *Response[F]
}

// Fill says that the field of the input to which field points gets the result of from:
//
//	vote.RemoteWith(ctx, VoteIn{Rule: "mean"}, helve.Fill(func(in *VoteIn) *float64 { return &in.A }, a))
//
// field must return the address of a field of its argument and do nothing else: the place of the field names the argument
// for replicas in other processes.
func Fill[In, F any](field func(in *In) *F, from *Response[F]) Filler[In] {
	return filler[In, F]{field, from}
}

func (f filler[In, F]) whenEnded(then func()) { f.from.r.WhenEnded(then) }

func (f filler[In, F]) encoded() bool { return f.from.r.Encoded() }

func (f filler[In, F]) failed() *call.Error {
	if e := f.from.r.Failure(); e != nil { // the call has ended; Result would also read, and perhaps fetch, the value, which is not needed yet
		return f.from.b.Restore(e)
	}
	return nil
}

func (f filler[In, F]) apart() (field reflect.Type, p call.Payload, ok bool) {
	p, ok = f.from.r.Apart()
	return reflect.TypeFor[F](), p, ok
}

func (f filler[In, F]) place(in *In) (from, to uintptr, failure *call.Error) {
	defer func() {
		if v := recover(); v != nil { // a pointer on the way to the field is nil
			failure = call.NewError(helvetype.ReasonBadInput, fmt.Sprintf("Fill: the function panicked: %v", v))
		}
	}()
	p := f.field(in)
	from = uintptr(unsafe.Pointer(p)) - uintptr(unsafe.Pointer(in))
	to = from + unsafe.Sizeof(*p)
	if p == nil || to < from || to > unsafe.Sizeof(*in) {
		return 0, 0, call.NewError(helvetype.ReasonBadInput, fmt.Sprintf("Fill: the function must return the address of a field of its %T", in))
	}
	return from, to, nil
}

func (f filler[In, F]) write(in *In, at uintptr) *call.Error {
	v, err := f.from.Result(context.Background())
	if err != nil {
		return call.AsError(err)
	}
	*(*F)(unsafe.Add(unsafe.Pointer(in), at)) = v // place has seen that an F is there
	return nil
}

// span is where in the input a field is.
type span struct{ from, to uintptr }

// places are where fills write.
func places[In any](in *In, fills []Filler[In]) ([]span, *call.Error) {
	all := make([]span, 0, len(fills))
	for _, f := range fills {
		from, to, e := f.place(in)
		for _, s := range all {
			if e == nil && from < s.to && s.from < to {
				e = call.NewError(helvetype.ReasonBadInput, "Fill: two responses for one field")
			}
		}
		if e != nil {
			return nil, e
		}
		all = append(all, span{from, to})
	}
	return all, nil
}

// RemoteWith is [Method.Remote] with results of other calls in some fields of the input, without waiting for those: the call
// begins when all are there, and counts as queued from then on. If one fails its error is this call's, as it is, at once.
// in is copied. The functions of [Fill] run before RemoteWith returns, on the caller's goroutine.
func (m Method[In, Out]) RemoteWith(ctx context.Context, in In, fills ...Filler[In]) *Response[Out] {
	r, ok := m.prepare(ctx)
	if !ok {
		return &r.Response
	}
	r.in = in
	if len(fills) == 0 {
		r.Begin()
		r.Watch()
		return &r.Response
	}
	at, e := places(&in, fills)
	if e != nil {
		r.Fail(e.At(&r.Info))
		return &r.Response
	}
	r.Watch()
	since, traces := call.Now(), graph.Traces(ctx)
	left := new(atomic.Int64)
	left.Store(int64(len(fills)))
	for _, f := range fills {
		f.whenEnded(func() {
			// Each looks for its own failure only, so that a call fails with the first and without waiting for the rest.
			if e := f.failed(); e != nil {
				r.Fail(e)
			}
			switch {
			case left.Add(-1) > 0 || !r.Wanted():
			case slices.ContainsFunc(fills, Filler[In].encoded): // whichever of them ended last
				trace.Filled(traces, &r.Info, since)
				go r.beginFilled(fills, at)
			default:
				trace.Filled(traces, &r.Info, since)
				r.beginFilled(fills, at)
			}
		})
	}
	return &r.Response
}

// beginFilled begins the call, whose input has all fields but the fills.
func (r *remote[In, Out]) beginFilled(fills []Filler[In], at []span) {
	fill := func() *call.Error {
		for i, f := range fills {
			if e := f.write(&r.in, at[i].from); e != nil {
				return e
			}
		}
		return nil
	}
	if slots, ok := fieldSlots(r.in, fills, at); ok {
		r.BeginApart(slots, fill)
	} else if e := fill(); e != nil {
		r.Fail(e)
	} else {
		r.BeginLater()
	}
}
