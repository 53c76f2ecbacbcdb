package keeper

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"time"
)

// exec replaces the program of the keeper by the executable at path. The children stay children of this process, and the next program goes on with
// the same descriptors and requests. It returns only if it fails, and the keeper goes on as before.
func (k *Keeper) exec(path string) (err error) {
	k.onMain(func() { err = k.execOnMain(path) })
	return err
}

func (k *Keeper) execOnMain(path string) error {
	k.mu.Lock()
	nodes, current, draining := slices.Clone(k.nodes), k.current, k.draining
	k.mu.Unlock()
	if draining != "" { // the next program would not know it, and would start a node again that has drained
		return errors.New("the keeper is draining: " + draining)
	}
	for _, n := range nodes {
		n.conn.stopReader()
		defer n.conn.resumeReader()
	}
	k.finishStarts()
	k.spawning.Lock() // no child is started or reaped until the next program does
	defer k.spawning.Unlock()
	s := State{Config: k.config, Listeners: k.listeners, Mark: k.mark, Socket: k.socket, Family: k.family, Since: k.since, Guard: k.guard}
	var copies []*os.File
	defer func() { closeFiles(copies) }()
	for _, n := range nodes {
		n.conn.write.Lock() // no half of a line is written
		defer n.conn.write.Unlock()
		f, err := n.conn.nc.File()
		if err != nil {
			return err
		}
		copies = append(copies, f)
		of, err := n.state(f)
		if err != nil {
			return err
		}
		of.Current = n == current
		s.Nodes = append(s.Nodes, of)
	}
	k.mu.Lock()
	s.Starts, s.LastEnd, s.EverRan = k.starts, k.lastEnd, k.everRan
	for _, c := range k.children {
		s.Children = append(s.Children, &child{PID: c.PID, Kind: c.Kind, ID: c.ID, Status: c.Status})
	}
	k.mu.Unlock()
	return s.Exec(path)
}

// finishStarts starts the children of which nodes have asked already, and waits until the nodes have the answers. It runs on the main thread.
func (k *Keeper) finishStarts() {
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for k.starting.Load() > 0 {
		select {
		case f := <-k.main:
			f()
		case <-look.C:
		}
	}
}

// state describes the node for the next program, which gets the connection as a descriptor of f.
func (n *node) state(f *os.File) (s nodeState, err error) {
	n.conn.mu.Lock()
	defer n.conn.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	s = nodeState{PID: n.child.PID, Last: n.conn.last, Rest: n.conn.rest, Ready: n.readyOn, Version: n.version, URLs: n.urls}
	if s.FD, err = descriptor(f); err != nil {
		return s, err
	}
	for _, f := range n.conn.received {
		fd, err := descriptor(f)
		if err != nil {
			return s, err
		}
		s.Files = append(s.Files, fd)
	}
	for id, pid := range n.waits {
		s.Waits = append(s.Waits, waitState{ID: id, PID: pid})
	}
	return s, nil
}

// resume takes the nodes of the program before.
func (k *Keeper) resume(s State) {
	for _, of := range s.Nodes {
		c := k.find(of.PID)
		nc, err := connOf(of.FD)
		if c == nil || err != nil {
			k.out.error("a node is lost", "pid", of.PID, "error", err)
			if c != nil {
				syscall.Kill(c.PID, syscall.SIGKILL) //nolint:errcheck // it may have ended
			}
			continue
		}
		n := k.follow(c, nc, of)
		if of.Current {
			k.mu.Lock()
			k.current = n
			k.mu.Unlock()
		}
	}
	k.resumeUpgrade()
}
