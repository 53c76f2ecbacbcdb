package access

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/logs"
)

// KeptBytes is how much of an access log is kept in memory, beside the writer that has all of it: the newest 10,000 to 20,000 lines.
const KeptBytes = 2 << 20

// Kept keeps the newest lines of an access log, for operators who look for a request. It takes the batches of a [Log] as they are, and reads them when a query asks: a line costs its copy.
// The zero Kept is ready. Its methods may be called from any goroutine.
type Kept struct {
	mu      sync.Mutex
	batches []batch
	bytes   int
	lines   uint64        // that were written, also those that were dropped
	at      time.Time     // of the newest batch
	changed chan struct{} // closed by the next batch; nil if no reader waits
}

// batch is lines that were written together.
type batch struct {
	text []byte
	from uint64 // the number of its first line
}

// Write keeps a copy of whole lines. It never fails.
func (k *Kept) Write(lines []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.batches, k.bytes = append(k.batches, batch{bytes.Clone(lines), k.lines}), k.bytes+len(lines)
	k.lines += uint64(bytes.Count(lines, []byte("\n")))
	k.at = time.Now()
	for k.bytes > KeptBytes && len(k.batches) > 1 {
		k.bytes -= len(k.batches[0].text)
		k.batches[0].text = nil
		k.batches = k.batches[1:]
	}
	if k.changed != nil {
		close(k.changed)
		k.changed = nil
	}
	return len(lines), nil
}

// settle returns when the lines of requests that have ended are here. Lines wait in a [Log] only if others were written in the interval before: for example, an operator asks for a request that ended
// 20 ms ago, 50 ms after another one, and gets its line after 30 ms more.
func (k *Kept) settle(ctx context.Context) {
	const writing = 10 * time.Millisecond // from the end of the interval to the batch
	_, _, _, changed := k.since(0)
	k.mu.Lock()
	left := interval + writing - time.Since(k.at)
	k.mu.Unlock()
	if left <= 0 {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// since are the batches from the line of a number on, the number of the next line, and a channel that this one closes. missed is how many lines were dropped meanwhile.
func (k *Kept) since(from uint64) (batches []batch, missed, next uint64, changed <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.changed == nil {
		k.changed = make(chan struct{})
	}
	first, _ := slices.BinarySearchFunc(k.batches, from, func(b batch, from uint64) int { return cmp.Compare(b.from, from) })
	batches = slices.Clone(k.batches[first:])
	if len(batches) > 0 {
		missed = batches[0].from - from
	}
	return batches, missed, k.lines, k.changed
}

// Read gives the lines that a query chooses to yield, as [logs.Ring.Read] does. A line is a record of the logger "access", with the level WARN for a status of 500 or more, else INFO.
// The lines that a slow reader has missed are counted before its query chooses: they are gone.
func (k *Kept) Read(ctx context.Context, q helvetype.LogQuery, yield func(line *helvetype.LogLine, missed uint64) error) error {
	if !q.Follow {
		k.settle(ctx)
	}
	part := q
	part.Follow = false
	for from, first := uint64(0), true; ; first = false {
		batches, missed, next, changed := k.since(from)
		if first {
			missed = 0 // lines that were dropped before the reader came
		}
		ring := logs.NewRingOf(logs.Budgets{Node: 1 << 40, Deployment: 1 << 40}) // the lines are bounded here
		for _, b := range batches {
			for line := range bytes.Lines(b.text) {
				ring.Write(record(bytes.TrimSuffix(line, []byte("\n"))))
			}
		}
		err := ring.Read(ctx, part, func(line *helvetype.LogLine, _ uint64) error {
			defer func() { missed = 0 }()
			return yield(line, missed)
		})
		if err != nil || !q.Follow {
			return err
		}
		if err := yield(nil, missed); err != nil {
			return err
		}
		from, part.Tail = next, 0
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// statusFailed is the first status of HTTP that is a failure of the server.
const statusFailed = 500

// record is a line of JSON or text as a record.
func record(line []byte) *logs.Record {
	l := parsed(line)
	rec := &logs.Record{Time: l.Begun, Level: slog.LevelInfo, From: logs.Writer{App: l.App, Replica: l.Replica}, Request: l.Request, Logger: "access", Text: string(line)}
	if at := strings.LastIndexByte(l.Replica, '#'); at >= 0 {
		rec.From.Deployment = l.Replica[:at]
	}
	if l.Status >= statusFailed {
		rec.Level = slog.LevelWarn
	}
	if l.Status != 0 {
		rec.Text = l.Method + " " + l.Route + " " + strconv.Itoa(l.Status) + " " + l.Took.String()
		rec.Attrs = []logs.Attr{{Key: "bytes", Value: strconv.FormatInt(l.Bytes, 10)}, {Key: "client", Value: l.Client}}
	}
	return rec.Cleaned()
}

// parsed reads a line. The id of a request may have spaces in it; one of the fields before or behind it that has some, such as a route, leaves the status 0.
func parsed(line []byte) (l Line) {
	if bytes.HasPrefix(line, []byte("{")) {
		var v struct {
			Time     time.Time `json:"time"`
			Client   string    `json:"client"`
			Method   string    `json:"method"`
			Route    string    `json:"route"`
			Status   int       `json:"status"`
			Duration float64   `json:"duration_ms"`
			Request  string    `json:"request_id"`
			Bytes    int64     `json:"bytes"`
			App      string    `json:"app"`
			Replica  string    `json:"replica"`
		}
		if json.Unmarshal(line, &v) != nil {
			return l
		}
		took := time.Duration(v.Duration * float64(time.Millisecond)).Round(time.Microsecond)
		return Line{v.Time, took, v.Client, v.Method, v.Route, v.Status, v.Request, v.Bytes, v.App, v.Replica}
	}
	const before, behind = 6, 3 // the fields before the id of the request, and those behind it
	f := strings.Split(string(line), " ")
	if len(f) <= before+behind {
		return l
	}
	end := f[len(f)-behind:]
	at, err1 := time.Parse(time.RFC3339, f[0])
	status, err2 := strconv.Atoi(f[4])
	took, err3 := time.ParseDuration(f[5])
	size, err4 := strconv.ParseInt(end[0], 10, 64)
	l.Begun = at
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
		return l
	}
	text := func(s string) string {
		if s == "-" {
			return ""
		}
		return s
	}
	return Line{at, took, f[1], f[2], f[3], status, text(strings.Join(f[before:len(f)-behind], " ")), size, text(end[1]), text(end[2])}
}
