package worker

import (
	"context"
	"time"
)

// Inside is a Process that is none: run does on a goroutine of this process what a child would do, until it returns or, as
// its ctx says, is killed. It has no process id, no output but the error of run, and no limits. For tests of what crosses
// the wire, whose code cannot leave their process.
func Inside(run func(ctx context.Context) error) *Process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Process{done: make(chan struct{}), inside: cancel}
	go func() {
		defer cancel()
		err := run(ctx)
		p.exit.Killed, p.exit.At = p.killed.Load(), time.Now()
		if err != nil {
			p.exit.Code, p.exit.Lines = 1, []string{err.Error()}
		}
		close(p.done)
	}()
	return p
}
