package host

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/worker"
)

// output takes the lines that a worker prints, to the log or the node's Output and to the worker's file, and the reports of a Python
// worker about itself. Each stream has a goroutine of its own; only the goroutine of the reports touches stacks.
type output struct {
	workers *Workers
	worker  *Worker
	name    string // shown in Output
	python  bool
	attrs   []any
	file    *logs.File // nil without a log directory
	out     *logs.Levels
	err     *logs.Levels
	stacks  []byte // being told
}

const (
	stacksMax       = 1 << 20        // of the text that a worker tells
	unresponsiveMax = 24 * time.Hour // the longest time that a worker may report
)

// newOutput opens the worker's file. deployment and replica are "" for a Go worker, whose lines may be any replica's.
func (ws *Workers) newOutput(w *Worker, name, deployment, replica string) *output {
	o := &output{workers: ws, worker: w, name: name, python: replica != "", out: logs.NewLevels("stdout"), err: logs.NewLevels("stderr")}
	o.attrs = []any{"app", w.app.name, "worker", w.id}
	group, id := logs.Name("worker", w.app.name), w.id[strings.LastIndexByte(w.id, '-')+1:]
	if replica != "" {
		o.attrs = append(o.attrs, "deployment", deployment, "replica", replica)
		group, id = logs.Name("replica", w.app.name, deployment), strings.TrimPrefix(replica, deployment+"#")
	}
	if ws.set.Logs != nil {
		o.file = ws.set.Logs.File(group, id)
	}
	return o
}

func (o *output) close() {
	if o.file != nil {
		o.file.Close()
	}
}

// command sets the destinations of a worker's lines and reports.
func (o *output) command(c worker.Command) worker.Command {
	c.Output, c.Crash = o.line, !o.python
	if o.python {
		c.Report = o.report
	}
	return c
}

func (o *output) line(stream string, text []byte) {
	levels := o.out
	if stream == "stderr" {
		levels = o.err
	}
	o.put(levels.Of(text), stream, text)
}

// report takes "KIND rest" (docs/wire.md): a record of the worker's logging, or the steps of being unresponsive. It comes on a
// descriptor of its own: lines that the worker's code prints, with any text of a client in them, are never taken for reports.
func (o *output) report(text []byte) {
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
		o.workers.unresponsive(o.worker, since, string(o.stacks), true)
		o.stacks = nil
	case "responsive":
		o.workers.responsive(o.worker, time.Now())
	}
}

func (o *output) put(level slog.Level, stream string, text []byte) {
	if o.file != nil {
		o.file.Write(time.Now(), level, stream, text)
	}
	ws := o.workers
	if ws.set.Output == nil {
		ws.log.Log(context.Background(), level, string(text), slices.Concat(o.attrs, []any{"stream", stream})...)
		return
	}
	line := append(logs.Clean(fmt.Appendf(nil, "(%s) ", o.name), text, true), '\n')
	ws.printing.Lock()
	defer ws.printing.Unlock()
	ws.set.Output.Write(line) //nolint:errcheck // there is no place to say so
}

// logLimits says how a worker's limits hold, and once per node that CPU time is not limited.
func (ws *Workers) logLimits(w *Worker, l worker.Limits) {
	if l == (worker.Limits{}) {
		return
	}
	e := w.proc.Enforcement()
	ws.log.Info("limits of a worker", "app", w.app.name, "worker", w.id, "limits", l.String(),
		"memory_by", e.Memory, "cpus_by", e.CPUs)
	if l.CPUs > 0 && e.CPUs == "" && !ws.cpusReported.Swap(true) {
		ws.log.Warn("num_cpus is not enforced on this machine, which takes a cgroup v2", "reason", e.Why)
	}
}
