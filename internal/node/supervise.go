package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/worker"
)

// outlet takes what a worker prints, to the log or the node's Output and to the worker's file, and what a Python worker tells
// about itself. Each stream has a goroutine of its own; only that of what is told touches stacks.
type outlet struct {
	node   *Node
	worker *workerProc
	name   string // what Output shows
	python bool
	attrs  []any
	file   *logs.File // nil without a log directory
	out    *logs.Levels
	err    *logs.Levels
	stacks []byte // being told
}

const (
	stacksMax       = 1 << 20        // of the text that a worker tells
	unresponsiveMax = 24 * time.Hour // what a worker may say that it has been unresponsive for
)

// newOutlet opens the worker's file. deployment and replica are "" for a Go worker, whose lines may be any replica's.
func (n *Node) newOutlet(w *workerProc, name, deployment, replica string) *outlet {
	o := &outlet{node: n, worker: w, name: name, python: replica != "", out: logs.NewLevels("stdout"), err: logs.NewLevels("stderr")}
	o.attrs = []any{"app", w.app.name, "worker", w.id}
	group, id := logs.Name("worker", w.app.name), strings.TrimPrefix(w.id, w.app.name+"-")
	if replica != "" {
		o.attrs = append(o.attrs, "deployment", deployment, "replica", replica)
		group, id = logs.Name("replica", w.app.name, deployment), strings.TrimPrefix(replica, deployment+"#")
	}
	if n.set.Logs != nil {
		o.file = n.set.Logs.File(group, id)
	}
	return o
}

func (o *outlet) close() {
	if o.file != nil {
		o.file.Close()
	}
}

// command sets where what a worker prints and tells goes.
func (o *outlet) command(c worker.Command) worker.Command {
	c.Output, c.Crash = o.line, !o.python
	if o.python {
		c.Report = o.told
	}
	return c
}

func (o *outlet) line(stream string, text []byte) {
	levels := o.out
	if stream == "stderr" {
		levels = o.err
	}
	o.put(levels.Of(text), stream, text)
}

// told takes "KIND rest" (docs/wire.md): a record of the worker's logging, or the steps of being unresponsive. It comes on a
// descriptor of its own: what the worker's code prints, with whatever a client has sent, is never taken for that.
func (o *outlet) told(text []byte) {
	kind, rest, _ := bytes.Cut(text, []byte(" "))
	switch string(kind) {
	case "log":
		name, record, _ := bytes.Cut(rest, []byte(" "))
		level, ok := logs.Named(string(name))
		if !ok { // a level of the user's own
			level = slog.LevelInfo
		}
		o.put(level, "log", record)
	case "stack":
		if len(o.stacks)+len(rest) < stacksMax {
			o.stacks = append(append(o.stacks, rest...), '\n')
		}
	case "unresponsive":
		s, _ := strconv.ParseFloat(string(rest), 64)
		if !(s > 0) { // or is no number
			s = 0
		}
		since := time.Now().Add(-time.Duration(min(s, unresponsiveMax.Seconds()) * float64(time.Second)))
		o.node.unresponsive(o.worker, since, string(o.stacks), true)
		o.stacks = nil
	case "responsive":
		o.node.responsive(o.worker, time.Now())
	}
}

func (o *outlet) put(level slog.Level, stream string, text []byte) {
	if o.file != nil {
		o.file.Write(time.Now(), level, stream, text)
	}
	n := o.node
	if n.set.Output == nil {
		n.log.Log(context.Background(), level, string(text), slices.Concat(o.attrs, []any{"stream", stream})...)
		return
	}
	line := append(logs.Clean(fmt.Appendf(nil, "(%s) ", o.name), text, true), '\n')
	n.printing.Lock()
	defer n.printing.Unlock()
	n.set.Output.Write(line) //nolint:errcheck // there is no place to say so
}

// limited says how a worker's limits hold, and once per node that CPU time is not limited.
func (n *Node) limited(w *workerProc, l worker.Limits) {
	if l == (worker.Limits{}) {
		return
	}
	e := w.proc.Enforcement()
	n.log.Info("limits of a worker", "app", w.app.name, "worker", w.id, "limits", l.String(),
		"memory_by", e.Memory, "cpus_by", e.CPUs)
	if l.CPUs > 0 && e.CPUs == "" && !n.cpusTold.Swap(true) {
		n.log.Warn("num_cpus is not enforced on this machine, which takes a cgroup v2", "reason", e.Why)
	}
}

// stuck is a worker that does not answer.
type stuck struct {
	since  time.Time
	found  time.Time
	stacks string
	own    bool        // the worker told so itself
	timer  *time.Timer // kills it; nil for never
}

// unresponsive notes that a worker does not answer. own says that it told so itself, with the stacks of its threads.
func (n *Node) unresponsive(w *workerProc, since time.Time, stacks string, own bool) {
	n.mu.Lock()
	units := n.servingLocked(w)
	s := w.stuck
	if len(units) == 0 || s != nil && (s.own || !own) {
		n.mu.Unlock()
		return
	}
	if s == nil {
		s = &stuck{since: since}
		w.stuck = s
		var limit time.Duration
		for _, u := range units {
			if m := u.options.MaxUnresponsive; m > 0 && (limit == 0 || m < limit) {
				limit = m
			}
		}
		if limit > 0 {
			s.timer = time.AfterFunc(limit-time.Since(since), func() { n.expire(w, s, limit) })
		}
	}
	s.found, s.stacks, s.own = time.Now(), stacks, own
	n.mu.Unlock()
	n.log.Warn("worker is unresponsive", append(w.attrs(units), "since", since, "stacks", stacks)...)
}

