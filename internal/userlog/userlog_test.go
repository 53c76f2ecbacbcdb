package userlog

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/output"
)

// TestReports: a record of slog is a report with the replica and the request of its context.
func TestReports(t *testing.T) {
	t.Parallel()
	var to bytes.Buffer
	log := slog.New(handler{put: reportTo(&to)})
	ctx := &call.Inline{Caller: t.Context(), Info: call.Info{Request: call.IDFrom("r-1"), Place: &call.Place{App: "shop", Deployment: "Ranker"}, Replica: "Ranker#1"}}
	log.With("model", "a").WithGroup("g").WarnContext(ctx, "loaded", "error", "one\ntwo")
	log.Info("no context")
	log.Debug("dropped")
	log.ErrorContext(ctx, strings.Repeat("\x01", 1<<20))
	var got []output.Reported
	for line := range strings.Lines(to.String()) {
		text, ok := strings.CutPrefix(line, "record ")
		var r output.Reported
		if err := json.Unmarshal([]byte(text), &r); err != nil || !ok || len(line) > 64<<10 {
			t.Fatalf("%.200q: %v", line, err)
		}
		r.Time = 0
		got = append(got, r)
	}
	if len(got) != 3 || got[2].Level != "ERROR" {
		t.Fatalf("%+v", got)
	}
	want := []output.Reported{
		{Level: "WARN", Deployment: "Ranker", Replica: "Ranker#1", Request: "r-1", Trace: traceOf("r-1"), Text: "loaded\n  two", Attributes: map[string]string{"model": "a", "g.error": "one"}},
		{Level: "INFO", Text: "no context"},
	}
	if diff := cmp.Diff(want, got[:2]); diff != "" {
		t.Error(diff)
	}
}

// traceOf is the trace id of a request without a trace of its client's, in hex.
func traceOf(request string) string {
	id := call.IDFrom(request).Trace()
	return hex.EncodeToString(id[:])
}

// TestToNode: a record in the process of a node goes to the lines of its replica.
func TestToNode(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	ring := logs.NewRing()
	kept := logs.Keep(slog.New(slog.NewTextHandler(&text, nil)), ring, nil)
	log := slog.New(handler{put: to(kept)})
	ctx := &call.Inline{Caller: t.Context(), Info: call.Info{Request: call.IDFrom("r-1"), Place: &call.Place{App: "shop", Deployment: "Ranker"}, Replica: "Ranker#1"}}
	log.InfoContext(ctx, "loaded", "model", "a")
	q, err := logs.Query(map[string][]string{"request": {"r-1"}, "replica": {"Ranker#1"}}, time.Now(), 10)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	if err := ring.Read(context.Background(), q, func(l *helvetype.LogLine, _ uint64) error {
		lines = append(lines, string(logs.Show(l, false)))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(lines) != 1 || !strings.HasSuffix(lines[0], " INFO  (shop/Ranker#1 r-1) loaded model=a\n") || !strings.Contains(text.String(), "loaded") {
		t.Errorf("%q %q", lines, text.String())
	}
}
