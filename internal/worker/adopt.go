package worker

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/helve-serve/helve/internal/kernel"
)

// Identity has the facts with which another process can [Adopt] a child that outlives its parent. A process id alone
// may belong to another process by then: Started, in clock ticks since boot (proc(5), field 22), tells the two apart.
type Identity struct {
	PID         int         `json:"pid"`
	Started     uint64      `json:"started"`
	Pipes       [3]string   `json:"pipes"` // paths of the pipes of stdout, stderr and the report stream; "" for none
	Group       string      `json:"group,omitempty"`
	Family      string      `json:"family"`              // the family name of its descendants
	CountsFD    int         `json:"counts_fd,omitempty"` // the child's descriptor of [Command].Counts, 0 for none
	Limits      Limits      `json:"limits"`
	Enforcement Enforcement `json:"enforcement"`
}

// ErrGone is the error of [Adopt] for a process that has ended.
var ErrGone = errors.New("the process has ended")

// Identity returns the identity of a child that was started to outlive this process.
func (p *Process) Identity() Identity { return p.id }

func (p *Process) identify(c Command) {
	if c.Outlives == "" {
		return
	}
	p.id = Identity{PID: p.pid, Pipes: c.pipePaths(), Family: p.family, CountsFD: c.countsFD(), Limits: p.limits, Enforcement: p.enforcement}
	p.id.Started, _ = startedAt(p.pid) // a child that has ended already has no successor
	if p.group != nil {
		p.id.Group = p.group.path
	}
}

func (c *Command) pipePaths() (paths [len(streams)]string) {
	for i, stream := range streams {
		if c.has(stream) {
			paths[i] = filepath.Join(c.Outlives, c.ID+"."+stream)
		}
	}
	return paths
}

// PipeOf returns the id of the worker whose pipe has this name, in the directory [Command].Outlives. The result ok is
// false for other files.
func PipeOf(name string) (id string, ok bool) {
	for _, stream := range streams {
		if id, ok := strings.CutSuffix(name, "."+stream); ok && id != "" {
			return id, true
		}
	}
	return "", false
}

// RemoveStrayPipes removes the pipes of workers that are not known, and gives the highest number at the end of their ids; 0 if there are none.
// Such workers may still live, until they are told that no node expects them: no worker of this node may be taken for one of them. Files that have
// such a name and are no pipes are not the node's.
func RemoveStrayPipes(dir string, known func(id string) bool) (highest uint64) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		name, ok := PipeOf(e.Name())
		if !ok || e.Type() != fs.ModeNamedPipe || known(name) {
			continue
		}
		if number, err := strconv.ParseUint(name[strings.LastIndexByte(name, '-')+1:], 10, 64); err == nil {
			highest = max(highest, number)
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	return highest
}

// pipe makes the pipe for one output stream of a child. A child that outlives this process holds both ends of a named
// pipe, so that a write does not fail while no process reads: it waits when the pipe is full.
func (c *Command) pipe(stream string) (r, w *os.File, err error) {
	if c.Outlives == "" {
		return os.Pipe()
	}
	path := filepath.Join(c.Outlives, c.ID+"."+stream)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	// os.OpenFile would make the child's descriptor non-blocking.
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	w = os.NewFile(uintptr(fd), path)
	if r, err = os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0); err != nil {
		w.Close()
		return nil, nil, err
	}
	const capacity = 1 << 20 // bytes that a child can print while no process reads; the largest size (pipe-max-size) for an ordinary user
	kernel.SetPipeSize(fd, capacity)
	return r, w, nil
}

func (i Identity) removePipes() {
	for _, path := range i.Pipes {
		if path != "" {
			os.Remove(path)
		}
	}
}

// startedAt is the time at which a process began, in clock ticks since boot.
func startedAt(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The second field, the name, is in parentheses and may hold any character; the third is the state.
	_, rest, _ := cutLast(b, []byte(") "))
	f := bytes.Fields(rest)
	if len(f) < 20 || string(f[0]) == "Z" {
		return 0, ErrGone
	}
	return strconv.ParseUint(string(f[19]), 10, 64)
}

func cutLast(b, sep []byte) (before, after []byte, ok bool) {
	if i := bytes.LastIndex(b, sep); i >= 0 {
		return b[:i], b[i+len(sep):], true
	}
	return b, nil, false
}

// Adopt takes over a child that a process before this one has spawned. It uses the fields Output, Hide, Report and Crash of c. The exit code
// of the child is known only if the [Starter] of both is the same, such as one keeper: see [Exit].Adopted. If the child has ended
// already, the error is ErrGone, and its descendants and its cgroup are removed.
func (s *Spawner) Adopt(i Identity, c Command) (*Process, error) {
	gone := func() (*Process, error) {
		i.removePipes()
		if i.Family != "" {
			endFamily(i.Family, false)
		}
		if i.Group != "" {
			g := group{path: i.Group}
			g.kill()
			syscall.Rmdir(i.Group) //nolint:errcheck // the next sweep may try again
		}
		return nil, ErrGone
	}
	// The descriptor comes first, then the question: the answer is then about the process of the descriptor.
	fd, err := pidfdOpen(i.PID)
	if errors.Is(err, syscall.ESRCH) {
		return gone()
	}
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", i.PID, err)
	}
	if started, err := startedAt(i.PID); err != nil || started != i.Started {
		syscall.Close(fd) //nolint:errcheck // it was only looked at
		return gone()
	}
	p := &Process{pid: i.PID, id: i, done: make(chan struct{}), limits: i.Limits, enforcement: i.Enforcement, exit: Exit{killsBefore: -1}}
	p.family = i.Family
	if i.Group != "" {
		p.group = &group{path: i.Group}
	}
	var pipes [len(streams)]*os.File
	for k, path := range i.Pipes {
		if path == "" || !c.has(streams[k]) {
			continue
		}
		if pipes[k], err = os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0); err != nil {
			syscall.Close(fd) //nolint:errcheck // as above
			closeAll(pipes[:])
			return nil, err
		}
	}
	p.follow(pipes, c, func() { awaitExit(fd); p.reap(s.starter) })
	return p, nil
}

// awaitExit waits until the process of a pidfd has ended, which makes the descriptor readable, and closes the
// descriptor.
func awaitExit(fd int) {
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	asked := false
	if c, err := f.SyscallConn(); err == nil {
		c.Read(func(uintptr) bool { //nolint:errcheck // nobody else closes it
			first := !asked
			asked = true
			return !first
		})
	}
}

// pidfdOpen is pidfd_open(2), whose number is the same on every architecture; the descriptor is close-on-exec. Since
// Linux 5.3.
func pidfdOpen(pid int) (int, error) {
	const number = 434
	fd, _, e := syscall.Syscall(number, uintptr(pid), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(fd), syscall.SetNonblock(int(fd), true) // for the runtime's poller
}
