package worker

import (
	"context"
	"time"
)

// InProcess is a Process without an operating system process. The function run does the work of a child on a goroutine
// of this process; it ends when it returns, and its ctx ends at [Process.Kill]. It has no process id, no output
// except for the error of run, and no limits. It is for tests of the wire whose code cannot leave their process.
func InProcess(run func(ctx context.Context) error) *Process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Process{done: make(chan struct{}), cancel: cancel}
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
