package logs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

func TestLevels(t *testing.T) {
	t.Parallel()
	const debug, info, warn, fail = slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError
	type line struct {
		text string
		want slog.Level
	}
	for stream, lines := range map[string][]line{
		"stdout": {
			{"hello", info}, {"", info},
			{"ERROR:root:bad", fail}, {"  in detail", fail}, {"next", info},
			{"2026-01-02 10:00:00,123 WARNING text", warn}, {"2026/01/02 10:00:00 INFO text", info},
			{"[2026-01-02 10:00:00] [DEBUG] text", debug}, {"[CRITICAL] text", fail}, {"INFO - x", info},
			{`{"time":"2026-01-02T10:00:00Z","level":"WARN","msg":"x"}`, warn}, {`{"levelname": "error", "x": 1}`, fail},
			{`{"level":3}`, info}, {`{"msg":"ERROR"}`, info},
			{`time=2026-01-02T10:00:00.000+00:00 level=DEBUG msg=x`, debug}, {`level=INFO+2 msg=x`, info + 2},
			{"this is no ERROR", info}, {"Error: x", info}, {"warning: x", info}, {"1 2 3 4 ERROR", info},
		},
		"stderr": {
			{"loading", warn}, {"INFO: ready", info}, {"\tmore", info}, {"again", warn},
			{"Traceback (most recent call last):", fail}, {`  File "x.py", line 1`, fail}, {"ValueError: x", fail}, {"after", warn},
			{"SIGN here: x", warn}, {"SIGSEGV: segmentation violation", fail}, {"", fail}, {"goroutine 1 [running]:", fail}, {"INFO x", info}, {"again", warn},
			{"panic: a client's text", fail}, {"", fail}, {"text", fail}, {"2026/01/02 10:00:00 INFO text", info}, {"text", warn},
		},
	} {
		l := NewLevels(stream)
		for _, line := range lines {
			if got := l.Of([]byte(line.text)); got != line.want {
				t.Errorf("%s: %q is %s, want %s", stream, line.text, got, line.want)
			}
		}
	}
}

