package cli

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// TestLogOfTheNode: a value of several lines is readable below its record, and no line of it looks like a record of its own.
func TestLogOfTheNode(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	log := slog.New(newTextLog(&b, slog.LevelWarn)).With("app", "a")
	log.Info("below the level")
	log.Error("failed", "error", errors.New("no model\nTraceback:\n  File \"m.py\"\n\x1b[2Kforged\n"), "n", 3, "text", "one line")
	log.Warn("short", "text", "x y")
	for _, got := range []struct{ name, want string }{
		{"a record with a block", `level=ERROR msg=failed app=a error="no model" n=3 text="one line"` + "\n(node)   Traceback:\n(node)     File \"m.py\"\n(node)   \\x1b[2Kforged\n(node) time="},
		{"a record", "level=WARN msg=short app=a text=\"x y\"\n"},
	} {
		if !strings.Contains(b.String(), got.want) {
			t.Errorf("%s: %q is not in\n%s", got.name, got.want, b.String())
		}
	}
	if strings.Contains(b.String(), "below the level") || !strings.HasPrefix(b.String(), "(node) time=") {
		t.Error(b.String())
	}
}
