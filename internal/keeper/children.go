package keeper

import (
	"fmt"
	"os"
	"syscall"

	"github.com/helve-serve/helve/internal/worker"
)

// child is a process that the keeper has started and waits for.
type child struct {
	PID    int            `json:"pid"`
	Kind   string         `json:"kind"`
	ID     string         `json:"id,omitempty"`     // of a worker
	Status *worker.Status `json:"status,omitempty"` // nil while it runs; valid when done is closed, and guarded by Keeper.mu before

	done chan struct{} // closed when it has ended
}

const (
	kindNode   = "node"
	kindWorker = "worker"
	kindGuard  = "guard"
)

// startChild starts a process on the main thread.
func (k *Keeper) startChild(kind string, l worker.Launch, files []*os.File) (c *child, started worker.Launched, err error) {
	k.onMain(func() {
		k.spawning.Lock()
		defer k.spawning.Unlock()
		cmd, s, e := k.launcher.Start(l, files, syscall.SIGKILL)
		if err = e; err != nil {
			return
		}
		started, c = s, &child{PID: s.PID, Kind: kind, ID: l.ID}
		k.add(c)
		cmd.Process.Release() //nolint:errcheck // reap waits for it
	})
	return c, started, err
}

// add puts a child into the table. A child of its id that has ended is forgotten.
func (k *Keeper) add(c *child) {
	c.done = make(chan struct{})
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.children[c.PID] != nil {
		k.forgetLocked(c.PID)
	}
	k.children[c.PID] = c
}

func (k *Keeper) forgetLocked(pid int) {
	delete(k.children, pid)
	for i, of := range k.ended {
		if of == pid {
			k.ended = append(k.ended[:i:i], k.ended[i+1:]...)
			return
		}
	}
}

// reap waits for all children that have ended, and for the orphans of workers, which are children of this process too. The ends of the newest
// children are kept, because the next node may ask for them: a worker that ends while there is no node has an exit status all the same.
func (k *Keeper) reap() {
	for {
		k.spawning.Lock()
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		k.spawning.Unlock()
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil || pid <= 0:
			return
		case !status.Exited() && !status.Signaled():
			continue
		}
		k.mu.Lock()
		if c := k.children[pid]; c != nil && c.Status == nil {
			of := worker.StatusOf(status)
			c.Status = &of
			close(c.done)
			k.ended = append(k.ended, pid)
			if len(k.ended) > endedKept {
				k.forgetLocked(k.ended[0])
			}
		}
		k.mu.Unlock()
	}
}

// find is a child by its id; nil for a process that is none.
func (k *Keeper) find(pid int) *child {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.children[pid]
}

// how is the end of a process in words.
func how(s worker.Status) string {
	return worker.Exit{Code: s.Code, Signal: s.Signal}.Summary()
}

// exitStatus is the end of a process as a shell has it.
func exitStatus(s worker.Status) int {
	if s.Signal != 0 {
		return 128 + int(s.Signal)
	}
	return s.Code
}

// errNoChild is the error of a question about a process that is not a child.
func errNoChild(pid int) error { return fmt.Errorf("process %d is no child of the keeper", pid) }
