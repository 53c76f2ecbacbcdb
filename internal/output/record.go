package output

import (
	"encoding/json"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/internal/logs"
)

// Reported is a record as a worker reports it (docs/control.md): a line of JSON behind the word record.
type Reported struct {
	Time       float64           `json:"time,omitempty"`  // seconds since 1970; 0 for the time of arrival
	Level      string            `json:"level,omitempty"` // a name in capitals; "" for that which the text states, or is usual in the stream
	Deployment string            `json:"deployment,omitempty"`
	Replica    string            `json:"replica,omitempty"`
	Request    string            `json:"request_id,omitempty"`
	Trace      string            `json:"trace_id,omitempty"`
	Stream     string            `json:"stream,omitempty"` // stdout or stderr, "" for a record of a logger
	Logger     string            `json:"logger,omitempty"`
	Text       string            `json:"message"`
	Formatted  string            `json:"text,omitempty"` // the record as its program wants it shown; "" for the usual form
	Attributes map[string]string `json:"attributes,omitempty"`
}

// timeAhead is how far the clock of a worker may be ahead of the node's.
const timeAhead = time.Minute

// record reads a record, and its text as the program wants it shown. It is false for text that is none: a worker may be another program by mistake.
func (o *Output) record(text []byte) (*logs.Record, string, bool) {
	var in Reported
	if json.Unmarshal(text, &in) != nil {
		return nil, "", false
	}
	rec := &logs.Record{
		Time: time.Now(), From: o.writer(), Stream: in.Stream, Logger: in.Logger, Request: in.Request, Trace: in.Trace, Text: o.hidden(in.Text),
	}
	if at := time.UnixMicro(int64(in.Time * 1e6)); in.Time > 0 && in.Time < math.MaxInt32 && at.Before(rec.Time.Add(timeAhead)) {
		rec.Time = at
	}
	if o.from.Replica == "" { // a Go worker, which has several
		rec.From.Deployment, rec.From.Replica = in.Deployment, in.Replica
	}
	if in.Stream != "stdout" && in.Stream != "stderr" {
		rec.Stream = ""
	}
	if rec.Stream == "" {
		level, ok := logs.Named(in.Level)
		if !ok { // a level of the user's own
			level = slog.LevelInfo
		}
		rec.Level = level
	} else {
		rec.Level = o.printed(rec.Stream, rec.Text)
	}
	for name, value := range in.Attributes {
		rec.Attrs = append(rec.Attrs, logs.Attr{Key: name, Value: o.hidden(value)})
	}
	slices.SortFunc(rec.Attrs, func(a, b logs.Attr) int { return strings.Compare(a.Key, b.Key) })
	return rec, o.hidden(in.Formatted), true
}

// printed is the level of text that was printed at once: the highest of its lines.
func (o *Output) printed(stream, text string) slog.Level {
	o.printing.Lock()
	defer o.printing.Unlock()
	level := slog.LevelDebug
	for line := range strings.SplitSeq(text, "\n") {
		level = max(level, o.levels(stream).Of([]byte(line)))
	}
	return level
}
