package output

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestOutput: a line goes behind the name of its worker to the Output, and a report to the owner of the worker.
func TestOutput(t *testing.T) {
	t.Parallel()
	var printed bytes.Buffer
	var told []string
	o := NewSink(slog.New(slog.DiscardHandler), &printed, nil, nil).Open(Source{
		Name: "D#1", App: "app", Worker: "app-1", Deployment: "D", Replica: "D#1",
		Unresponsive: func(since time.Time, stacks string) { told = append(told, "unresponsive: "+stacks) },
		Responsive:   func() { told = append(told, "responsive") },
	})
	defer o.Close()
	o.Line("stdout", []byte("loaded"))
	o.Line("stderr", []byte("unresponsive 2"))
	o.Report([]byte(`record {"level":"INFO","message":"a record","text":"INFO a record"}`))
	o.Report([]byte(`record {"stream":"stdout","request_id":"r-1","message":"two\nlines"}`))
	o.Report([]byte(`record {"level":"WARNING","request_id":"r-1","message":"odd","attributes":{"n":"3","who":"a b"}}`))
	o.Report([]byte(`record {"level":"WARNING`))
	o.Report([]byte("stack in f"))
	o.Report([]byte("unresponsive 2"))
	o.Report([]byte("responsive"))
	if want := "(D#1) loaded\n(D#1) unresponsive 2\n(D#1) INFO a record\n(D#1 r-1) two\n(D#1 r-1) lines\n" +
		"(D#1 r-1) WARN odd n=3 who=\"a b\"\n"; printed.String() != want {
		t.Errorf("printed %q, want %q", printed.String(), want)
	}
	if got, want := strings.Join(told, "; "), "unresponsive: in f\n; responsive"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

// TestRepeatedLines: a worker that prints the same line without an end does not fill the Output, which has how many lines were left out.
func TestRepeatedLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var printed bytes.Buffer
		o := NewSink(slog.New(slog.DiscardHandler), &printed, nil, nil).Open(Source{Name: "D#1", App: "app", Worker: "app-1", Deployment: "D", Replica: "D#1"})
		defer o.Close()
		for range 1000 {
			o.Line("stderr", []byte("retry"))
		}
		o.Line("stderr", []byte("gave up"))
		time.Sleep(time.Second)
		synctest.Wait()
		got := printed.String()
		if n := strings.Count(got, "(D#1) retry\n"); n != 100 || !strings.Contains(got, "(D#1) gave up\n") || !strings.HasSuffix(got, "(D#1) WARN the line \"retry\" came 1000 times within 1s, and 900 of them were left out\n") {
			t.Errorf("%d lines, and the end is %q", n, got[max(len(got)-200, 0):])
		}
	})
}

// TestStacksAreDropped: a worker that reports stacks without an end makes the node keep a bounded part of them.
func TestStacksAreDropped(t *testing.T) {
	t.Parallel()
	o := NewSink(slog.New(slog.DiscardHandler), nil, nil, nil).Open(Source{App: "app", Worker: "app-1", Replica: "D#1", Deployment: "D"})
	defer o.Close()
	for range 1000 {
		o.Report([]byte("stack " + strings.Repeat("x", 4<<10)))
	}
	if len(o.stacks) > StacksMax {
		t.Errorf("%d bytes", len(o.stacks))
	}
}

// TestOutputIsText: a line that a worker prints is shown as one line of text, behind the name of the worker.
func TestOutputIsText(t *testing.T) {
	t.Parallel()
	var shown bytes.Buffer
	o := NewSink(slog.New(slog.DiscardHandler), &shown, nil, nil).Open(Source{Name: "D#1", App: "app", Worker: "app-1", Replica: "D#1", Deployment: "D"})
	defer o.Close()
	o.Line("stdout", []byte("a\r(node) forged\x1b[2K\xff \x1b[31mred"))
	if want := "(D#1) a\\r(node) forged\\x1b[2K\\xff \x1b[31mred\x1b[0m\n"; shown.String() != want {
		t.Errorf("%q", shown.String())
	}
}
