// Package logs keeps the output of workers: it finds the level of a printed line, and writes lines to files of
// bounded size, whose writer never waits for the disk.
package logs

import (
	"bytes"
	"log/slog"
	"strings"
)

// Levels finds the level of each line of one stream. It is not safe for concurrent use.
//
// A line may state its level: `"level":"error"` in JSON (also levelname and severity), level=WARN, or a name in
// capitals at the beginning, after nothing but a time: "2026-01-02 10:00:00 INFO ready", "ERROR:root:text", "[WARN]
// text". A line that states no level is info on stdout and a warning on stderr, because libraries without levels
// complain there. There are three exceptions. An indented line has the level of the line before it. The lines of a
// Python traceback are errors. The lines after a Go crash are errors, up to the next line that states a level: such a
// line is never part of a crash's report, so a line that only looks like a crash has no lasting effect.
type Levels struct {
	def, last slog.Level
	trace     bool // the last line was in a traceback
	crash     bool // Go reports a crash
}

// NewLevels is for one stream: "stdout" or "stderr".
func NewLevels(stream string) *Levels {
	if stream == "stderr" {
		return &Levels{def: slog.LevelWarn, last: slog.LevelWarn}
	}
	return &Levels{}
}

// Of is the level of the next line.
func (l *Levels) Of(line []byte) slog.Level {
	if l.crash {
		level, stated := Stated(line)
		if !stated {
			return slog.LevelError
		}
		l.crash, l.last = false, level
		return level
	}
	if len(line) == 0 || line[0] == ' ' || line[0] == '\t' {
		return l.last
	}
	trace := l.trace
	l.trace = false
	level, stated := Stated(line)
	switch {
	case stated:
	case bytes.HasPrefix(line, []byte("Traceback (most recent call last):")):
		l.trace, level = true, slog.LevelError
	case Crash(line):
		l.crash, level = true, slog.LevelError
	case trace: // the exception itself
		level = slog.LevelError
	default:
		level = l.def
	}
	l.last = level
	return level
}

// Crash reports whether a line begins the report of a Go crash: a panic, an error of the runtime, or a signal.
func Crash(line []byte) bool {
	signal, _, ok := bytes.Cut(line[:min(len(line), len("SIGSEGV: "))], []byte(": "))
	if ok && bytes.HasPrefix(signal, []byte("SIG")) && !bytes.ContainsRune(signal, ' ') {
		return true
	}
	return bytes.HasPrefix(line, []byte("panic: ")) || bytes.HasPrefix(line, []byte("fatal error: "))
}

// headMax is the number of bytes at the beginning of a line that are searched for a level.
const headMax = 256

// Stated returns the level that a line states; false if it states none.
func Stated(line []byte) (slog.Level, bool) {
	head := line[:min(len(line), headMax)]
	if len(head) > 0 && head[0] == '{' {
		for _, key := range []string{`"level"`, `"levelname"`, `"severity"`} {
			if _, rest, ok := bytes.Cut(head, []byte(key)); ok {
				rest = bytes.TrimLeft(rest, ": ")
				if text, ok := bytes.CutPrefix(rest, []byte(`"`)); ok {
					name, _, _ := bytes.Cut(text, []byte(`"`))
					return Named(strings.ToUpper(string(name)))
				}
			}
		}
		return 0, false
	}
	for i, field := range bytes.Fields(head) {
		if name, ok := bytes.CutPrefix(field, []byte("level=")); ok {
			return Named(strings.ToUpper(string(name)))
		}
		name, _, _ := bytes.Cut(bytes.Trim(field, "[]()<>|,-"), []byte(":"))
		if level, ok := Named(string(name)); ok {
			return level, true
		}
		if !timelike(field) || i == 3 {
			break
		}
	}
	return 0, false
}

// timelike reports whether a field may stand before the level: a part of a time, as a number or in slog's text form.
func timelike(field []byte) bool {
	field = bytes.TrimPrefix(field, []byte("time="))
	field = bytes.TrimLeft(field, "[(")
	return len(field) == 0 || field[0] >= '0' && field[0] <= '9'
}

// Named is the level of a name in capitals, with slog's numbers ("INFO+2"). It knows the names of slog, of Python's
// logging, and of similar libraries. The second result is false for another name.
func Named(name string) (level slog.Level, ok bool) {
	switch name {
	case "TRACE", "DEBUG":
		return slog.LevelDebug, true
	case "INFO", "NOTICE":
		return slog.LevelInfo, true
	case "WARN", "WARNING":
		return slog.LevelWarn, true
	case "ERROR", "ERR", "CRITICAL", "FATAL", "PANIC", "DPANIC", "EMERGENCY", "ALERT":
		return slog.LevelError, true
	}
	if strings.ContainsAny(name, "+-") {
		ok = level.UnmarshalText([]byte(name)) == nil
	}
	return level, ok
}
