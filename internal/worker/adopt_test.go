package worker

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/helve-serve/helve/internal/kernel"
)

// startAndWait is the process that starts a child which outlives it.
func startAndWait(dir string) {
	p, err := NewSpawner().Start(Command{
		Path: "/bin/sh", Args: []string{"-c", "echo born; read line < " + dir + "/go; echo $line; echo failed >&2; exit 3"},
		ID: "child", Outlives: dir,
	})
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	b, err := json.Marshal(p.Identity())
	if err != nil {
		os.Exit(1)
	}
	os.Stdout.Write(append(b, '\n'))
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // until it is killed
}

// outlived is a child whose parent was killed with SIGKILL.
func outlived(t *testing.T) (dir string, i Identity) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mkfifo(dir+"/go", 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "WORKER_TEST=outlived", "OUTLIVED="+dir)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(line, &i); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait() //nolint:errcheck // it was killed
	t.Cleanup(func() { syscall.Kill(-i.PID, syscall.SIGKILL) })
	return dir, i
}

// TestAdopt: a child goes on without its parent; its later output, and its end, reach the process that adopts it.
func TestAdopt(t *testing.T) {
	t.Parallel()
	dir, i := outlived(t)
	var mu sync.Mutex
	var lines []string
	p, err := newSpawner(t).Adopt(i, Command{Output: func(stream string, line []byte) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, stream+" "+string(line))
	}})
	if err != nil {
		t.Fatal(err)
	}
	if p.PID() != i.PID || p.Identity() != i {
		t.Errorf("%d, %+v", p.PID(), p.Identity())
	}
	if err := os.WriteFile(dir+"/go", []byte("gone on\n"), 0); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	mu.Lock()
	defer mu.Unlock()
	got := strings.Join(lines, ",")
	if !strings.Contains(got, "stdout gone on") || !strings.Contains(got, "stderr failed") {
		t.Errorf("read %q", got)
	}
	if e := p.Exit(); !e.Adopted || e.Killed || !strings.Contains(e.Summary(), "nobody knows how") || strings.Join(e.Lines, "") != "failed" {
		t.Errorf("%+v", e)
	}
	if _, err := os.Stat(dir + "/child.stdout"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its pipe is left: %v", err)
	}
}

// TestAdoptedIsKilled: an adopted child ends like any other.
func TestAdoptedIsKilled(t *testing.T) {
	t.Parallel()
	_, i := outlived(t)
	p, err := newSpawner(t).Adopt(i, Command{})
	if err != nil {
		t.Fatal(err)
	}
	p.Kill()
	<-p.Done()
	if e := p.Exit(); !e.Killed || !e.Adopted {
		t.Errorf("%+v", e)
	}
	if _, err := newSpawner(t).Adopt(i, Command{}); !errors.Is(err, ErrGone) {
		t.Errorf("adopted again: %v", err)
	}
}

// TestAdoptNobodyElse: another process with the id of an ended child is left alone.
func TestAdoptNobodyElse(t *testing.T) {
	t.Parallel()
	_, i := outlived(t)
	other := i
	other.Started++
	other.Family = "" // another process has started no family
	if _, err := newSpawner(t).Adopt(other, Command{}); !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
	if started, err := startedAt(i.PID); err != nil || started != i.Started {
		t.Errorf("the other process: %d, %v", started, err)
	}
}

// TestOneNodePerDirectory: a directory has one node, and outlasts it.
func TestOneNodePerDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/state"
	l, err := ListenAt(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ListenAt(dir); err == nil || !strings.Contains(err.Error(), "another node") {
		t.Errorf("a second node: %v", err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if l, err = ListenAt(dir); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := ListenAt("/" + string(bytes.Repeat([]byte("x"), kernel.SocketPathMax))); err == nil {
		t.Error("a path that is too long")
	}
}

// TestStrayPipes: pipes of workers that the state does not know are removed, and their ids are not used again.
func TestStrayPipes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"app-7.stdout", "app-7.stderr", "an-other-12.stdout", "known-99.stdout", "known-99.stderr", "x-y.stdout"} {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"node.sock", "run-1.stdout"} { // the latter is no pipe, so it is not a worker's
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if highest := RemoveStrayPipes(dir, func(id string) bool { return id == "known-99" }); highest != 12 {
		t.Errorf("the highest id is %d", highest)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 5 {
		t.Errorf("%v, %v", left, err)
	}
}

func newSpawner(t *testing.T) *Spawner {
	t.Helper()
	s := NewSpawner()
	t.Cleanup(s.Close)
	return s
}
