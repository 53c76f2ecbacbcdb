package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
)

const (
	// Period is the shortest time from one question to the next.
	Period = 250 * time.Millisecond
	// The time until the next question after a failure: the first one, doubled with each failure in a row up to the second.
	firstBackOff   = time.Second
	longestBackOff = 30 * time.Second
)

// Settings are the arguments of [Hold].
type Settings struct {
	// Limit is the time that an answer is awaited; 0 for a policy that keeps a limit itself, as those of a [Process] do.
	Limit time.Duration
	// Changed is called after each answer and each failure, on a goroutine of its own. May be nil.
	Changed func()
}

// Held asks a policy, one question at a time, and holds its last answer. A policy that fails or is late changes no number: its last answer holds, and Failure says so. Its methods
// may be called from any goroutine, and none of them waits for the policy.
//
// For example, a policy has answered 3, and its next question takes 12 s with a limit of 10 s: for 10 s the deployment has 3 replicas because no other answer is
// there, after that it has 3 replicas and a failure, and a second later the policy is asked again.
type Held struct {
	policy Policy
	set    Settings
	ctx    context.Context
	stop   context.CancelCauseFunc

	mu       sync.Mutex
	closed   bool
	asking   bool
	next     time.Time // of the next question, at the earliest
	answers  map[string]Answer
	answered time.Time
	took     time.Duration
	failure  *Failure
}

// Failure is the failure of a policy whose last question, or last questions, had no answer.
type Failure struct {
	Err error
	// Since is the time of the first failure in a row, and Row their number.
	Since time.Time
	Row   int
}

// Hold makes the holder of a policy, which asks nothing yet.
func Hold(p Policy, s Settings) *Held {
	ctx, stop := context.WithCancelCause(context.Background())
	return &Held{policy: p, set: s, ctx: ctx, stop: stop, answers: map[string]Answer{}}
}

// Close ends the question that is under way. A function in Go that does not look at its context goes on, and its answer counts for nothing.
func (h *Held) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.stop(errClosed)
}

// Offer asks the policy, unless a question is under way, the last one is too recent, or a failure has just been. views is called only for a question, before Offer returns.
// Offer says when it can be called again with effect; the zero time while a question is under way: Settings.Changed is called at its end.
func (h *Held) Offer(now time.Time, views func() []View) (again time.Time) {
	h.mu.Lock()
	if h.closed || h.asking || now.Before(h.next) {
		defer h.mu.Unlock()
		if h.asking || h.closed {
			return time.Time{}
		}
		return h.next
	}
	h.asking, h.next = true, now.Add(Period)
	h.mu.Unlock()
	of := views()
	go h.ask(now, of)
	return time.Time{}
}

func (h *Held) ask(begun time.Time, views []View) {
	ctx := h.ctx
	if limit := h.set.Limit; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("it has not answered within %s", limit))
		defer cancel()
	}
	type outcome struct {
		answers map[string]Answer
		err     error
	}
	done := make(chan outcome, 1)
	go func() {
		answers, err := h.policy.Ask(ctx, views)
		done <- outcome{answers, err}
	}()
	select {
	case got := <-done:
		if got.err != nil && ctx.Err() != nil { // the error of its own context says less
			got.err = context.Cause(ctx)
		}
		h.note(begun, got.answers, got.err)
	case <-ctx.Done():
		h.note(begun, nil, context.Cause(ctx))
		<-done // one question at a time: the function may go on
	}
	h.mu.Lock()
	h.asking = false
	closed := h.closed
	h.mu.Unlock()
	if h.set.Changed != nil && !closed {
		h.set.Changed()
	}
}

// note takes the outcome of a question.
func (h *Held) note(begun time.Time, answers map[string]Answer, err error) {
	if errors.Is(err, errClosed) {
		return
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.took = now.Sub(begun)
	if err == nil {
		maps.Copy(h.answers, answers)
		h.answered, h.failure = now, nil
		return
	}
	f := Failure{Err: err, Since: now, Row: 1}
	if h.failure != nil {
		f.Since, f.Row = h.failure.Since, h.failure.Row+1
	}
	h.failure = &f
	backOff := firstBackOff << min(f.Row-1, 10)
	h.next = now.Add(min(backOff, longestBackOff))
}

// Last is the last answer for a deployment; false before the first.
func (h *Held) Last(deployment string) (a Answer, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a, ok = h.answers[deployment]
	return a, ok
}

// Failure is the failure that holds up answers; nil while the last question had one, and before the first.
func (h *Held) Failure() *Failure {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failure
}

// Took is the time of the last question, and the time of the last answer; zero before the first.
func (h *Held) Took() (took time.Duration, answered time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.took, h.answered
}
