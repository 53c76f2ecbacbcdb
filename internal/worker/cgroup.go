package worker

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/kernel"
)

// groups makes cgroups for children. The zero value works on the cgroup2 file system of this machine.
type groups struct {
	mount string // mount point of cgroup2; "" until it is found
	self  string // this process's cgroup in it
}

// group is one child's cgroup.
type group struct {
	path string
	dir  *os.File // open until the child is in it
}

var errNoCgroup2 = errors.New("no cgroup v2 file system is mounted")

// find sets mount and self.
func (g *groups) find() error {
	if g.mount != "" {
		return nil
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	mount := mountOf(mounts)
	if mount == "" {
		return errNoCgroup2
	}
	for line := range bytes.Lines(own) {
		if path, ok := bytes.CutPrefix(line, []byte("0::")); ok {
			g.mount, g.self = mount, strings.TrimSpace(string(path))
			return nil
		}
	}
	return errNoCgroup2
}

// mountOf is the mount point of cgroup2, or "". proc(5) has the fields: the mount point is the fifth, and
// the type the first after a lone hyphen.
func mountOf(mountinfo []byte) string {
	for line := range bytes.Lines(mountinfo) {
		before, after, ok := bytes.Cut(line, []byte(" - "))
		f := bytes.Fields(before)
		if ok && len(f) > 4 && bytes.HasPrefix(after, []byte("cgroup2 ")) && string(f[3]) == "/" {
			return string(f[4])
		}
	}
	return ""
}

// make makes a cgroup with limits. It must not be called concurrently.
func (g *groups) make(id string, l Limits) (*group, error) {
	if err := g.find(); err != nil {
		return nil, err
	}
	var need []string
	if l.CPUs > 0 {
		need = append(need, "cpu")
	}
	if l.MemoryBytes > 0 {
		need = append(need, "memory")
	}
	parent, err := g.parent(need)
	if err != nil {
		return nil, err
	}
	sweepGroups(parent)
	path, err := os.MkdirTemp(parent, groupOwner(os.Getpid())+id+"-")
	if err != nil {
		return nil, err
	}
	c := &group{path: path}
	if err := c.limit(l); err != nil {
		os.Remove(path) //nolint:errcheck // the first error counts
		return nil, err
	}
	return c, nil
}

func (c *group) limit(l Limits) (err error) {
	if l.MemoryBytes > 0 {
		if err := c.set("memory.max", strconv.FormatInt(l.MemoryBytes, 10)); err != nil {
			return err
		}
		// A worker that lost one of its processes is of no use, and swap would only delay its end.
		c.set("memory.oom.group", "1") //nolint:errcheck // not before Linux 4.19
		c.set("memory.swap.max", "0")  //nolint:errcheck // not there without swap accounting
	}
	if l.CPUs > 0 {
		if err := c.set("cpu.max", quota(l.CPUs)); err != nil {
			return err
		}
	}
	c.dir, err = os.Open(c.path)
	return err
}

func (c *group) set(file, value string) error {
	return os.WriteFile(filepath.Join(c.path, file), []byte(value), 0o644)
}

// started must be called when the child is in the cgroup.
func (c *group) started() { c.dir.Close() }

// parent finds a cgroup in which cgroups with the given controllers may be made. It is our own cgroup, or the one
// above it if that was delegated to us (systemd's DelegateSubgroup=). A cgroup that hands controllers on may hold no
// process, so this process moves into a new cgroup of its own first, with its children. It does so only if no other process is in the old one.
func (g *groups) parent(need []string) (string, error) {
	own := filepath.Join(g.mount, g.self)
	if has(own, "cgroup.subtree_control", need) && g.delegated(own) {
		return own, nil
	}
	if above := filepath.Dir(own); own != g.mount && has(above, "cgroup.subtree_control", need) && g.delegated(above) {
		return above, nil
	}
	switch {
	case !has(own, "cgroup.controllers", need):
		return "", fmt.Errorf("cgroup v2 has no %s controller for %s", strings.Join(need, " and "), own)
	case !g.delegated(own):
		return "", fmt.Errorf("the cgroup %s is not delegated to this process", own)
	}
	enable := []byte("+" + strings.Join(need, " +"))
	control := filepath.Join(own, "cgroup.subtree_control")
	err := os.WriteFile(control, enable, 0o644)
	if !errors.Is(err, syscall.EBUSY) {
		return own, err
	}
	procs, err := os.ReadFile(filepath.Join(own, "cgroup.procs"))
	if err != nil {
		return "", err
	}
	pids := bytes.Fields(procs)
	if slices.ContainsFunc(pids, func(pid []byte) bool { return !ours(string(pid)) }) {
		return "", fmt.Errorf("other processes are in the cgroup %s", own)
	}
	leaf := filepath.Join(own, "helve-node")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	for _, pid := range pids {
		if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), pid, 0o644); err != nil && !errors.Is(err, syscall.ESRCH) {
			return "", err
		}
	}
	return own, os.WriteFile(control, enable, 0o644)
}

