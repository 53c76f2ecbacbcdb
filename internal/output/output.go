// Package output takes what workers print, and the reports of Python workers about themselves. A line goes to the log of the node, or behind
// the name of its worker to the Output of the node, and to the file of the worker. For example, the line "loaded" of the replica D#1 is
// "(D#1) loaded" in the Output.
package output

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/logs"
)

// Sink is the place to which the output of all workers of a node goes. Its methods may be called from any goroutine.
type Sink struct {
	log *slog.Logger
	out io.Writer  // nil: lines go to the log
	dir *logs.Dir  // nil for no files
	mu  sync.Mutex // one line of out at a time

	ring *logs.Ring
}

// NewSink makes a sink: out may be nil, for the log, dir may be nil, for no files, and ring, which gets each line, may be nil.
func NewSink(log *slog.Logger, out io.Writer, dir *logs.Dir, ring *logs.Ring) *Sink {
	if ring == nil {
		ring = logs.NewRing()
	}
	return &Sink{log: logs.Beside(log), out: out, dir: dir, ring: ring}
}

// Source is the worker whose output is taken.
type Source struct {
	Name                string // in front of its lines
	App, Worker         string
	Deployment, Replica string // "" for a Go worker, whose lines may be any replica's
	// Unresponsive is told that the worker reports of itself that it has not answered since then, with the stacks of its threads, and
	// Responsive that it answers again.
	Unresponsive func(since time.Time, stacks string)
	Responsive   func()
}

// Output takes the lines and reports of one worker. Each stream of lines has a goroutine of its own; only the goroutine of the reports
// touches stacks.
type Output struct {
	sink   *Sink
	from   Source
	attrs  []any
	file   *logs.File // nil without a log directory
	stdout *logs.Levels
	stderr *logs.Levels
	stacks []byte // being told
}

const (
	// StacksMax is the largest number of bytes of stacks that a worker may report at once.
	StacksMax       = 1 << 20
	unresponsiveMax = 24 * time.Hour // the longest time that a worker may report
)

// Open begins to take the output of a worker, and opens its file. Close it.
func (s *Sink) Open(from Source) *Output {
	o := &Output{sink: s, from: from, stdout: logs.NewLevels("stdout"), stderr: logs.NewLevels("stderr")}
	o.attrs = []any{"app", from.App, "worker", from.Worker}
	group, id := logs.Name("worker", from.App), from.Worker[strings.LastIndexByte(from.Worker, '-')+1:]
	if from.Replica != "" {
		o.attrs = append(o.attrs, "deployment", from.Deployment, "replica", from.Replica)
		group, id = logs.Name("replica", from.App, from.Deployment), strings.TrimPrefix(from.Replica, from.Deployment+"#")
	}
	if s.dir != nil {
		o.file = s.dir.File(group, id)
	}
	return o
}

// Close closes the file of the worker.
func (o *Output) Close() {
	if o.file != nil {
		o.file.Close()
	}
}

// Line takes a line that the worker has printed to a stream: stdout or stderr.
func (o *Output) Line(stream string, text []byte) {
	levels := o.stdout
	if stream == "stderr" {
		levels = o.stderr
	}
	o.put(levels.Of(text), stream, text)
}

// Report takes "KIND rest" (docs/control.md): a record of the worker's logging, or the steps of being unresponsive. It comes on a
// descriptor of its own: lines that the worker's code prints, with any text of a client in them, are never taken for reports.
func (o *Output) Report(text []byte) {
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
		if len(o.stacks)+len(rest) < StacksMax {
			o.stacks = append(append(o.stacks, rest...), '\n')
		}
	case "unresponsive":
		s, _ := strconv.ParseFloat(string(rest), 64)
		if !(s > 0) { // or is no number
			s = 0
		}
		since := time.Now().Add(-time.Duration(min(s, unresponsiveMax.Seconds()) * float64(time.Second)))
		o.from.Unresponsive(since, string(o.stacks))
		o.stacks = nil
	case "responsive":
		o.from.Responsive()
	}
}

func (o *Output) put(level slog.Level, stream string, text []byte) {
	if o.file != nil {
		o.file.Write(time.Now(), level, stream, text)
	}
	s := o.sink
	prefix := fmt.Appendf(nil, "(%s) ", o.from.Name)
	line := append(logs.Clean(prefix, text, true), '\n')
	s.ring.Write(logs.Writer{App: o.from.App, Deployment: o.from.Deployment, Replica: o.from.Replica}, time.Now(), line[len(prefix):len(line)-1])
	if s.out == nil {
		s.log.Log(context.Background(), level, string(text), slices.Concat(o.attrs, []any{"stream", stream})...)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Write(line) //nolint:errcheck // there is no place to say so
}
