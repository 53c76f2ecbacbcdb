package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/helve-serve/helve/bench/proc"
)

// TestMain lets this executable be a keeper, as the command is.
func TestMain(m *testing.M) {
	if os.Getenv(keepEnv) != "" {
		if err := keep(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// orphans is a server that has a daemon in a session of its own, whose parent has ended, and that ends with its input.
var orphans = system{name: "orphans", floor: true, args: []string{"sh", "-c", "(setsid sleep 1000 &); echo address; cat"}}

// TestKeeperEndsAll: all processes of a program end with it, orphans too.
func TestKeeperEndsAll(t *testing.T) {
	t.Parallel()
	p, err := launch(t.Context(), orphans)
	if err != nil {
		t.Fatal(err)
	}
	below, err := proc.Descendants(p.keeper.Process.Pid)
	if err != nil || p.addr != "address" || len(below) < 2 {
		t.Errorf("the program at %q has the processes %v, %v, want its shell and the daemon", p.addr, below, err)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range below {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is still there: %v", pid, err)
		}
	}
	if _, err := os.Stat(p.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

// TestPause: a paused program has no process that runs, and its memory can still be read.
func TestPause(t *testing.T) {
	t.Parallel()
	p, err := launch(t.Context(), orphans)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close() //nolint:errcheck // TestKeeperEndsAll looks at it
	states := func() (all []string) {
		pids, err := proc.Descendants(p.keeper.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		for _, pid := range pids {
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if i := bytes.LastIndexByte(stat, ')'); i >= 0 {
				all = append(all, string(stat[i+2]))
			}
		}
		return all
	}
	for range 2 { // a pause after a pause changes nothing
		if err := p.pause(); err != nil {
			t.Fatal(err)
		}
	}
	// The kernel stops a process when it is next scheduled. A shell whose child was stopped between vfork and exec waits for that child in the state D, and does
	// not become stopped.
	for slices.ContainsFunc(states(), func(s string) bool { return s == "R" || s == "S" }) {
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
	if _, n, err := p.memory(); err != nil || n < 2 {
		t.Errorf("%d processes, %v", n, err)
	}
	if err := p.resume(); err != nil {
		t.Fatal(err)
	}
	for slices.Contains(states(), "T") {
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLaunchFails: a program that ends at once is an error with its last words, and leaves nothing.
func TestLaunchFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sys  system
		want string
	}{
		"with words": {system{name: "s", args: []string{"sh", "-c", "echo no room >&2; exit 3"}}, "no room"},
		"missing":    {system{name: "s", floor: true, args: []string{"sh", "-c", "echo missing mosec"}}, "mosec is not installed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := launch(t.Context(), c.sys); err == nil || !bytes.Contains([]byte(err.Error()), []byte(c.want)) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
