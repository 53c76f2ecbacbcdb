package takeover_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/keeper"
)

// TestUpgrade: a service is upgraded under traffic, and loses no request: its worker stays. With another executable the keeper is that program, in the same
// process. An executable that does not start changes nothing.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	dir, program := filepath.Join(home, "state"), fixture.Compile(t, "./examples/hello")
	n := startCommand(t, program, "start", "--isolation", "process", "--http", "127.0.0.1:0", "--state-dir", dir)
	f := startTraffic(t, 4, func() (string, error) {
		got, err := asked(n.url, "world")
		return "all: " + got, err
	})
	f.reach("all", 20)
	workers := keptWorkers(t, n, dir)
	upgrade := func(path string) {
		t.Helper()
		before := nodeOf(t, dir).PID
		out, err := exec.Command(program, "upgrade", "--state-dir", dir, path).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s\n%s", err, out, n.said.Text())
		}
		if now := nodeOf(t, dir).PID; now == before {
			t.Error("the node is the one of before")
		}
	}
	upgrade(program)
	f.reach("all", 20)
	if now := keptWorkers(t, n, dir); !slices.Equal(now, workers) {
		t.Errorf("workers %v, before %v", now, workers)
	}
	broken := filepath.Join(home, "broken")
	script := "#!/bin/sh\n[ \"$1\" = version ] && echo 'helve 9' && exit\nexit 3\n"
	if err := os.WriteFile(broken, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	before := nodeOf(t, dir).PID
	out, err := exec.Command(program, "upgrade", "--state-dir", dir, broken).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "does not start, and nothing has changed: exit status 3") {
		t.Errorf("%v: %s", err, out)
	}
	if now := nodeOf(t, dir).PID; now != before {
		t.Error("the node has changed")
	}
	f.reach("all", 20)
	f.end()
	other := filepath.Join(home, "other") // its code is another: its worker takes the place of the one that is there
	if err := os.Link(program, other); err != nil {
		t.Fatal(err)
	}
	upgrade(other)
	if exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(n.cmd.Process.Pid), "exe")); exe != other {
		t.Errorf("the keeper is the program %s, %v: another upgrade that begins now would be lost", exe, err)
	}
	fixture.Eventually(t, func() string { // until its worker has started
		if got, err := asked(n.url, "world"); got != "Hello world!" || err != nil {
			return fmt.Sprintf("%q, %v", got, err)
		}
		return ""
	})
	if s, err := keeper.StatusOf(t.Context(), dir); err != nil || s.PID != n.cmd.Process.Pid {
		t.Errorf("the keeper is the process %d, was %d: %v", s.PID, n.cmd.Process.Pid, err)
	}
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	n.said.Ended()
}

// TestUpgradeToChangedCode: a service is upgraded to an executable whose own application has other code, and loses no request: calls that run end in the
// former code, and others wait until the next code has started, which the test holds up.
func TestUpgradeToChangedCode(t *testing.T) {
	t.Parallel()
	for _, isolation := range []string{"node", "process"} {
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			dir, gate, held := filepath.Join(home, "state"), filepath.Join(home, "gate"), filepath.Join(home, "held")
			if err := errors.Join(syscall.Mkfifo(gate, 0o600), syscall.Mkfifo(held, 0o600)); err != nil {
				t.Fatal(err)
			}
			first, second := filepath.Join(home, "first"), filepath.Join(home, "second")
			for version, path := range map[string]string{"1": first, "2": second} {
				fixture.GoBuild(t, "-ldflags", "-X main.version="+version, "-o", path, "./internal/e2e/takeover/testdata/service")
			}
			n := &testNode{t: t, cmd: exec.Command(first, "start", "--isolation", isolation, "--http", "127.0.0.1:0", "--state-dir", dir)}
			n.cmd.Env = append(os.Environ(), "SERVICE_GATE_2="+gate)
			n.said, _ = fixture.Launch(t, n.cmd)
			line := n.said.Line(t, "http://")
			n.url = line[strings.Index(line, "http://"):]
			f := startTraffic(t, 4, func() (string, error) { return asked(n.url, "x") })
			f.reach("1", 20)
			running := make(chan string, 1)
			go func() {
				got, err := asked(n.url, "pipe:"+held)
				running <- fmt.Sprint(got, " ", err)
			}()
			pipe, err := os.OpenFile(held, os.O_WRONLY, 0) // when the call has opened it too
			if err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(first, "upgrade", "--state-dir", dir, second).CombinedOutput(); err != nil {
				t.Errorf("%v: %s\n%s", err, out, n.said.Text())
			}
			if err := os.WriteFile(gate, nil, 0); err != nil { // when the next code has opened it too
				t.Fatal(err)
			}
			f.reach("2", 20)
			f.end()
			if _, err := pipe.WriteString("held"); err != nil {
				t.Error(err)
			}
			pipe.Close()
			if got := <-running; got != "1: held <nil>" {
				t.Errorf("the call that ran: %s", got)
			}
			if t.Failed() {
				t.Log(n.said.Text())
			}
			if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			n.said.Ended()
		})
	}
}
