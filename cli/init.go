package cli

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// asInit is the first process of a container (pid 1), which the kernel gives every orphan: it runs this program as its child, passes
// signals on, reaps processes that end, and ends with the child's exit status. A node could not do that itself, because it cannot tell orphans
// from processes that its applications have started and wait for.
func asInit() int {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	child, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "error: pid 1 cannot start the program as its child:", err)
		return 1
	}
	go func() {
		for s := range signals {
			switch s {
			case syscall.SIGCHLD, syscall.SIGPIPE, syscall.SIGURG: // about this process itself
			default:
				if number, ok := s.(syscall.Signal); ok {
					syscall.Kill(child.Pid, number) //nolint:errcheck // it may have ended
				}
			}
		}
	}()
	return reap(child.Pid)
}

// reap waits for all children of this process until the one ends, and gives its exit status as a shell does.
func reap(pid int) int {
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 1
		case ended != pid:
		case status.Signaled():
			return 128 + int(status.Signal())
		default:
			return status.ExitStatus()
		}
	}
}