// ours reports whether a process is this one or a child of it. For example, the cgroup of a service has its keeper and the node.
func ours(pid string) bool {
	if pid == strconv.Itoa(os.Getpid()) {
		return true
	}
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return true // it has ended
	}
	_, rest, _ := cutLast(stat, []byte(") ")) // the third field is the state, the fourth the parent
	f := bytes.Fields(rest)
	return len(f) > 1 && string(f[1]) == strconv.Itoa(os.Getpid())
}

// has reports whether a file with a list of controllers has all of them.
func has(dir, file string, need []string) bool {
	b, err := os.ReadFile(filepath.Join(dir, file))
	have := strings.Fields(string(b))
	return err == nil && !slices.ContainsFunc(need, func(c string) bool { return !slices.Contains(have, c) })
}

// delegated reports whether a cgroup is ours to divide. A user who is not root can write only to cgroups that were
// delegated to it. Root can write everywhere, also to cgroups that systemd manages. There two signs count: the mark
// that systemd sets, or that the cgroup is the root as this process sees it, as in a container.
func (g *groups) delegated(dir string) bool {
	const write = 2
	if syscall.Access(dir, write) != nil || syscall.Access(filepath.Join(dir, "cgroup.procs"), write) != nil {
		return false
	}
	if os.Geteuid() != 0 || dir == g.mount {
		return true
	}
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		if v, ok := kernel.Attribute(dir, name); ok && v == "1" {
			return true
		}
	}
	return false
}

// groupPrefix begins the names of the cgroups that nodes make. The process id of the node follows, and the time at
// which that process started: helve-worker-4711.123456-hello-2-987 is the cgroup of worker hello-2 of the node with
// the id 4711.
const groupPrefix = "helve-worker-"

func groupOwner(pid int) string {
	started, _ := startedAt(pid)
	return fmt.Sprintf("%s%d.%d-", groupPrefix, pid, started)
}

// ownerOf returns the node in the name of a cgroup; pid is 0 for other names.
func ownerOf(name string) (pid int, started uint64) {
	rest, ok := strings.CutPrefix(name, groupPrefix)
	owner, _, more := strings.Cut(rest, "-")
	a, b, dot := strings.Cut(owner, ".")
	if !ok || !more || !dot {
		return 0, 0
	}
	pid, err := strconv.Atoi(a)
	if started, serr := strconv.ParseUint(b, 10, 64); err == nil && serr == nil && pid > 0 {
		return pid, started
	}
	return 0, 0
}

// sweepGroups removes the cgroups of killed nodes, by their names. It leaves young ones alone, because their child
// may be about to start, under a node that this process may not see. The kernel refuses to remove a cgroup with
// processes.
func sweepGroups(parent string) {
	entries, _ := os.ReadDir(parent)
	for _, e := range entries {
		pid, started := ownerOf(e.Name())
		if pid == 0 || !e.IsDir() {
			continue
		}
		if now, err := startedAt(pid); err == nil && now == started {
			continue
		}
		if st, err := e.Info(); err == nil && time.Since(st.ModTime()) > staleAfter {
			syscall.Rmdir(filepath.Join(parent, e.Name())) //nolint:errcheck // it is in use
		}
	}
}

// oomKills is the number of processes of the cgroup that the kernel killed for lack of memory.
func (c *group) oomKills() int {
	f, err := os.Open(filepath.Join(c.path, "memory.events"))
	if err != nil {
		return 0
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		if n, ok := strings.CutPrefix(in.Text(), "oom_kill "); ok {
			k, _ := strconv.Atoi(n)
			return k
		}
	}
	return 0
}

// kill ends every process in the cgroup, also one that has left the child's process group.
func (c *group) kill() { c.set("cgroup.kill", "1") } //nolint:errcheck // not before Linux 5.14

// remove removes the cgroup. The kernel allows that when the last process in it has been reaped.
func (c *group) remove() {
	for end := time.Now().Add(pipeWait); ; time.Sleep(time.Millisecond) {
		if err := syscall.Rmdir(c.path); !errors.Is(err, syscall.EBUSY) || time.Now().After(end) {
			return // the next node's sweep tries again
		}
	}
}
