package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/worker"
)

// stuck is a worker that does not answer.
type stuck struct {
	since  time.Time
	found  time.Time
	stacks string
	own    bool        // the worker told so itself
	timer  *time.Timer // kills it; nil for never
}

// unresponsive notes that a worker does not answer. own says that it told so itself, with the stacks of its threads.
func (ws *Workers) unresponsive(w *Worker, since time.Time, stacks string, own bool) {
	ws.mu.Lock()
	replicas := w.servingLocked()
	s := w.stuck
	if len(replicas) == 0 && own && s == nil {
		w.constructing = &helvetype.Unresponsive{Since: since, Stacks: stacks}
	}
	if len(replicas) == 0 || s != nil && (s.own || !own) {
		ws.mu.Unlock()
		return
	}
	if s == nil {
		s = &stuck{since: since}
		w.stuck = s
		var limit time.Duration
		for _, r := range replicas {
			if m := r.options.Load().MaxUnresponsive; m > 0 && (limit == 0 || m < limit) {
				limit = m
			}
		}
		if limit > 0 {
			s.timer = time.AfterFunc(limit-time.Since(since), func() { ws.expire(w, s, limit) })
		}
	}
	s.found, s.stacks, s.own = time.Now(), stacks, own
	ws.mu.Unlock()
	ws.log.Warn("worker is unresponsive", append(w.attrs(replicas), "since", since, "stacks", stacks)...)
}

func (w *Worker) attrs(replicas []*workerReplica) []any {
	attrs := []any{"app", w.app.name, "worker", w.id, "pid", w.proc.PID()}
	if len(replicas) == 1 {
		attrs = append(attrs, "deployment", replicas[0].dep.Name, "replica", replicas[0].ID())
	}
	return attrs
}

// responsive notes that a worker answered a question that it was asked at a time. That says nothing about its later reports.
func (ws *Workers) responsive(w *Worker, asked time.Time) {
	ws.mu.Lock()
	w.constructing = nil
	s := w.stuck
	if s == nil || s.own && s.found.After(asked) {
		ws.mu.Unlock()
		return
	}
	w.stuck = nil
	if s.timer != nil {
		s.timer.Stop()
	}
	replicas := w.servingLocked()
	ws.mu.Unlock()
	ws.log.Info("worker answers again", append(w.attrs(replicas), "after", time.Since(s.since).Round(time.Millisecond))...)
}

// expire kills a worker that has been unresponsive for too long.
func (ws *Workers) expire(w *Worker, s *stuck, limit time.Duration) {
	ws.mu.Lock()
	late := w.stuck == s
	if late {
		w.killReason = fmt.Sprintf("unresponsive for %s (max_unresponsive_s)", limit)
	}
	ws.mu.Unlock()
	if late {
		w.proc.Kill()
	}
}

// ping asks a worker for a sign of life until it ends, one question at a time. It finds what a worker cannot tell itself:
// that it was stopped, is starved, or that native code keeps a lock that all its threads need. A question is cheaper than
// watching the traffic, and its answer shows that the worker takes up new work.
func (w *Worker) ping() {
	ws := w.workers
	timer := time.NewTimer(w.after)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-w.stopped:
			return
		}
		ws.mu.Lock()
		serving := len(w.servingLocked()) > 0
		ws.mu.Unlock()
		timer.Reset(w.after)
		if !serving {
			continue
		}
		asked := time.Now()
		answered := make(chan struct{})
		ws.wg.Go(func() {
			defer close(answered)
			for {
				err := w.sign(ws.ctx)
				if e, ok := errors.AsType[*call.Error](err); !ok || e.Remote { // the worker's error is an answer
					return
				}
				select { // the worker does not even read
				case <-time.After(w.after):
				case <-w.stopped:
					return
				case <-ws.ctx.Done():
					return
				}
			}
		})
		select {
		case <-answered:
		case <-w.stopped:
			return
		case <-timer.C:
			ws.unresponsive(w, asked, worker.ProcessState(w.proc.PID()), false)
			select {
			case <-answered:
			case <-w.stopped:
				return
			}
			timer.Reset(w.after)
		}
		ws.responsive(w, asked)
	}
}

// sign asks the worker for a sign of life.
func (w *Worker) sign(ctx context.Context) error {
	_, err := protocol.Ask(ctx, w.peer, protocol.Ping{})
	return err
}