func (w *workerProc) attrs(units []*Unit) []any {
	attrs := []any{"app", w.app.name, "worker", w.id, "pid", w.proc.PID()}
	if len(units) == 1 {
		attrs = append(attrs, "deployment", units[0].dep.name, "replica", units[0].id)
	}
	return attrs
}

// responsive notes that a worker answered what it was asked at a time. That says nothing about what it told after that.
func (n *Node) responsive(w *workerProc, asked time.Time) {
	n.mu.Lock()
	s := w.stuck
	if s == nil || s.own && s.found.After(asked) {
		n.mu.Unlock()
		return
	}
	w.stuck = nil
	if s.timer != nil {
		s.timer.Stop()
	}
	units := n.servingLocked(w)
	n.mu.Unlock()
	n.log.Info("worker answers again", append(w.attrs(units), "after", time.Since(s.since).Round(time.Millisecond))...)
}

// expire kills a worker that has been unresponsive for too long.
func (n *Node) expire(w *workerProc, s *stuck, limit time.Duration) {
	n.mu.Lock()
	late := w.stuck == s
	if late {
		w.doom = fmt.Sprintf("unresponsive for %s (max_unresponsive_s)", limit)
	}
	n.mu.Unlock()
	if late {
		w.proc.Kill()
	}
}

// servingLocked are the replicas of a worker that are in service. A constructor may block the worker as long as it likes.
func (n *Node) servingLocked(w *workerProc) []*Unit {
	units := slices.DeleteFunc(w.unitsLocked(), func(u *Unit) bool { return u.state != helvetype.ReplicaRunning })
	slices.SortFunc(units, func(a, b *Unit) int { return strings.Compare(a.id, b.id) })
	return units
}

// ping asks a worker for a sign of life until it ends, one question at a time. It finds what a worker cannot tell itself:
// that it was stopped, is starved, or that native code keeps a lock that all its threads need. A question is cheaper than
// watching the traffic, and answers what is asked: whether it takes up new work.
func (w *workerProc) ping() {
	n := w.node
	timer := time.NewTimer(w.after)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-w.stopped:
			return
		}
		n.mu.Lock()
		serving := len(n.servingLocked(w)) > 0
		n.mu.Unlock()
		timer.Reset(w.after)
		if !serving {
			continue
		}
		asked := time.Now()
		answered := make(chan struct{})
		n.wg.Go(func() {
			defer close(answered)
			for {
				err := w.sign(n.ctx)
				if e, ok := errors.AsType[*call.Error](err); !ok || e.Remote { // the worker's error is an answer
					return
				}
				select { // it does not even read
				case <-time.After(w.after):
				case <-w.stopped:
					return
				case <-n.ctx.Done():
					return
				}
			}
		})
		select {
		case <-answered:
		case <-w.stopped:
			return
		case <-timer.C:
			n.unresponsive(w, asked, processState(w.proc.PID()), false)
			select {
			case <-answered:
			case <-w.stopped:
				return
			}
			timer.Reset(w.after)
		}
		n.responsive(w, asked)
	}
}

// sign asks the worker for a sign of life. A Go worker gives one that is of use: should it die, what it has counted until now
// is known.
func (w *workerProc) sign(ctx context.Context) error {
	if w.graph != nil {
		return w.node.askCounts(ctx, w)
	}
	_, err := protocol.Ask(ctx, w.peer, protocol.Ping{})
	return err
}

// processState is what the kernel says about a process that cannot speak for itself.
func processState(pid int) string {
	var b strings.Builder
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "State:") || strings.HasPrefix(line, "Threads:") {
			b.WriteString(strings.Replace(line, "\t", " ", 1))
		}
	}
	if wchan, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid)); err == nil && len(wchan) > 0 && string(wchan) != "0" {
		fmt.Fprintf(&b, "Waits in: %s\n", wchan)
	}
	if stack, err := os.ReadFile(fmt.Sprintf("/proc/%d/stack", pid)); err == nil { // root only
		b.Write(stack)
	}
	return b.String()
}

// endedError says that a worker's process has ended.
type endedError struct {
	text  string
	exit  worker.Exit
	begun bool // it had begun to start a replica
}

func (e *endedError) Error() string { return e.text + ": " + e.exit.Reason() }

// lineage is what a replica inherits from those before it in its place.
type lineage struct {
	restarts int
	exit     *helvetype.Exit // of the last
}

func exitOf(u *Unit, e worker.Exit, doom string) *helvetype.Exit {
	x := &helvetype.Exit{
		Replica: u.id, Reason: e.Summary(), Code: e.Code, Signal: e.SignalName(), OutOfMemory: e.OutOfMemory, At: e.At,
		Lines: e.Lines,
	}
	if doom != "" {
		x.Reason = doom + ": " + x.Reason
	}
	return x
}

// vacateLocked leaves the replica's place to the next that starts of its revision. Those of other revisions are not in its place:
// for example, what is known of a build that did not start is no restart of the next one.
func (u *Unit) vacateLocked(exit *helvetype.Exit) {
	e := u.edition
	e.lastExit = exit
	e.vacant = append(e.vacant, lineage{u.before.restarts + 1, exit})
	if extra := len(e.vacant) - e.options.NumReplicas; extra > 0 {
		e.vacant = e.vacant[extra:]
	}
}

func (e *edition) inheritLocked() (l lineage) {
	if len(e.vacant) > 0 {
		l, e.vacant = e.vacant[0], e.vacant[1:]
	}
	return l
}
