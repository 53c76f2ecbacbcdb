// Package output takes what workers print, and the reports of Python workers about themselves. A line goes to the log of the node, or behind
// the name of its worker to the Output of the node, to the file of the worker, and to the newest lines of the node. For example, the line "loaded" of
// the replica D#1 is "(D#1) loaded" in the Output, and "(D#1 r-1) loaded" if it was printed for the request r-1.
package output

import (
	"bytes"
	"cmp"
	"context"
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
	out io.Writer  // nil: lines go to the log; a logs.RecordWriter gets records
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
	// Hide takes secrets out of the text of a report. May be nil.
	Hide func(text []byte) []byte
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

	repeats  *logs.Repeats
	printing sync.Mutex // of stdout and stderr, for the lines of a pipe and those that are reported
}

const (
	// StacksMax is the largest number of bytes of stacks that a worker may report at once.
	StacksMax       = 1 << 20
	unresponsiveMax = 24 * time.Hour // the longest time that a worker may report
)

// Open begins to take the output of a worker, and opens its file. Close it.
func (s *Sink) Open(from Source) *Output {
	o := &Output{sink: s, from: from, stdout: logs.NewLevels("stdout"), stderr: logs.NewLevels("stderr")}
	o.repeats = logs.NewRepeats(func(rec *logs.Record) { o.write(rec, "") })
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
	o.put(&logs.Record{Time: time.Now(), Level: o.printed(stream, string(text)), From: o.writer(), Stream: stream, Text: string(text)}, "")
}

func (o *Output) levels(stream string) *logs.Levels {
	if stream == "stderr" {
		return o.stderr
	}
	return o.stdout
}

func (o *Output) writer() logs.Writer {
	return logs.Writer{App: o.from.App, Deployment: o.from.Deployment, Replica: o.from.Replica}
}

// Report takes "KIND rest" (docs/control.md): a record of the worker's logging or text that it has printed, or the steps of being unresponsive. It comes on a
// descriptor of its own: lines that the worker's code prints, with any text of a client in them, are never taken for reports.
//
// The result is the text of a record that the worker has printed to stderr, nil for other reports.
func (o *Output) Report(text []byte) (stderr []byte) {
	kind, rest, _ := bytes.Cut(text, []byte(" "))
	if string(kind) != "record" { // the texts of a record are hidden one by one: JSON has them with escapes
		rest = []byte(o.hidden(string(rest)))
	}
	switch string(kind) {
	case "record":
		if rec, text, ok := o.record(rest); ok {
			o.put(rec, text)
			if rec.Stream == "stderr" {
				return []byte(rec.Text)
			}
		}
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
	return nil
}

func (o *Output) hidden(text string) string {
	if o.from.Hide == nil {
		return text
	}
	return string(o.from.Hide([]byte(text)))
}

// put writes a record, unless the same one came too often just before. formatted is its text as the program wants it shown; "" for none.
func (o *Output) put(raw *logs.Record, formatted string) {
	if o.repeats.Pass(raw) {
		o.write(raw, formatted)
	}
}

// write writes a record to all places.
func (o *Output) write(raw *logs.Record, formatted string) {
	rec, text := raw.Cleaned(), logs.Shown(raw, formatted)
	o.sink.ring.Write(rec)
	stream := cmp.Or(rec.Stream, "log")
	if o.file != nil {
		request := ""
		if rec.Request != "" && !strings.Contains(formatted, rec.Request) {
			request = "request_id=" + rec.Request + " "
		}
		for line := range strings.SplitSeq(text, "\n") {
			o.file.Write(rec.Time, rec.Level, stream, []byte(request+line))
		}
	}
	s := o.sink
	if s.out == nil {
		attrs := slices.Concat(o.attrs, []any{"stream", stream})
		of := [][2]string{{"request_id", rec.Request}, {"trace_id", rec.Trace}}
		if o.from.Replica == "" { // a Go worker has several replicas, and its record says of which it is
			of = append(of, [2]string{"deployment", rec.From.Deployment}, [2]string{"replica", rec.From.Replica})
		}
		for _, a := range of {
			if a[1] != "" {
				attrs = append(attrs, a[0], a[1])
			}
		}
		if formatted == "" && rec.Stream == "" { // the logger of the node shows the level
			text = logs.WithAttrs(rec.Text, rec.Attrs)
		}
		s.log.Log(context.Background(), rec.Level, text, attrs...)
		return
	}
	if w, ok := s.out.(logs.RecordWriter); ok {
		w.Record(rec)
		return
	}
	name := o.from.Name
	if o.from.Replica == "" && rec.From.Replica != "" {
		name = rec.From.Replica
	}
	lines := logs.Lines(name, raw, formatted)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Write(lines) //nolint:errcheck // there is no place to say so
}
