package node

import "time"

// refuseCalls keeps calls from the worker's replicas; what runs may finish.
func (w *workerProc) refuseCalls() {
	n := w.node
	n.mu.Lock()
	units := w.unitsLocked()
	n.mu.Unlock()
	for _, u := range units {
		u.gate.Close()
		u.lane.close()
	}
}

// leaveTime is how long a worker may take to end that has said that it does.
const leaveTime = 5 * time.Second

// awaitLeft sees that a worker ends which has said so. It may be held up, example: code in C that keeps Python's lock. Until its
// process has ended nothing takes the place of its replicas.
func (w *workerProc) awaitLeft() {
	late := time.NewTimer(leaveTime)
	defer late.Stop()
	select {
	case <-w.proc.Done():
	case <-w.node.ctx.Done():
	case <-late.C:
		w.node.log.Warn("a worker that goes away has not ended, and is killed", "app", w.app.name, "worker", w.id, "after", leaveTime)
		w.proc.Kill()
	}
}
