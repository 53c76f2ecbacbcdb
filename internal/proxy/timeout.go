package proxy

import (
	"context"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/clients"
	"github.com/helve-serve/helve/internal/timed"
)

// timeoutHeader is the header by which a client shortens the time of its request, in seconds. For example, with a limit of 60 s the value
// "0.5" is half a second, and "90" is still 60 s.
const timeoutHeader = "X-Request-Timeout-Seconds"

// timeout is the time that a request may take; 0 for no limit.
func (p *Proxy) timeout(r *http.Request, route *served) (time.Duration, *call.Error) {
	limit := shorter(p.options.Load().RequestTimeout, route.timeout)
	values := r.Header[timeoutHeader]
	if len(values) == 0 {
		return limit, nil
	}
	s, err := strconv.ParseFloat(values[0], 64)
	if err != nil || len(values) > 1 || !(s > 0) || math.IsInf(s, 0) {
		return 0, call.NewError(helvetype.ReasonBadInput, timeoutHeader+" must be a number of seconds above 0")
	}
	if s > longest.Seconds() {
		return limit, nil
	}
	return shorter(limit, max(time.Duration(s*float64(time.Second)), 1)), nil
}

// longest is a time that is no limit.
const longest = 100 * 365 * 24 * time.Hour

// shorter is the shorter of two times, of which 0 is no limit.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// within answers a request that has a limit of time. Results and streams end with the context of their calls. A handler may ignore its context, so it
// has a goroutine of its own, and a [timed.Writer], which refuses late writes. Its slot is free when it returns.
func (p *Proxy) within(limit time.Duration, w http.ResponseWriter, r *http.Request, route *served, x *exchange, held *clients.Hold) {
	x.limit = limit
	if route.Handle == nil {
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		defer func() { x.answer.late = timed.Late(ctx) }()
		p.dispatch(w, r.WithContext(ctx), route, x, held)
		return
	}
	var ctx context.Context
	var cancel context.CancelFunc
	if len(r.Header["Upgrade"]) > 0 { // the limit is for the time until the connection is taken over
		of, end := context.WithCancelCause(r.Context())
		ctx, cancel = of, func() { end(context.DeadlineExceeded) }
	} else {
		ctx, cancel = context.WithTimeout(r.Context(), limit)
	}
	defer cancel()
	t, tw := timed.New(ctx, w)
	x.timed = t
	ended := make(chan any, 1)
	go func() {
		returned := false
		defer func() {
			v := recover()
			if v == nil && !returned { // the handler has ended its goroutine
				v = http.ErrAbortHandler
			}
			ended <- v
		}()
		own := r.Clone(ctx)     // because handlers change headers, which are read below
		own.Trailer = r.Trailer // the server fills it at the end of the body
		p.handle(tw, own, &route.Route, x)
		returned = true
	}()
	e := call.FromCause(context.DeadlineExceeded)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case v := <-ended:
		if x.answer.late = timed.Late(ctx); x.answer.late && t.Discard() {
			p.fail(w, expired(r), x, e)
			return
		}
		t.Finish(v)
		return
	case <-timer.C:
	}
	if _, limited := ctx.Deadline(); limited {
		<-ctx.Done() // the same moment: the handler must not see a plain cancellation
	}
	x.answer.late = true
	if t.Discard() {
		defer t.Own()()
		x.abandoned = true
		cancel()
		w.Header()["Connection"] = connectionClose // the handler may be reading the body
		p.fail(w, expired(r), x, e)
		return
	}
	timer.Reset(timeToEnd)
	select {
	case v := <-ended:
		t.Finish(v)
		return
	case <-timer.C:
	}
	if !t.Cut() { // the connection was taken over
		t.Finish(<-ended)
		return
	}
	x.abandoned = true
	if info := x.info(); info != nil {
		e = e.At(info)
	}
	x.failure.Store(e)
	p.logFailure(r, slog.LevelError, "handler failed", &x.call, e)
	panic(http.ErrAbortHandler)
}

// timeToEnd is the time that a handler has to return after its request's time, if its answer has begun. The answer is cut off in any case: the wait
// is for the end of its writes and its line in the log.
const timeToEnd = 50 * time.Millisecond

// expired is a request whose time is over, for the text of its answer.
func expired(r *http.Request) *http.Request {
	ctx, cancel := context.WithDeadline(r.Context(), time.Unix(0, 0))
	cancel()
	return r.WithContext(ctx)
}

// limitBody ends the read of a body when the time of its request is over, until stop is called.
func limitBody(w http.ResponseWriter, r *http.Request) (stop func() bool) {
	if _, limited := r.Context().Deadline(); !limited || r.ContentLength == 0 {
		return func() bool { return true }
	}
	rc := http.NewResponseController(w)
	return context.AfterFunc(r.Context(), func() { rc.SetReadDeadline(clients.Expired) }) //nolint:errcheck // the read tells
}
