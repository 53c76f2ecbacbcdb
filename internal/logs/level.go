// Package logs keeps what workers print: the level that a line states, and files of bounded size that are never in the way.
package logs

import (
	"bytes"
	"log/slog"
	"strings"
)

// Levels gives the lines of one stream their levels. It is not safe for concurrent use.
//
// A line's level is the one that it states: `"level":"error"` in JSON (also levelname and severity), level=WARN, or a name
// in capitals in front, after nothing but a time: "2026-01-02 10:00:00 INFO ready", "ERROR:root:text", "[WARN] text". What
// states none is info on stdout and a warning on stderr, where libraries that know no levels complain, except that an
// indented line has the level of the one before it, and that a Python traceback and what follows a Go crash are errors. A line that
// states a level is never part of a crash's report, so that it ends one: a line that only looks like a crash has no effect
// for good.
type Levels struct {
	def, last slog.Level
	trace     bool // in a traceback
	crash     bool // Go has begun to report a crash
}

// NewLevels is for a stream, "stdout" or "stderr".
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

// Crash says whether a line begins the report of a crash of Go: a panic, an error of the runtime, or a signal.
func Crash(line []byte) bool {
	signal, _, ok := bytes.Cut(line[:min(len(line), len("SIGSEGV: "))], []byte(": "))
	if ok && bytes.HasPrefix(signal, []byte("SIG")) && !bytes.ContainsRune(signal, ' ') {
		return true
	}
	return bytes.HasPrefix(line, []byte("panic: ")) || bytes.HasPrefix(line, []byte("fatal error: "))
}

// headMax is how far into a line a level is looked for.
const headMax = 256

// Stated is the level that a line states.
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

// timelike says whether a field may stand before the level: a part of a time, as a number or in slog's text form.
func timelike(field []byte) bool {
	field = bytes.TrimPrefix(field, []byte("time="))
	field = bytes.TrimLeft(field, "[(")
	return len(field) == 0 || field[0] >= '0' && field[0] <= '9'
}

// Named is the level of a name in capitals, as Go's slog, Python's logging and their relatives have them, with slog's
// numbers ("INFO+2").
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
