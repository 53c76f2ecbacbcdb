package node

// refuseCalls keeps calls from the worker's replicas; what runs may finish.
func (w *workerProc) refuseCalls() {
	n := w.node
	n.mu.Lock()
	var units []*Unit
	for _, d := range w.app.deployments {
		for _, u := range d.units {
			if u.worker == w {
				units = append(units, u)
			}
		}
	}
	n.mu.Unlock()
	for _, u := range units {
		u.gate.Close()
		u.lane.close()
	}
}
