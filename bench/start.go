package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/bench/proc"
	"github.com/helve-serve/helve/bench/stat"
)

// started has the cost of starts of a program: the time until the first answer, and the memory then.
type started struct{ seconds, mb float64 }

// startRows measures the first answer after the start of a program, and the memory (PSS) of its processes.
func startRows(b *bench) []measurement {
	repeated := func(f func() (started, error)) (started, error) {
		var seconds, mb []float64
		for range b.rounds {
			s, err := f()
			if err != nil {
				return s, err
			}
			seconds, mb = append(seconds, s.seconds), append(mb, s.mb)
		}
		return started{stat.Median(seconds), stat.Median(mb)}, nil
	}
	goProgram := sync.OnceValues(func() (started, error) {
		hello, err := b.buildHello()
		if err != nil {
			return started{}, err
		}
		return repeated(func() (started, error) { return b.startGo(hello) })
	})
	pythonProgram := sync.OnceValues(func() (started, error) { return repeated(b.startPython) })
	row := func(program func() (started, error), what func(started) float64, format string, bar float64) func() (result, error) {
		return func() (result, error) {
			s, err := program()
			return result{fmt.Sprintf(format, what(s)), fmt.Sprintf(format, bar), what(s) / bar}, err
		}
	}
	seconds := func(s started) float64 { return s.seconds }
	mb := func(s started) float64 { return s.mb }
	return []measurement{
		{name: "Go hello, spawn to first answer / bar", bar: 1, measure: row(goProgram, seconds, "%.3f s", 0.1)},
		{name: "idle node, PSS / bar", bar: 1, exact: true, measure: row(goProgram, mb, "%.1f MB", 40)},
		{name: "Python seed program, spawn to answer / bar", bar: 1, measure: row(pythonProgram, seconds, "%.3f s", 0.4)},
		{name: "seed program, all processes, PSS / bar", bar: 1, exact: true, measure: row(pythonProgram, mb, "%.1f MB", 100)},
	}
}

func (b *bench) buildHello() (path string, err error) {
	dir, err := b.tempDir()
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "hello")
	build := command(b.ctx, "go", "build", "-o", path, "./examples/hello")
	build.Dir = ".."
	return path, build.Run()
}

// startGo starts the Go program, asks it once over HTTP, and ends it.
func (b *bench) startGo(hello string) (started, error) {
	begin := time.Now()
	p, err := start(command(b.ctx, hello, "run", "--http", "127.0.0.1:0"))
	if err != nil {
		return started{}, err
	}
	defer func() { p.cmd.Process.Signal(os.Interrupt); p.stop() }()
	i := strings.Index(p.line, "http://")
	if i < 0 {
		return started{}, fmt.Errorf("no address in %q", p.line)
	}
	req, err := http.NewRequestWithContext(b.ctx, http.MethodPost, p.line[i:], strings.NewReader("world"))
	if err != nil {
		return started{}, err
	}
	req.Header.Set("Content-Type", "text/plain")
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return started{}, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK || string(body) != "Hello world!" {
		return started{}, fmt.Errorf("answer %s %q, %v", r.Status, body, err)
	}
	seconds := time.Since(begin).Seconds()
	mb, err := proc.TreePSS(p.cmd.Process.Pid)
	return started{seconds, mb}, err
}

// startPython starts the seed program, waits until it prints its answer, and ends it.
func (b *bench) startPython() (started, error) {
	begin := time.Now()
	p, err := start(command(b.ctx, pythonPath(), "pybench/seed.py"))
	if err != nil {
		return started{}, err
	}
	defer p.stop()
	seconds := time.Since(begin).Seconds()
	if p.line != "Hello world!" {
		return started{}, fmt.Errorf("answer %q", p.line)
	}
	mb, err := proc.TreePSS(p.cmd.Process.Pid)
	return started{seconds, mb}, err
}