var at = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func openDir(t *testing.T) *Dir {
	t.Helper()
	d, err := OpenDir(filepath.Join(t.TempDir(), "a", "b"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestFile(t *testing.T) {
	t.Parallel()
	d := openDir(t)
	path := filepath.Join(d.path, "replica_app_D_1.log")
	for i, text := range []string{"one", "two"} { // the second file appends
		f := d.File("replica_app_D", "1")
		f.Write(at, slog.LevelWarn, "stderr", []byte(text))
		f.Close()
		f.Write(at, slog.LevelWarn, "stderr", []byte("late"))
		if got := strings.Count(read(t, path), "\n"); got != i+1 {
			t.Errorf("%d lines", got)
		}
	}
	want := "2026-01-02T10:00:00.000Z WARN stderr one\n2026-01-02T10:00:00.000Z WARN stderr two\n"
	if got := read(t, path); got != want {
		t.Errorf("%q", got)
	}
	f := d.File("replica_app_D", "quiet")
	f.Close()
	if found, _ := filepath.Glob(filepath.Join(d.path, "*")); len(found) != 1 {
		t.Errorf("%v", found)
	}
}

func TestOpenDirFails(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(filepath.Join(file, "logs"), nil); !errors.Is(err, syscall.ENOTDIR) {
		t.Error(err)
	}
}

// TestRotation writes six parts' worth, and finds the newest keepParts of them.
func TestRotation(t *testing.T) {
	t.Parallel()
	d := openDir(t)
	path := filepath.Join(d.path, "g_n.log")
	text := bytes.Repeat([]byte("x"), 64<<10)
	for i := range 6 {
		f := d.File("g", "n")
		for j := range partSize / len(text) {
			f.Write(at, 0, "stdout", fmt.Appendf(nil, "%d.%d %s", i, j, text))
			if j%8 == 7 { // wait until the writer has written
				f.Close()
				f = d.File("g", "n")
			}
		}
		f.Close()
	}
	for i, want := range []string{" 5.", " 4.", " 3.", " 2."} {
		p := path
		if i > 0 {
			p = part(path, i)
		}
		got := read(t, p)
		if !strings.Contains(got[:64], want) || len(got) > partSize+pendingMax+1<<17 {
			t.Errorf("%s: %d bytes, %.64q", p, len(got), got)
		}
	}
	if _, err := os.Stat(part(path, keepParts)); err == nil {
		t.Error("too many parts are kept")
	}
}

func TestOldFilesGo(t *testing.T) {
	t.Parallel()
	d := openDir(t)
	alive := d.File("g", "alive")
	alive.Write(at, 0, "stdout", []byte("x"))
	for i := range keepEnded + 3 {
		path := filepath.Join(d.path, fmt.Sprintf("g_%02d.log", i))
		for _, p := range []string{path, part(path, 1)} {
			if err := os.WriteFile(p, []byte(aLine), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(p, at, at.Add(time.Duration(i)*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
	}
	other := filepath.Join(d.path, "h_1.log")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d.File("g", "next").Close()
	alive.Close()
	var left []string
	found, _ := filepath.Glob(filepath.Join(d.path, "*"))
	for _, p := range found {
		left = append(left, filepath.Base(p))
	}
	got := strings.Join(left, " ")
	if len(left) != 2*keepEnded+2 || strings.Contains(got, "g_02.log") || !strings.Contains(got, "g_03.log g_03.log.1") ||
		!strings.Contains(got, "g_alive.log") || !strings.Contains(got, "h_1.log") {
		t.Error(got)
	}
}

const aLine = "2026-01-02T10:00:00.000Z INFO stdout one\n"

// TestFilesOfOthersStay: in a shared directory, a file with the name of a log and another content is neither removed,
// nor written to, nor replaced by a part.
func TestFilesOfOthersStay(t *testing.T) {
	t.Parallel()
	d := openDir(t)
	var log bytes.Buffer
	d.log = slog.New(slog.NewTextHandler(&log, nil))
	others := map[string]string{
		"g_notes.log": "my notes\n", "g_other.log": "2026-01-02T10:00:00.000Z INFO handler GET /\n", "g_1.log": "not a log\n", "g_2.log.1": "my copy\n",
		"g_old.log.2": "my notes\n",
	}
	for name, text := range others {
		p := filepath.Join(d.path, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, at, at.Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range keepEnded + 1 {
		name := fmt.Sprintf("g_w%02d.log", i)
		if i == 0 {
			name = "g_old.log" // the first file that is removed
		}
		p := filepath.Join(d.path, name)
		if err := os.WriteFile(p, []byte(aLine), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, at, at.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	f := d.File("g", "1")
	f.Write(at, 0, "stdout", []byte("x"))
	f.Close()
	f = d.File("g", "2")
	text := bytes.Repeat([]byte("x"), 64<<10)
	for i := range partSize/len(text) + 1 {
		f.Write(at, 0, "stdout", text)
		if i%8 == 7 { // so that no line is dropped: the writer is behind by eight at most
			f.Close()
			f = d.File("g", "2")
		}
	}
	f.Close()
	f = d.File("g", "2") // the file is as large as a part, and another file has the part's name
	f.Write(at, 0, "stdout", []byte("x"))
	f.Close()
	for name, want := range others {
		if got := read(t, filepath.Join(d.path, name)); got != want {
			t.Errorf("%s: %.60q", name, got)
		}
	}
	if _, err := os.Stat(filepath.Join(d.path, "g_old.log")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the oldest log stays: %v", err)
	}
	if n := strings.Count(log.String(), errForeign.Error()); n < 2 {
		t.Errorf("%d warnings: %s", n, &log)
	}
}

// TestClean: control characters in a text are shown as text.
func TestClean(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, file, terminal string }{
		{"plain\ttext", "plain\ttext", ""},
		{"é 日本 👩\u200d🚀\u00a0", "é 日本 👩\u200d🚀\u00a0", ""},
		{"a\rb\x00c\x1ed\x7f", `a\rb\x00c\x1ed\x7f`, ""},
		{"\u2028x\u0085y\u202ez\u009b2J", `\u2028x\u0085y\u202ez\u009b2J`, ""},
		{"\xff\xc3(", `\xff\xc3(`, ""},
		{"\x1b[31mred", `\x1b[31mred`, "\x1b[31mred\x1b[0m"},
		{"\x1b[2J\x1b[1;3", `\x1b[2J\x1b[1;3`, ""},
		{"\x1b]0;title\a", `\x1b]0;title\x07`, ""},
	} {
		if got := string(Clean(nil, []byte(c.text), false)); got != c.file {
			t.Errorf("%q in a file: %q", c.text, got)
		}
		if got := string(Clean(nil, []byte(c.text), true)); got != cmp.Or(c.terminal, c.file) {
			t.Errorf("%q on a terminal: %q", c.text, got)
		}
	}
}

// FuzzClean: any line stays one line of text.
func FuzzClean(f *testing.F) {
	f.Add([]byte("\x1b[31m\r\xff\u2028"))
	f.Fuzz(func(t *testing.T, line []byte) {
		got := Clean(nil, line, false)
		if !utf8.Valid(got) || bytes.ContainsFunc(got, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x1b || r == 0x2028 }) {
			t.Errorf("%q", got)
		}
		Clean(nil, line, true)
	})
}

// disk is a fake file: it fails, hangs or takes a part of a write.
type disk struct {
	mu      sync.Mutex
	fail    error
	take    int // bytes that a failing write takes
	hang    chan struct{}
	content bytes.Buffer
}

func (d *disk) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hang != nil {
		<-d.hang
	}
	if d.fail != nil {
		n, _ := d.content.Write(b[:min(d.take, len(b))])
		return n, d.fail
	}
	return d.content.Write(b)
}

func (d *disk) Close() error { return nil }

func (d *disk) set(err error, take int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail, d.take = err, take
}

// TestFullDisk: lines that cannot be written are dropped and counted. The logger hears of it once, and the file gets
// a note when it can be written again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		d := &Dir{files: map[string]bool{}, log: slog.New(slog.NewTextHandler(&log, nil))}
		disk := &disk{}
		d.open = func(string) (io.WriteCloser, int64, error) { return disk, 0, nil }
		f := d.File("g", "n")
		put := func(text string) {
			f.Write(at, 0, "stdout", []byte(text))
			synctest.Wait()
		}
		put("a")
		disk.set(syscall.ENOSPC, 30)
		put("b")
		disk.set(syscall.ENOSPC, 0)
		put("c")
		put("d")
		disk.set(nil, 0)
		put("e")
		f.Close()
		want := "2026-01-02T10:00:00.000Z INFO stdout a\n2026-01-02T10:00:00.000Z INFO \n" +
			"2000-01-01T00:00:00.000Z WARN helve 3 lines were dropped here\n2026-01-02T10:00:00.000Z INFO stdout e\n"
		if got := disk.content.String(); got != want {
			t.Errorf("%q", got)
		}
		if got := log.String(); strings.Count(got, "lines are lost") != 1 || strings.Count(got, "dropped=3") != 1 || !strings.Contains(got, "no space") {
			t.Error(got)
		}
	})
}

// TestHangingDisk: no call waits for a disk that hangs, and memory is bounded.
func TestHangingDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &Dir{files: map[string]bool{}, log: slog.New(slog.DiscardHandler)}
		disk := &disk{hang: make(chan struct{})}
		d.open = func(string) (io.WriteCloser, int64, error) { return disk, 0, nil }
		f := d.File("g", "n")
		text := bytes.Repeat([]byte("x"), 1000)
		f.Write(at, 0, "stdout", text)
		synctest.Wait() // the disk hangs now
		for range 5000 {
			f.Write(at, 0, "stdout", text)
		}
		f.mu.Lock()
		if len(f.pending) > pendingMax+1000 || f.dropped == 0 {
			t.Errorf("%d bytes are pending, %d lines dropped", len(f.pending), f.dropped)
		}
		f.mu.Unlock()
		start := time.Now()
		f.Close()
		if took := time.Since(start); took != closeTime {
			t.Errorf("Close took %s", took)
		}
		close(disk.hang)
		<-f.done
		if got := disk.content.String(); !strings.Contains(got, "lines were dropped here") {
			t.Errorf("%d bytes without a note", len(got))
		}
	})
}
