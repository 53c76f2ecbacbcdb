package node

import (
	"context"
	"fmt"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/protocol"
)

// What a replica may take to start is watched by the node, and not only by the process that it starts in: that may be stopped, or be held
// up by the very code that takes too long. For example, a Python constructor that waits for a lock without await holds up the event
// loop and all its timers; the node ends the process half a second after construct_timeout_s.

const (
	// overdueTime is what a worker has, after construct_timeout_s, to say itself that a replica is late.
	overdueTime = 500 * time.Millisecond
	// helloTime bounds the time from spawn to the opened connection; imports of large libraries take most of it. A process has
	// minHelloTime for that, however short construct_timeout_s is.
	helloTime    = 5 * time.Minute
	minHelloTime = 10 * time.Second
	// slowTime is after how long it is said what a start waits for.
	slowTime = 10 * time.Second
)

// What starts wait for.
const (
	waitsForProcess     = "its worker process to connect"
	waitsForConstructor = "its constructor, Reconfigure and first health check"
	waitsForUses        = "the deployments that it uses"
)

// waiting notes what the start of a replica waits for, until done is called. A start that takes long is in the log, and the status
// has it.
func (n *Node) waiting(u *Unit, what string) (done func()) {
	since := time.Now()
	n.mu.Lock()
	u.waits, u.waitsSince = what, since
	n.mu.Unlock()
	slow := time.AfterFunc(slowTime, func() {
		n.mu.Lock()
		still := u.waits == what && u.waitsSince.Equal(since) && u.dep.units[u.id] == u
		w := u.worker
		n.mu.Unlock()
		if !still {
			return
		}
		attrs := []any{"app", u.dep.app.name, "deployment", u.dep.name, "replica", u.id, "waits_for", what, "after", slowTime}
		if w != nil && w.proc != nil {
			attrs = append(attrs, "pid", w.proc.PID())
		}
		n.log.Warn("replica is still starting", attrs...)
	})
	return func() {
		slow.Stop()
		n.mu.Lock()
		u.waits = ""
		n.mu.Unlock()
	}
}

// slowLocked says what the oldest start of a deployment waits for, if that has taken long.
func (d *Deployment) slowLocked() string {
	var oldest *Unit
	for _, u := range d.units {
		if u.state == helvetype.ReplicaStarting && u.waits != "" && (oldest == nil || u.waitsSince.Before(oldest.waitsSince)) {
			oldest = u
		}
	}
	if oldest == nil {
		return ""
	}
	took := time.Since(oldest.waitsSince)
	if took < slowTime {
		return ""
	}
	return fmt.Sprintf("replica %s has waited for %s for %s", oldest.id, oldest.waits, took.Truncate(time.Second))
}

// helloLimit is how long a process may take to connect whose replicas have a time limit for their starts.
func helloLimit(construct time.Duration) time.Duration {
	return min(helloTime, max(construct, minHelloTime))
}

// overdueError is a start that the node gave up.
type overdueError struct{ call *call.Error }

func (e *overdueError) Error() string { return e.call.Error() }
func (e *overdueError) Unwrap() error { return e.call }

// construct has a worker start a replica. If the worker says nothing in time the node ends its process, unless other replicas
// serve in it: then it is stuck for them too, which unresponsive_after_s and max_unresponsive_s are about.
func (n *Node) construct(w *workerProc, u *Unit, request protocol.StartReplica) (protocol.Started, error) {
	limit := u.options.ConstructTimeout
	type answer struct {
		started protocol.Started
		err     error
	}
	answered := make(chan answer, 1)
	n.wg.Go(func() {
		var a answer
		a.started, a.err = protocol.Ask(u.ctx, w.peer, request)
		answered <- a
	})
	overdue := time.NewTimer(limit + overdueTime)
	defer overdue.Stop()
	select {
	case a := <-answered: // also when u.ctx has ended
		return a.started, a.err
	case <-overdue.C:
	}
	e := *call.NewError(call.Deadline, fmt.Sprintf("it is not ready after construct_timeout_s (%s)", limit))
	n.mu.Lock()
	alone := len(n.servingLocked(w)) == 0
	n.mu.Unlock()
	if alone {
		w.ending.Store(true)
		w.proc.Kill()
		<-w.stopped
		e.Message += "; its process was ended: " + w.proc.Exit().Reason()
	} else {
		n.wg.Go(func() {
			if a := <-answered; a.err == nil { // nobody waits for the replica any more
				ctx, cancel := context.WithTimeout(n.ctx, closeTime)
				defer cancel()
				w.stopReplica(ctx, u.id) //nolint:errcheck // it ends with its worker at the latest
			}
		})
	}
	return protocol.Started{}, &overdueError{&e}
}
