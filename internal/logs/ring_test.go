package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
)

// linesOf are the lines of a query that does not follow, as "writer: text".
func linesOf(t *testing.T, r *Ring, q helvetype.LogQuery) []string {
	t.Helper()
	var got []string
	err := r.Read(t.Context(), q, func(l *helvetype.LogLine, missed uint64) error {
		got = append(got, l.App+"/"+l.Deployment+"/"+l.Replica+": "+WithAttrs(l.Text, attrsOf(l)))
		if missed != 0 {
			t.Errorf("%d lines are missed", missed)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func attrsOf(l *helvetype.LogLine) (attrs []Attr) {
	for _, k := range slices.Sorted(maps.Keys(l.Attributes)) {
		attrs = append(attrs, Attr{k, l.Attributes[k]})
	}
	return attrs
}

func write(r *Ring, from Writer, at time.Time, text []byte) {
	r.Write(&Record{Time: at, From: from, Text: string(text)})
}

// TestRing: a query chooses the lines of an application, a deployment or a replica, in the order in which they were written.
func TestRing(t *testing.T) {
	t.Parallel()
	r := NewRing()
	first, second, other := Writer{"a", "D", "D#1"}, Writer{"a", "D", "D#2"}, Writer{"b", "", ""}
	for i, from := range []Writer{first, second, {}, other, first} {
		write(r, from, time.Unix(int64(i), 0), fmt.Append(nil, "line ", i))
	}
	for name, x := range map[string]struct {
		query helvetype.LogQuery
		want  []string
	}{
		"all":               {helvetype.LogQuery{}, []string{"a/D/D#1: line 0", "a/D/D#2: line 1", "//: line 2", "b//: line 3", "a/D/D#1: line 4"}},
		"of an application": {helvetype.LogQuery{App: "a"}, []string{"a/D/D#1: line 0", "a/D/D#2: line 1", "a/D/D#1: line 4"}},
		"of a replica":      {helvetype.LogQuery{App: "a", Replica: "D#1"}, []string{"a/D/D#1: line 0", "a/D/D#1: line 4"}},
		"the newest":        {helvetype.LogQuery{Tail: 2}, []string{"b//: line 3", "a/D/D#1: line 4"}},
		"none":              {helvetype.LogQuery{Tail: -1}, nil},
		"of nothing":        {helvetype.LogQuery{App: "c"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(x.want, linesOf(t, r, x.query)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestRingFilters: a query chooses records by what they are about.
func TestRingFilters(t *testing.T) {
	t.Parallel()
	r, d := NewRing(), Writer{"a", "D", "D#1"}
	r.Write(&Record{Time: time.Unix(1, 0), Level: slog.LevelDebug, From: d, Text: "details"})
	r.Write(&Record{Time: time.Unix(2, 0), From: d, Request: "r-1", Text: "Loaded\nModel x"})
	r.Write(&Record{Time: time.Unix(3, 0), Level: slog.LevelError + 1, From: d, Request: "r-2", Text: "failed", Attrs: []Attr{{"model", "Y"}}})
	for name, x := range map[string]struct {
		query helvetype.LogQuery
		want  []string
	}{
		"of a request":      {helvetype.LogQuery{Request: "r-1"}, []string{"a/D/D#1: Loaded\nModel x"}},
		"of a level":        {helvetype.LogQuery{Level: "warning"}, []string{"a/D/D#1: failed model=Y"}},
		"since":             {helvetype.LogQuery{Since: time.Unix(3, 0)}, []string{"a/D/D#1: failed model=Y"}},
		"until":             {helvetype.LogQuery{Until: time.Unix(1, 0)}, []string{"a/D/D#1: details"}},
		"with a text":       {helvetype.LogQuery{Text: "model X"}, []string{"a/D/D#1: Loaded\nModel x"}},
		"with an attribute": {helvetype.LogQuery{Text: "y"}, []string{"a/D/D#1: failed model=Y"}},
		"the newest of all": {helvetype.LogQuery{Level: "INFO", Tail: 1}, []string{"a/D/D#1: failed model=Y"}},
		"of nothing":        {helvetype.LogQuery{Request: "r-1", Level: "ERROR"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(x.want, linesOf(t, r, x.query)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if err := r.Read(t.Context(), helvetype.LogQuery{Level: "loud"}, nil); err == nil || !strings.Contains(err.Error(), "loud") {
		t.Error(err)
	}
}

// TestRingIsBounded: a writer without an end loses its own oldest lines alone, and many writers share the room of all.
func TestRingIsBounded(t *testing.T) {
	t.Parallel()
	r := NewRing()
	r.each, r.total = 4<<10, 16<<10
	write(r, Writer{"quiet", "", ""}, time.Time{}, []byte("the last words"))
	text := []byte(strings.Repeat("x", 200))
	for range 1000 {
		write(r, Writer{"loud", "", ""}, time.Time{}, text)
	}
	if n := len(linesOf(t, r, helvetype.LogQuery{App: "loud"})); n < 5 || r.writers[Writer{"loud", "", ""}].bytes > r.each {
		t.Errorf("%d lines of the loud one, %d bytes", n, r.writers[Writer{"loud", "", ""}].bytes)
	}
	if diff := cmp.Diff([]string{"quiet//: the last words"}, linesOf(t, r, helvetype.LogQuery{App: "quiet"})); diff != "" {
		t.Error(diff)
	}
	for i := range 100 {
		for range 10 {
			write(r, Writer{fmt.Sprint(i), "", ""}, time.Time{}, text)
		}
	}
	sum := 0
	for _, w := range r.writers {
		sum += w.bytes
	}
	if sum != r.bytes || sum > r.total {
		t.Errorf("%d bytes, %d are counted, at most %d", sum, r.bytes, r.total)
	}
	r.total = ringTotal
	for i := range ringWriters + 10 {
		write(r, Writer{"many", "", fmt.Sprint(i)}, time.Time{}, []byte("x"))
	}
	if len(r.writers) > ringWriters {
		t.Errorf("%d writers", len(r.writers))
	}
	if len(linesOf(t, r, helvetype.LogQuery{App: "quiet"})) != 0 {
		t.Error("the oldest writer is still there")
	}
	write(r, Writer{}, time.Time{}, []byte(strings.Repeat("y", 2*textMax)))
	if got := linesOf(t, r, helvetype.LogQuery{Tail: 1})[0]; len(got) > textMax+10 || !strings.HasSuffix(got, "y...") {
		t.Errorf("%d bytes of a long line", len(got))
	}
}

// TestRingGroups: the replicas of a deployment share a part of the room, with replicas that are gone, and leave the lines of other deployments alone.
func TestRingGroups(t *testing.T) {
	t.Parallel()
	r := NewRing()
	r.each, r.group, r.total = 4<<10, 16<<10, 64<<10
	text := []byte(strings.Repeat("x", 200))
	quiet := Writer{"shop", "Quiet", "Quiet#1"}
	write(r, quiet, time.Time{}, []byte("the last words"))
	check := func(when string) {
		t.Helper()
		for of, g := range r.groups {
			sum := 0
			for from, w := range g.writers {
				sum += w.bytes
				if r.writers[from] != w {
					t.Errorf("%s: %v is not there any more", when, from)
				}
			}
			if sum != g.bytes || g.bytes > r.group {
				t.Errorf("%s: %v has %d bytes, %d of its writers, at most %d", when, of, g.bytes, sum, r.group)
			}
		}
		if diff := cmp.Diff([]string{"shop/Quiet/Quiet#1: the last words"}, linesOf(t, r, helvetype.LogQuery{Deployment: "Quiet"})); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	for i := range 10 {
		for range 20 {
			write(r, Writer{"shop", "Loud", fmt.Sprint("Loud#", i)}, time.Time{}, text)
		}
	}
	check("replicas that log much")
	for i := range 10 {
		if len(linesOf(t, r, helvetype.LogQuery{Replica: fmt.Sprint("Loud#", i)})) == 0 {
			t.Errorf("replica %d has no line", i)
		}
	}
	for i := range 1000 {
		write(r, Writer{"shop", "Loud", fmt.Sprint("Crashed#", i)}, time.Time{}, text)
	}
	check("replicas that crash")
	if len(linesOf(t, r, helvetype.LogQuery{Replica: "Crashed#999"})) != 1 || len(linesOf(t, r, helvetype.LogQuery{Replica: "Crashed#0"})) != 0 {
		t.Error("the newest replica has no line, or the oldest still has")
	}
}

// TestRingFollows: a reader that follows gets the lines to come, is told when it has all of them, and how many it was too slow for.
func TestRingFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := NewRing()
		r.each = 1 << 10
		from := Writer{"a", "", ""}
		write(r, from, time.Time{}, []byte("before"))
		var got []string
		end := errors.New("the reader has gone")
		ended := make(chan error, 1)
		go func() {
			ended <- r.Read(t.Context(), helvetype.LogQuery{App: "a", Follow: true, Tail: 1}, func(l *helvetype.LogLine, missed uint64) error {
				if l == nil {
					got = append(got, "all")
					return nil
				}
				if got = append(got, fmt.Sprintf("%s, %d missed", l.Text, missed)); l.Text == "last" {
					return end
				}
				return nil
			})
		}()
		synctest.Wait()
		write(r, from, time.Time{}, []byte("after"))
		synctest.Wait()
		write(r, Writer{"b", "", ""}, time.Time{}, []byte("another's"))
		synctest.Wait()
		want := []string{"before, 0 missed", "all", "after, 0 missed", "all", "all"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		write(r, from, time.Time{}, []byte("last"))
		if err := <-ended; !errors.Is(err, end) {
			t.Error(err)
		}
	})
}

// TestRingMisses: the lines that a slow reader has lost are counted.
func TestRingMisses(t *testing.T) {
	t.Parallel()
	r := NewRing()
	r.each = 1 << 10
	from := Writer{"a", "", ""}
	write(r, from, time.Time{}, []byte("0"))
	missed, lines, end := uint64(0), 0, errors.New("end")
	err := r.Read(t.Context(), helvetype.LogQuery{Follow: true}, func(l *helvetype.LogLine, m uint64) error {
		missed += m
		switch {
		case l == nil && lines == 1:
			for i := range 100 {
				write(r, from, time.Time{}, fmt.Append(nil, i+1))
			}
		case l == nil:
			return end
		default:
			lines++
		}
		return nil
	})
	if !errors.Is(err, end) || missed == 0 || missed+uint64(lines) != 101 {
		t.Errorf("%v, %d lines and %d missed, want 101", err, lines, missed)
	}
}

// TestRingReaderEnds: a reader that follows ends with its context.
func TestRingReaderEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	err := NewRing().Read(ctx, helvetype.LogQuery{Follow: true}, func(*helvetype.LogLine, uint64) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestKeep: records of the log are lines of the ring, those with a replica's attributes as that replica's, and values of several lines stay readable.
func TestKeep(t *testing.T) {
	t.Parallel()
	r := NewRing()
	var printed strings.Builder
	var level Level
	log := Keep(slog.New(slog.NewTextHandler(&printed, &slog.HandlerOptions{Level: slog.LevelWarn})), r, &level)
	log.Info("a node starts", "version", "1")
	log.With("app", "a", "deployment", "D").Warn("replica failed", "replica", "D#1", "error", "no model\nTraceback:\n  line\x1b[2K")
	log.Debug("details")
	log.WithGroup("g").Info("grouped", "k", "v")
	want := []string{
		`//: a node starts version=1`, "a/D/D#1: replica failed error=\"no model\"\n  Traceback:\n    line\\x1b[2K", "//: grouped g.k=v",
	}
	if diff := cmp.Diff(want, linesOf(t, r, helvetype.LogQuery{})); diff != "" {
		t.Error(diff)
	}
	if text := printed.String(); strings.Contains(text, "starts") || !strings.Contains(text, "replica failed") || !strings.Contains(text, "deployment=D") {
		t.Error(text)
	}
	level.Set(new(slog.LevelError))
	log.Warn("a warning that is not wanted")
	level.Set(new(slog.LevelDebug))
	log.Debug("details that are wanted")
	level.Set(nil)
	log.Info("an information that is not wanted")
	if text := printed.String(); strings.Contains(text, "not wanted") || !strings.Contains(text, "details that are wanted") {
		t.Error(text)
	}
	want = append(want, `//: a warning that is not wanted`, `//: an information that is not wanted`)
	if diff := cmp.Diff(want, linesOf(t, r, helvetype.LogQuery{})); diff != "" {
		t.Error(diff)
	}
	Beside(log).Warn("beside")
	if len(linesOf(t, r, helvetype.LogQuery{})) != len(want) || !strings.Contains(printed.String(), "beside") {
		t.Error("a line beside the ring is in it, or not in the log")
	}
	plain := slog.New(slog.NewTextHandler(io.Discard, nil))
	if Beside(plain) != plain {
		t.Error("another logger has changed")
	}
}

// TestKeepRepeats: of a record that the node writes again and again in a second 100 pass, in the ring and in the log, and a record has the number of the others. Records of other replicas and with
// other messages pass.
func TestKeepRepeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		ring := NewRing()
		log := Keep(slog.New(slog.NewTextHandler(&out, nil)), ring, nil)
		of := log.With("app", "shop", "deployment", "Ranker")
		for i := range 5000 {
			of.Warn("a probe failed", "replica", "Ranker#001", "number", i)
		}
		of.Warn("a probe failed", "replica", "Ranker#002")
		log.Warn("another")
		time.Sleep(time.Second)
		synctest.Wait()
		var texts []string
		err := ring.Read(t.Context(), helvetype.LogQuery{Level: "warn"}, func(l *helvetype.LogLine, _ uint64) error {
			texts = append(texts, l.Replica+" "+l.Text)
			return nil
		})
		const said = `the line \"a probe failed\" came 5000 times within 1s, and 4900 of them were left out`
		if n := len(texts); err != nil || n != 103 || texts[99] != "Ranker#001 a probe failed" || texts[100] != "Ranker#002 a probe failed" || texts[101] != " another" || texts[102] != "Ranker#001 "+strings.ReplaceAll(said, `\"`, `"`) {
			t.Errorf("%d records, the last ones %q, %v", n, texts[max(n-4, 0):], err)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if n := len(lines); n != 103 || !strings.Contains(lines[n-1], said) || !strings.Contains(lines[n-1], "app=shop deployment=Ranker replica=Ranker#001") {
			t.Errorf("%d lines, the last one %s", n, lines[n-1])
		}
	})
}
