package worker

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"github.com/helve-serve/helve/internal/kernel"
)

// Launch describes a child to the process that starts it.
type Launch struct {
	ID     string   `json:"id"`
	Name   string   `json:"name,omitempty"` // that the process shows; "" for the path
	Path   string   `json:"path"`
	Args   []string `json:"args,omitempty"` // without the name of the program
	Dir    string   `json:"dir,omitempty"`
	Env    []string `json:"env"`
	Limits Limits   `json:"limits"`
	// Outlives says that the child goes on when the node has ended.
	Outlives bool `json:"outlives,omitempty"`

	in *group // an existing cgroup; nil for a new one, if the limits need one
}

// Launched describes a child that was started.
type Launched struct {
	PID         int         `json:"pid"`
	Group       string      `json:"group,omitempty"` // the path of its cgroup; "" without one
	Enforcement Enforcement `json:"enforcement"`
	Why         string      `json:"why,omitempty"` // the text of Enforcement.Why
}

// Status is how a process has ended.
type Status struct {
	Code   int            `json:"code"`             // -1 if a signal ended it
	Signal syscall.Signal `json:"signal,omitempty"` // 0 if it exited by itself
}

// StatusOf is the status that the kernel gives the parent of a process.
func StatusOf(s syscall.WaitStatus) Status {
	if s.Signaled() {
		return Status{Code: -1, Signal: s.Signal()}
	}
	return Status{Code: s.ExitStatus()}
}

// Starter is the process that starts the children of a node, and waits for their ends. It is the node itself, or its keeper: the children of
// the keeper go on when the node is killed, and the next node asks the same keeper about them.
type Starter interface {
	// Start starts a child in a process group of its own. The files are its descriptors 1, 2, 3 and so on; nil for the first two is /dev/null,
	// which is its standard input too. The files stay the caller's.
	Start(l Launch, files []*os.File) (Launched, error)
	// Wait returns when a child has ended. ok is false for a process that this Starter has not started: its status is unknown.
	Wait(pid int) (s Status, ok bool)
	// Family begins the family names of the children; it is the same for all nodes of one keeper.
	Family() string
	// Close ends what the Starter has for this process.
	Close()
}

// Launcher starts children on the thread of its caller. The kernel kills a child (Pdeathsig) when the thread that started it ends, not when the
// process does (golang/go#27505), and the runtime ends threads at any time: the caller is on a thread that lives as long as the children.
type Launcher struct{ groups groups }

// Start starts a child within its limits; the signal death is what the kernel sends it when the thread of the caller ends, 0 for none. If the
// kernel forbids a cgroup or tracing, it tries without. The caller waits for the command.
func (r *Launcher) Start(l Launch, files []*os.File, death syscall.Signal) (*exec.Cmd, Launched, error) {
	in, limits := l.in, l.Limits
	var why error
	if in == nil && (limits.MemoryBytes > 0 || limits.CPUs > 0) {
		in, why = r.groups.make(l.ID, limits)
	}
	for stopped := true; ; {
		e := limits.enforcement(in != nil, why)
		set := limits.rlimits(e)
		cmd := l.command(files, death)
		err := run(cmd, in, set, stopped && len(set) > 0)
		if in != nil {
			in.started()
		}
		switch {
		case err == nil:
			started := Launched{PID: cmd.Process.Pid, Enforcement: e}
			if why != nil {
				started.Why = why.Error()
			}
			if in != nil {
				started.Group = in.path
			}
			return cmd, started, nil
		case in != nil: // this process may divide the cgroup, and still not move a process into it
			in.remove()
			in, why = nil, err
		case errors.Is(err, syscall.EPERM) && stopped: // tracing is forbidden here
			stopped = false
		default:
			return nil, Launched{}, err
		}
	}
}

func (l *Launch) command(files []*os.File, death syscall.Signal) *exec.Cmd {
	cmd := exec.Command(l.Path, l.Args...)
	if l.Name != "" {
		cmd.Args[0] = l.Name
	}
	cmd.Dir, cmd.Env, cmd.SysProcAttr = l.Dir, l.Env, kernel.Child(death)
	for i, f := range files {
		switch {
		case i > 1:
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		case f == nil: // /dev/null
		case i == 0:
			cmd.Stdout = f
		default:
			cmd.Stderr = f
		}
	}
	return cmd
}

// run starts a child and sets its rlimits. It sets them while the child is stopped, or as soon as it runs; in the second case the first
// instructions have no limits.
func run(cmd *exec.Cmd, in *group, set []rlimit, stopped bool) error {
	if in != nil {
		kernel.StartInGroup(cmd.SysProcAttr, int(in.dir.Fd()))
	}
	cmd.SysProcAttr.Ptrace = stopped
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	var err error
	if stopped {
		err = restrict(pid, set)
	} else {
		err = prlimit(pid, set)
	}
	if err != nil {
		syscall.Kill(-pid, syscall.SIGKILL) //nolint:errcheck // it may have ended
		cmd.Wait()                          //nolint:errcheck // reaped, whatever it says
		return fmt.Errorf("the limits of the process: %w", err)
	}
	return nil
}

// thread is the [Starter] of this process: a goroutine with a thread of its own starts the children, for the reason that [Launcher] has.
type thread struct {
	work     chan func()
	done     chan struct{}
	launcher Launcher // only the goroutine uses it

	mu       sync.Mutex
	children map[int]*exec.Cmd // that were not waited for
}

func newThread() *thread {
	t := &thread{work: make(chan func()), done: make(chan struct{}), children: map[int]*exec.Cmd{}}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		defer close(t.done)
		for f := range t.work {
			f()
		}
	}()
	return t
}

// Start implements [Starter]. A child that does not outlive the node is killed with the thread.
func (t *thread) Start(l Launch, files []*os.File) (started Launched, err error) {
	death := syscall.SIGKILL
	if l.Outlives {
		death = 0
	}
	done := make(chan struct{})
	t.work <- func() {
		defer close(done)
		var cmd *exec.Cmd
		if cmd, started, err = t.launcher.Start(l, files, death); err != nil {
			return
		}
		t.mu.Lock()
		t.children[started.PID] = cmd
		t.mu.Unlock()
	}
	<-done
	return started, err
}

// Wait implements [Starter].
func (t *thread) Wait(pid int) (s Status, ok bool) {
	t.mu.Lock()
	cmd := t.children[pid]
	delete(t.children, pid)
	t.mu.Unlock()
	if cmd == nil {
		return s, false
	}
	cmd.Wait() //nolint:errcheck // the state says more than the error
	st := cmd.ProcessState
	if ws, is := st.Sys().(syscall.WaitStatus); is {
		return StatusOf(ws), true
	}
	return Status{Code: st.ExitCode()}, true
}

// Family implements [Starter]: the spawner makes one.
func (*thread) Family() string { return "" }

// Close ends the goroutine and its thread, and so every child that still lives and does not outlive this process.
func (t *thread) Close() {
	close(t.work)
	<-t.done
}
