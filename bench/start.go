package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// startRows measures the first answer after the start of a program, and the memory (PSS) of its processes.
func startRows(b *bench) ([]row, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	hello := filepath.Join(dir, "hello")
	build := exec.Command("go", "build", "-o", hello, "./examples/hello")
	build.Dir, build.Stderr = "..", os.Stderr
	if err := build.Run(); err != nil {
		return nil, err
	}
	var goStart, pyStart []float64
	var nodeMB, seedMB float64
	for range b.rounds {
		t, mb, err := startGo(hello)
		if err != nil {
			return nil, err
		}
		goStart, nodeMB = append(goStart, t), mb
		if t, mb, err = startPython(); err != nil {
			return nil, err
		}
		pyStart, seedMB = append(pyStart, t), mb
	}
	s := func(v float64) string { return fmt.Sprintf("%.3f s", v) }
	mb := func(v float64) string { return fmt.Sprintf("%.1f MB", v) }
	g, p := median(goStart), median(pyStart)
	return []row{
		{"Go hello, spawn to first answer / bar", s(g), "0.100 s", g / 0.1, 1, false},
		{"Python seed program, spawn to answer / bar", s(p), "0.400 s", p / 0.4, 1, false},
		{"idle node, PSS / bar", mb(nodeMB), "40 MB", nodeMB / 40, 1, false},
		{"seed program, all processes, PSS / bar", mb(seedMB), "100 MB", seedMB / 100, 1, false},
	}, nil
}

func startGo(hello string) (seconds, mb float64, err error) {
	cmd := exec.Command(hello, "run", "--http", "127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer func() { cmd.Process.Signal(os.Interrupt); waitFor(cmd) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return 0, 0, err
	}
	url := line[strings.Index(line, "http://"):]
	r, err := http.Post(strings.TrimSpace(url), "text/plain", strings.NewReader("world"))
	if err != nil {
		return 0, 0, err
	}
	body, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil || string(body) != "Hello world!" {
		return 0, 0, fmt.Errorf("answer %q, %v", body, err)
	}
	seconds = time.Since(start).Seconds()
	mb, err = treePSS(cmd.Process.Pid)
	return seconds, mb, err
}

func startPython() (seconds, mb float64, err error) {
	cmd := exec.Command(pythonPath(), "pybench/seed.py")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer func() { in.Close(); waitFor(cmd) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "Hello world!" {
		return 0, 0, fmt.Errorf("answer %q, %v", line, err)
	}
	seconds = time.Since(start).Seconds()
	mb, err = treePSS(cmd.Process.Pid)
	return seconds, mb, err
}

var pssLine = regexp.MustCompile(`(?m)^Pss:\s+(\d+) kB`)

// treePSS is the proportional set size of a process and everything below it, in MB.
func treePSS(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	m := pssLine.FindSubmatch(data)
	if m == nil {
		return 0, fmt.Errorf("no Pss in smaps_rollup of %d", pid)
	}
	kb, _ := strconv.ParseFloat(string(m[1]), 64)
	total := kb / 1024
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		kids, _ := os.ReadFile(t)
		for _, k := range strings.Fields(string(kids)) {
			n, _ := strconv.Atoi(k)
			mb, err := treePSS(n)
			if err != nil {
				return 0, err
			}
			total += mb
		}
	}
	return total, nil
}
