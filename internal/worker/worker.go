// Package worker starts and ends child processes, and owns the socket on which they dial in. It knows no protocol.
// Linux only: it relies on process groups, Pdeathsig and SO_PEERCRED.
package worker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Command says what to start.
type Command struct {
	Path  string
	Args  []string
	Dir   string
	Env   []string
	ID    string
	Token [32]byte // handed over by a pipe, whose descriptor is in HELVE_TOKEN_FD
	// Output gets every line that the child prints, without its end, on a goroutine of its own per stream
	// ("stdout", "stderr"). The line is valid only during the call. May be nil.
	Output func(stream string, line []byte)
}

const (
	tokenFD  = 3 // the first descriptor after the standard ones
	keptMax  = 50
	lineMax  = 64 << 10
	pipeWait = time.Second     // how long a grandchild may keep the output open after the child has ended
	termWait = 2 * time.Second // between SIGTERM and SIGKILL
)

// Spawner starts children, all on one goroutine that keeps its thread for itself: Pdeathsig fires when the thread that
// created a child ends, not when the process does (golang/go#27505), and the runtime ends threads as it likes.
type Spawner struct {
	work chan func()
	done chan struct{}
}

// NewSpawner starts the goroutine. Close ends it, and with its thread every child that still lives.
func NewSpawner() *Spawner {
	s := &Spawner{work: make(chan func()), done: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		defer close(s.done)
		for f := range s.work {
			f()
		}
	}()
	return s
}

// Close ends the spawner. Children must have ended before, or are killed by the kernel.
func (s *Spawner) Close() {
	close(s.work)
	<-s.done
}

// Process is one child. Its methods may be called from any goroutine.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	exit Exit // after done

	mu   sync.Mutex
	last []string // ring of the last lines of stderr
}

// Exit is how a process ended.
type Exit struct {
	Code   int            // -1 when a signal ended it
	Signal syscall.Signal // 0 when it exited by itself
	last   []string
}

// Reason says it in words, with the last lines that the process wrote to stderr.
func (e Exit) Reason() string {
	s := fmt.Sprintf("exit status %d", e.Code)
	switch {
	case e.Signal == syscall.SIGKILL:
		s = "killed by SIGKILL (by somebody, or by the kernel for lack of memory)"
	case e.Signal != 0:
		s = fmt.Sprintf("ended by signal %d (%s)", e.Signal, e.Signal)
	}
	if len(e.last) > 0 {
		s += ": " + strings.Join(e.last, "\n")
	}
	return s
}

// Start starts a child in a process group of its own, with /dev/null as its standard input.
func (s *Spawner) Start(c Command) (*Process, error) {
	tr, tw, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer tr.Close()
	_, err = tw.Write(c.Token[:]) // fits into the pipe
	if cerr := tw.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	p := &Process{done: make(chan struct{})}
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Dir, cmd.ExtraFiles = c.Dir, []*os.File{tr}
	cmd.Env = append(c.Env[:len(c.Env):len(c.Env)], fmt.Sprintf("HELVE_TOKEN_FD=%d", tokenFD))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd = cmd
	var pipes [2]*os.File
	for i, out := range []*io.Writer{&cmd.Stdout, &cmd.Stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer w.Close()
		*out, pipes[i] = w, r
	}
	started := make(chan error, 1)
	s.work <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		pipes[0].Close()
		pipes[1].Close()
		return nil, err
	}
	var readers sync.WaitGroup
	for i, stream := range []string{"stdout", "stderr"} {
		readers.Go(func() { p.read(stream, pipes[i], c.Output) })
	}
	go p.wait(&readers, pipes[:])
	return p, nil
}

func (p *Process) read(stream string, r io.Reader, output func(string, []byte)) {
	in := bufio.NewReaderSize(r, lineMax)
	for cut := false; ; {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 && !cut {
			text := strings.TrimRight(string(line), "\r\n")
			if stream == "stderr" && text != "" {
				p.keep(text)
			}
			if output != nil {
				output(stream, []byte(text))
			}
		}
		cut = errors.Is(err, bufio.ErrBufferFull) // the rest of a very long line is dropped
		if err != nil && !cut {
			return
		}
	}
}

func (p *Process) keep(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.last) == keptMax {
		p.last = append(p.last[:0], p.last[1:]...)
	}
	p.last = append(p.last, line)
}

// wait reaps the child, ends its group, and closes done when its output has been read.
func (p *Process) wait(readers *sync.WaitGroup, pipes []*os.File) {
	p.cmd.Wait()                                      //nolint:errcheck // the state says more
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // nobody may be left
	read := make(chan struct{})
	go func() { readers.Wait(); close(read) }()
	late := time.NewTimer(pipeWait)
	select {
	case <-read:
	case <-late.C: // somebody who left the group holds the pipe
	}
	late.Stop()
	for _, r := range pipes {
		r.Close() // ends the readers, if they have not
	}
	<-read
	st := p.cmd.ProcessState
	p.exit = Exit{Code: st.ExitCode(), last: p.last}
	if ws, ok := st.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		p.exit.Signal = ws.Signal()
	}
	close(p.done)
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended, was reaped, and its output was read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit is how it ended, after Done.
func (p *Process) Exit() Exit { return p.exit }

// Kill ends the child and its group at once. The process is reaped all the same: wait for Done.
func (p *Process) Kill() {
	select {
	case <-p.done:
	default:
		p.signal(syscall.SIGKILL)
	}
}

func (p *Process) signal(s syscall.Signal) {
	// The group is there as long as the child is not reaped, and wait alone reaps.
	syscall.Kill(-p.cmd.Process.Pid, s) //nolint:errcheck // it may have ended
}

// Stop waits until the child exits by itself, for at most grace; then it is asked by SIGTERM, then killed. It returns
// when the process is gone. The end of ctx shortens every wait.
func (p *Process) Stop(ctx context.Context, grace time.Duration) {
	for _, step := range []struct {
		wait   time.Duration
		signal syscall.Signal
	}{{grace, syscall.SIGTERM}, {termWait, syscall.SIGKILL}} {
		t := time.NewTimer(step.wait)
		select {
		case <-p.done:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		select {
		case <-p.done:
			return
		default:
			p.signal(step.signal)
		}
	}
	<-p.done
}
