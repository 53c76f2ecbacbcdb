package logs

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// Writer is a process, or a part of one, whose lines a [Ring] keeps. The node itself is the zero value. A Go worker has an App alone, because its lines may be
// those of any of its replicas.
type Writer struct{ App, Deployment, Replica string }

// Limits of a ring.
const (
	ringWriters = 4096    // writers, also of replicas that are gone
	lineBytes   = 64      // memory that a line costs beside its text
	detailBytes = 112     // memory that the ids, the logger and the attributes of a line cost beside their texts
	textMax     = 8 << 10 // bytes of the text of a record that are kept
)

// Ring keeps the newest lines of each writer, also of replicas that are gone, so that an operator can read the last words of a replica that was replaced.
// All lines together are bounded: when they are too many, the writers with the most lines lose their oldest ones. For example, a replica
// that prints without an end loses its own old lines, and not the traceback of another. A reader holds up no writer.
type Ring struct {
	mu      sync.Mutex
	writers map[Writer]*written
	groups  map[Writer]*group // by the writer without its replica
	bytes   int
	last    uint64        // the number of the newest line
	changed chan struct{} // closed by the next line; nil if no reader waits
	total   int
	group   int // as total, of one group
	each    int
}

// group is the writers of one deployment.
type group struct {
	writers map[Writer]*written
	bytes   int
}

func groupOf(from Writer) Writer {
	from.Replica = ""
	return from
}

// written are the lines of one writer that are kept, the oldest first.
type written struct {
	lines []kept
	bytes int
	of    *group
	gone  uint64 // lines that were dropped
}

// kept is one record. The numbers of the records of all writers are one row.
type kept struct {
	number uint64
	at     time.Time
	level  slog.Level
	text   string
	*detail
}

// detail is what most printed lines have not.
type detail struct {
	request, trace, stream, logger string
	attrs                          []Attr
}

func (k kept) cost() int {
	n := len(k.text) + lineBytes
	if d := k.detail; d != nil {
		n += detailBytes + len(d.request) + len(d.trace) + len(d.logger)
		for _, a := range d.attrs {
			n += detailBytes/2 + len(a.Key) + len(a.Value)
		}
	}
	return n
}

