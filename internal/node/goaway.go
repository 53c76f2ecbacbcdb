package node

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
