package spare

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// process is a process that starts and ends as the test says.
type process struct {
	n     int
	ended chan struct{}
}

func (p *process) Ended() <-chan struct{} { return p.ended }
func (p *process) End()                   { close(p.ended) }

// starter starts processes, a second each.
type starter struct {
	started, cancelled int
	err                error
	all                []*process
}

func (s *starter) start(ctx context.Context) (*process, error) {
	s.started++
	n := s.started
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		s.cancelled++
		return nil, ctx.Err()
	}
	if s.err != nil {
		return nil, s.err
	}
	p := &process{n, make(chan struct{})}
	s.all = append(s.all, p)
	return p, nil
}

func (s *starter) alive() (n int) {
	for _, p := range s.all {
		if !ended(p) {
			n++
		}
	}
	return n
}

// TestSpare: one process for an environment, which a start takes, also while it comes up; another comes when it is asked for.
func TestSpare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p Pool[*process]
		var s starter
		if _, ok := p.Take(t.Context(), "env"); ok {
			t.Error("a spare of nothing")
		}
		p.Want("A", "env", s.start)
		p.Want("B", "env", s.start)
		begun := time.Now()
		got, ok := p.Take(t.Context(), "env")
		if !ok || got.n != 1 || time.Since(begun) != time.Second {
			t.Error(got, ok, time.Since(begun))
		}
		if _, ok := p.Take(t.Context(), "env"); ok {
			t.Error("taken twice")
		}
		p.Fill("env")
		p.Fill("env")
		time.Sleep(time.Minute)
		synctest.Wait()
		if s.started != 2 {
			t.Error(s.started, "starts")
		}
		if got, ok := p.Take(t.Context(), "env"); !ok || got.n != 2 {
			t.Error(got, ok)
		}
		p.Fill("env")
		time.Sleep(time.Minute)
		synctest.Wait()
		p.Keep([]string{"B"}) // still wanted
		if s.alive() != 3 {
			t.Error(s.alive(), "are alive")
		}
		p.Want("B", "other", s.start)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !ended(s.all[2]) || s.started != 4 {
			t.Error("the spare of an environment that is not wanted any more is there", s.started)
		}
		p.Close()
		if s.alive() != 2 { // those that were taken
			t.Error(s.alive(), "are alive")
		}
		p.Want("A", "env", s.start)
		if _, ok := p.Take(t.Context(), "env"); ok || s.started != 4 {
			t.Error("a spare after the end")
		}
	})
}

// TestLateClaim: the environment of an older claim, which is known late, takes the place of no newer one, and brings nothing back that is not wanted any more.
func TestLateClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p Pool[*process]
		var s starter
		defer p.Close()
		first := p.Claim("A")
		p.Want("A", "new", s.start)
		first("old", s.start)
		if _, ok := p.Take(t.Context(), "old"); ok {
			t.Error("a spare of the environment before", s.started)
		}
		if _, ok := p.Take(t.Context(), "new"); !ok {
			t.Error("no spare of the present environment")
		}
		late := p.Claim("B")
		p.Keep([]string{"A"})
		if late("other", s.start); s.started != 1 {
			t.Error("a spare of a deployment that is gone")
		}
	})
}

// TestSpareFails: a spare that does not start, or has ended, is none.
func TestSpareFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p Pool[*process]
		s := starter{err: errors.New("no memory")}
		p.Want("A", "env", s.start)
		if _, ok := p.Take(t.Context(), "env"); ok {
			t.Error("a spare that has not started")
		}
		s.err = nil
		p.Fill("env")
		time.Sleep(time.Minute)
		synctest.Wait()
		s.all[0].End()
		if _, ok := p.Take(t.Context(), "env"); ok {
			t.Error("a spare that has ended")
		}
		p.Fill("env")
		time.Sleep(time.Minute)
		synctest.Wait()
		s.all[1].End()
		p.Fill("env")
		time.Sleep(time.Minute)
		synctest.Wait()
		if got, ok := p.Take(t.Context(), "env"); !ok || got.n != 4 {
			t.Error(got, ok)
		}
		p.Fill("env")
		p.Keep(nil)
		p.Close()
		if s.cancelled != 1 {
			t.Error(s.cancelled, "starts were given up")
		}
	})
}
