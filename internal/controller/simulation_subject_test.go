package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/spec"
)

// subject is a fake user's instance.
type subject struct {
	sim  *simulation
	name string
	max  int
	made time.Time

	mu       sync.Mutex
	running  int // methods that hold a slot
	closes   int
	closedAt time.Time
	sick     int // the way in which its checks fail, 0 for not
	config   int64
}

// construct is the constructor.
func (s *simulation) construct(ctx context.Context, name string, o spec.Effective, broken bool) (any, error) {
	fate, takes := 100, time.Duration(0)
	if !s.calm.Load() {
		fate, takes = s.draw(100), time.Duration(s.draw(1000))*time.Millisecond
	}
	if broken {
		fate %= 25
	}
	i := &subject{sim: s, name: name, max: o.MaxOngoingRequests}
	switch {
	case fate < 8:
		wait(ctx, takes)
		return nil, errors.New("the constructor failed")
	case fate < 12:
		panic("the constructor panicked")
	case fate < 16:
		runtime.Goexit()
	case fate < 21:
		<-ctx.Done()
		return nil, context.Cause(ctx)
	case fate < 25:
		var none *subject
		return none, nil
	case fate < 30: // the constructor ignores its context
		time.Sleep(10 * takes)
	case fate < 33:
		i.sick = 1 + s.draw(4)
	default:
		wait(ctx, takes)
	}
	i.made = time.Now()
	s.mu.Lock()
	s.subjects = append(s.subjects, i)
	s.mu.Unlock()
	return i, nil
}

// wait waits for d or the end of ctx, and says whether it was d.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func (i *subject) ill() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.sick
}

func (i *subject) holds() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return strconv.FormatInt(i.config, 10)
}

func (i *subject) CheckHealth(ctx context.Context) error {
	switch i.ill() {
	case 1:
		return errors.New("sick")
	case 2:
		panic("sick")
	case 3:
		runtime.Goexit()
	case 4:
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (i *subject) Close(ctx context.Context) error {
	i.mu.Lock()
	i.closes++
	i.closedAt = time.Now()
	if i.closes > 1 {
		i.sim.wrong("an instance of %s was closed %d times", i.name, i.closes)
	}
	i.mu.Unlock()
	if i.sim.calm.Load() {
		return nil
	}
	switch i.sim.draw(8) {
	case 0:
		return errors.New("not closed well")
	case 1:
		panic("not closed well")
	case 2:
		wait(ctx, time.Second)
	case 3:
		<-ctx.Done()
	}
	return nil
}

func configure(ctx context.Context, recv any, config json.RawMessage) error {
	i := recv.(*subject)
	fate := 100
	if !i.sim.calm.Load() {
		fate = i.sim.draw(100)
	}
	switch {
	case fate < 5:
		return errors.New("the config is not liked")
	case fate < 8:
		panic("the config is not liked")
	case fate < 30:
		wait(ctx, time.Duration(fate)*10*time.Millisecond)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return json.Unmarshal(config, &i.config)
}

// ending is the way in which a method ends.
type ending int

const (
	returns ending = iota
	fails
	panics
	exits
)

// simCall is one call: the course of its method, and its sink.
type simCall struct {
	sim     *simulation
	id      int
	how     string
	slot    bool // the call holds a slot of its replica
	inline  bool // its method runs on the caller's goroutine, which may be kept beyond the deadline
	takes   time.Duration
	ignores bool // its context
	ends    ending
	call    call.Call

	mu         sync.Mutex
	stop       func()
	runs       int
	answers    int
	answeredAt time.Time
	failure    *call.Error
}

// work is the method.
func work(ctx context.Context, recv, in any) (any, error) {
	i, c := recv.(*subject), in.(*simCall)
	c.entered(i)
	if c.slot {
		i.mu.Lock()
		i.running++
		if i.running > i.max {
			i.sim.wrong("%d methods hold a slot of a replica of %s, which has %d", i.running, i.name, i.max)
		}
		i.mu.Unlock()
		defer func() {
			i.mu.Lock()
			i.running--
			i.mu.Unlock()
		}()
	}
	if c.ignores {
		time.Sleep(c.takes)
	} else if !wait(ctx, c.takes) {
		return nil, ctx.Err()
	}
	switch c.ends {
	case fails:
		return nil, errors.New("the method failed")
	case panics:
		panic("the method panicked")
	case exits:
		runtime.Goexit()
	}
	return c.id, nil
}

// flow is the method that streams: the result of work, in steps.
func flow(ctx context.Context, recv, in any) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		v, err := work(ctx, recv, in)
		for i := 0; err == nil && i < v.(int)%4; i++ {
			if !yield(i, nil) {
				return
			}
		}
		if err != nil {
			yield(0, err)
		}
	}
}

// Item takes an item of a stream; some callers want no more.
func (c *simCall) Item(context.Context, call.Payload) bool { return c.id%5 > 0 }

// Frame is for streams that come over a wire.
func (c *simCall) Frame(*call.Batch, call.Source, []byte) { c.sim.wrong("%s: a frame", c) }

// entered checks the rules of entering user code. Time stands while any goroutine can run, so an event that must come first has come
// at an earlier instant or at this one.
func (c *simCall) entered(i *subject) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runs++; c.runs > 1 {
		c.sim.wrong("%s: it runs %d times", c, c.runs)
	}
	if c.answers > 0 && c.answeredAt.Before(now) {
		c.sim.wrong("%s: it begins %s after its caller was told %v", c, now.Sub(c.answeredAt), c.failure)
	}
	if d := c.call.Deadline; !d.IsZero() && !now.Before(d) && (!c.inline || now.After(d)) { // the end of its context may be on its way
		c.sim.wrong("%s: it begins %s after its deadline", c, now.Sub(d))
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closes > 0 && i.closedAt.Before(now) {
		c.sim.wrong("%s: it begins %s after its instance was closed", c, now.Sub(i.closedAt))
	}
	if c.sim.closed.Load() {
		c.sim.wrong("%s: it begins after the node has closed", c)
	}
}

func (c *simCall) String() string {
	return fmt.Sprintf("call %d of %s by %s", c.id, c.call.Info.Deployment, c.how)
}

// Complete is told the end of the call.
func (c *simCall) Complete(_ *call.Batch, r call.Result) {
	now := time.Now()
	c.mu.Lock()
	if c.answers++; c.answers > 1 {
		c.sim.wrong("%s: answer %d: %v after %v", c, c.answers, r.Err, c.failure)
	}
	c.answeredAt, c.failure = now, r.Err
	if d := c.call.Deadline; !d.IsZero() && now.After(d) && !c.inline {
		c.sim.wrong("%s: it is answered %s after its deadline", c, now.Sub(d))
	}
	switch {
	case r.Err == nil && (c.runs != 1 || c.ends != returns || c.call.Items == nil && r.Value != c.id):
		c.sim.wrong("%s: it gives %v although it ran %d times and ends so: %d", c, r.Value, c.runs, c.ends)
	case r.Err != nil && r.Err.Reason == helvetype.ReasonBackpressure && c.runs > 0:
		c.sim.wrong("%s: %v, but it ran", c, r.Err)
	}
	stop := c.stop
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
}