// Write adds a record, whose texts are safe on a terminal ([Clean]).
func (r *Ring) Write(rec *Record) {
	from, line := rec.From, kept{at: rec.Time, level: rec.Level, text: strings.Clone(rec.Text)}
	if len(line.text) > textMax {
		line.text = strings.ToValidUTF8(line.text[:textMax], "") + "..."
	}
	if rec.Request != "" || rec.Trace != "" || rec.Stream != "" || rec.Logger != "" || len(rec.Attrs) > 0 {
		line.detail = &detail{rec.Request, rec.Trace, rec.Stream, rec.Logger, rec.Attrs}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.writers[from]
	if w == nil {
		if len(r.writers) >= ringWriters {
			r.forget(r.writers)
		}
		g := r.groups[groupOf(from)]
		if g == nil {
			g = &group{writers: map[Writer]*written{}}
			r.groups[groupOf(from)] = g
		}
		w = &written{of: g}
		r.writers[from], g.writers[from] = w, w
	}
	r.last++
	line.number = r.last
	w.lines = append(w.lines, line)
	w.bytes += line.cost()
	w.of.bytes += line.cost()
	r.bytes += line.cost()
	if w.bytes > r.each {
		r.cut(w, r.each*3/4)
	}
	if w.of.bytes > r.group {
		r.share(w.of.writers, r.group)
		if w.of.bytes > r.group { // replicas that are gone have a line each
			for w.of.bytes > r.group*3/4 && len(w.of.writers) > 1 {
				r.forget(w.of.writers)
			}
		}
	}
	if r.bytes > r.total {
		r.share(r.writers, r.total)
		for r.bytes > r.total && len(r.writers) > 1 { // each writer has kept its newest line
			r.forget(r.writers)
		}
	}
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// share has the writers lose lines that have more than their share of a total. At least one is above it, and is cut so far below that this look at all of them is rare. mu is locked.
func (r *Ring) share(writers map[Writer]*written, total int) {
	share := total / len(writers)
	for _, w := range writers {
		if w.bytes > share {
			r.cut(w, share*3/4)
		}
	}
}

// cut drops the oldest lines of a writer until it has at most so many bytes. mu is locked.
func (r *Ring) cut(w *written, most int) {
	n := 0
	for n < len(w.lines)-1 && w.bytes > most {
		cost := w.lines[n].cost()
		w.bytes -= cost
		w.of.bytes -= cost
		r.bytes -= cost
		n++
	}
	w.gone += uint64(n)
	w.lines = slices.Clone(w.lines[n:]) // so that the texts before it are free
}

// forget drops that one of the writers whose newest line is the oldest. mu is locked.
func (r *Ring) forget(writers map[Writer]*written) {
	var oldest Writer
	least := r.last + 1
	for from, w := range writers {
		if n := w.lines[len(w.lines)-1].number; n < least {
			oldest, least = from, n
		}
	}
	w := r.writers[oldest]
	r.bytes -= w.bytes
	w.of.bytes -= w.bytes
	delete(r.writers, oldest)
	if delete(w.of.writers, oldest); len(w.of.writers) == 0 {
		delete(r.groups, groupOf(oldest))
	}
}

// Read gives the lines that a query chooses to yield, the oldest first, and, for a query that follows, those to come, until ctx ends. An error of yield ends it,
// and is its result; a query with a level that there is not is an error, too. missed is the number of lines before this one that the reader was too slow for. A nil line tells a reader that follows
// that there is no more for now.
func (r *Ring) Read(ctx context.Context, q helvetype.LogQuery, yield func(line *helvetype.LogLine, missed uint64) error) error {
	c, err := choose(q)
	if err != nil {
		return err
	}
	seen := map[Writer]uint64{} // lines of each writer that the reader has had, or has not wanted
	tail := q.Tail
	if tail == 0 {
		tail = -1 // all
	} else {
		tail = max(tail, 0)
	}
	for first := true; ; first = false {
		lines, missed, changed := r.since(c, seen, first, tail)
		for i := range lines {
			if err := yield(&lines[i], missed); err != nil {
				return err
			}
			missed = 0
		}
		if !q.Follow {
			return nil
		}
		if err := yield(nil, missed); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Has says whether lines of a writer that a query chooses are kept.
func (r *Ring) Has(q helvetype.LogQuery) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for from := range r.writers {
		if wants(q, from) {
			return true
		}
	}
	return false
}

// since are the lines that a query chooses and that the reader has not seen, and a channel that the next line closes. The first time, older lines than the
// newest tail lines are as if they were seen; -1 is for all.
func (r *Ring) since(c *choice, seen map[Writer]uint64, first bool, tail int) (lines []helvetype.LogLine, missed uint64, changed <-chan struct{}) {
	type numbered struct {
		kept
		from Writer
	}
	var found []numbered
	r.mu.Lock()
	for from, w := range r.writers {
		if !wants(c.LogQuery, from) {
			continue
		}
		before, known := seen[from]
		if known && before < w.gone {
			missed += w.gone - before
		}
		skip := 0
		if before > w.gone {
			skip = int(before - w.gone)
		}
		for _, line := range w.lines[min(skip, len(w.lines)):] {
			if c.wants(&line) {
				found = append(found, numbered{line, from})
			}
		}
		seen[from] = w.gone + uint64(len(w.lines))
	}
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	changed = r.changed
	r.mu.Unlock()
	slices.SortFunc(found, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	if first && tail >= 0 {
		found = found[max(len(found)-tail, 0):]
	}
	for _, f := range found {
		lines = append(lines, f.line(f.from))
	}
	return lines, missed, changed
}

// wants says whether a query chooses the lines of a writer. A query without names chooses all.
func wants(q helvetype.LogQuery, from Writer) bool {
	fits := func(want, is string) bool { return want == "" || want == is }
	return fits(q.App, from.App) && fits(q.Deployment, from.Deployment) && fits(q.Replica, from.Replica)
}
