package why

import (
	"fmt"
	"path/filepath"
	"strings"
)

// brief is a message in one line: its first line and, if it has a traceback of Python, the exception with its place in the program. For example, a message
//
//	shop/Ranker.constructor: no database
//	Traceback (most recent call last):
//	  File "/srv/ranker.py", line 7, in __init__
//	    raise RuntimeError("no database")
//	RuntimeError: no database
//
// is "shop/Ranker.constructor: no database (RuntimeError in __init__, ranker.py line 7)".
func brief(message string) string {
	message = strings.TrimSpace(message)
	line := firstLine(message)
	frames := framesOf(message)
	if len(frames) == 0 {
		return line
	}
	at := frames.users()
	kind, said, _ := strings.Cut(at.exception, ": ")
	switch {
	case kind == "" || strings.Contains(line, at.exception):
		return fmt.Sprintf("%s (in %s)", line, at)
	case strings.Contains(line, said): // also of an exception without a text
		return fmt.Sprintf("%s (%s in %s)", line, kind, at)
	}
	return fmt.Sprintf("%s: %s (in %s)", strings.TrimRight(line, ":"), at.exception, at)
}

// details are the lines of a message of which [brief] is only a part; "" for a message of one line.
func details(message string) string {
	_, more, _ := strings.Cut(strings.TrimSpace(message), "\n")
	return strings.TrimRight(more, "\n")
}

// blockedAt is the place of a program at which the event loop of a Python worker stands, by the stacks of its threads. The main thread has the loop, and is the first one.
func blockedAt(stacks string) (place string, ok bool) {
	if !strings.HasPrefix(stacks, "Thread ") {
		return "", false
	}
	main, _, _ := strings.Cut(stacks, "\nThread ")
	frames := framesOf(main)
	if len(frames) == 0 {
		return "", false
	}
	return frames.users().String(), true
}

// frame is a line of a traceback of Python.
type frame struct {
	file, line, function string
	exception            string // the line that the traceback ends with, the kind of the exception without its module; "" for none
}

func (f frame) String() string {
	return fmt.Sprintf("%s, %s line %s", f.function, filepath.Base(f.file), f.line)
}

type frames []frame

// users is the innermost frame of the user's code; if there is none, the innermost one.
func (fs frames) users() frame {
	at := fs[len(fs)-1]
	for _, f := range fs {
		if !strings.Contains(f.file, "/lib/python") && !strings.Contains(f.file, "site-packages") && !strings.Contains(f.file, "/helve/_") && !strings.HasPrefix(f.file, "<") {
			exception := at.exception
			at = f
			at.exception = exception
		}
	}
	return at
}

// framesOf are the frames of the last traceback in a text, the outermost first.
func framesOf(text string) (all frames) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "Traceback (most recent call last)") {
			all = nil
			continue
		}
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), `File "`)
		if !ok {
			if len(all) > 0 && line != strings.TrimLeft(line, " ") || len(all) == 0 || all[len(all)-1].exception != "" {
				continue
			}
			kind, said, _ := strings.Cut(strings.TrimSpace(line), ":")
			if kind = kind[strings.LastIndexByte(kind, '.')+1:]; kind != "" && !strings.ContainsAny(kind, " \t") {
				all[len(all)-1].exception = strings.TrimSuffix(kind+":"+said, ":")
			}
			continue
		}
		var f frame
		if f.file, rest, ok = strings.Cut(rest, `", line `); !ok {
			continue
		}
		f.line, f.function, _ = strings.Cut(strings.TrimSpace(rest), ", in ")
		if f.function == "" { // a module that is not Python, or a syntax error
			f.function = "the module"
		}
		all = append(all, f)
	}
	return all
}
