package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/logs"
)

// TestLogAsJSON: records of the node, of its replicas, and lines that were written at once are lines of JSON of one shape.
func TestLogAsJSON(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	out := &jsonOut{to: &b}
	log := slog.New(jsonLog{out: out, level: slog.LevelWarn}).With("app", "shop", "deployment", "Ranker")
	log.Info("below the level")
	log.Error("failed", "error", errors.New("no <model>\nTraceback:\n\x1b[2Kforged"), "n", 3)
	log.WithGroup("http").Warn("slow", "path", "/a")
	out.Record(&logs.Record{Level: slog.LevelInfo, From: logs.Writer{App: "shop", Deployment: "Ranker", Replica: "Ranker#1"}, Request: "r-1", Stream: "stdout", Text: "loading"})
	fmt.Fprintf(out, "two\nlines\n")
	var got []helvetype.LogLine
	for line := range strings.Lines(b.String()) {
		var l helvetype.LogLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		got = append(got, l)
	}
	want := []helvetype.LogLine{
		{Level: "ERROR", App: "shop", Deployment: "Ranker", Text: "failed\n  Traceback:\n  \\x1b[2Kforged", Attributes: map[string]string{"error": "no <model>", "n": "3"}},
		{Level: "WARN", App: "shop", Deployment: "Ranker", Text: "slow", Attributes: map[string]string{"http.path": "/a"}},
		{Level: "INFO", App: "shop", Deployment: "Ranker", Replica: "Ranker#1", Request: "r-1", Stream: "stdout", Text: "loading"},
		{Level: "INFO", Text: "two"}, {Level: "INFO", Text: "lines"},
	}
	if len(got) != len(want) {
		t.Fatalf("%d lines:\n%s", len(got), b.String())
	}
	for i := range got {
		got[i].Time = want[i].Time
		if g, w := fmt.Sprintf("%+v", got[i]), fmt.Sprintf("%+v", want[i]); g != w {
			t.Errorf("line %d is\n%s\nwant\n%s", i, g, w)
		}
	}
	if !strings.Contains(b.String(), "<model>") {
		t.Errorf("characters are escaped without need: %s", b.String())
	}
}

func TestLogFormat(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	terminal, err := os.Open(os.DevNull) // a device as a terminal is one
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	for _, c := range []struct {
		format string
		to     *os.File
		want   string
	}{{"auto", file, "json"}, {"auto", terminal, "text"}, {"text", file, "text"}, {"json", terminal, "json"}} {
		if got := formatOf(c.format, c.to); got != c.want {
			t.Errorf("%s is %s, want %s", c.format, got, c.want)
		}
	}
}
