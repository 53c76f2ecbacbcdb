package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helve-serve/helve/bench/proc"
)

// keepEnv marks this executable as a keeper.
const keepEnv = "BENCH_RAY_KEEP"

// grace is how long a program has to end by itself after its input has ended.
const grace = 15 * time.Second

// keep runs a program and is the parent of every process that the program leaves behind: it is their subreaper. So the processes of a system are
// exactly the descendants of its keeper, for example the daemons of Ray whose parents have ended, and all of them have ended when the keeper ends.
// The program ends when the input of the keeper ends.
func keep(args []string) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("to become a subreaper: %w", err)
	}
	os.Unsetenv(keepEnv) // the relay is this executable too
	cmd := exec.Command(args[0], args[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	go func() {
		io.Copy(in, os.Stdin) //nolint:errcheck // the end of either side ends the program
		signalAll(os.Getpid(), syscall.SIGCONT)
		in.Close()
		time.Sleep(grace)
		cmd.Process.Kill()
	}()
	err = <-ended
	return errors.Join(err, sweep(os.Getpid()))
}

// sweep kills the descendants of this process, until there are none.
func sweep(pid int) error {
	for deadline := time.Now().Add(grace); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		signalAll(pid, syscall.SIGKILL)
		for {
			if reaped, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || reaped <= 0 {
				break
			}
		}
		if left, err := proc.Descendants(pid); err != nil || len(left) == 0 {
			return err
		}
	}
	return errors.New("processes are left that SIGKILL does not end")
}

// signalAll sends a signal to all descendants of a process, parents first, and to the processes that these have started meanwhile.
func signalAll(pid int, s syscall.Signal) error {
	sent := map[int]bool{}
	for {
		all, err := proc.Descendants(pid)
		if err != nil {
			return err
		}
		before := len(sent)
		for _, p := range all {
			if !sent[p] {
				sent[p] = true
				syscall.Kill(p, s) //nolint:errcheck // a process that has ended needs no signal
			}
		}
		if len(sent) == before {
			return nil
		}
	}
}
