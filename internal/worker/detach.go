package worker

// Detach leaves a child that outlives this process to the next node, which has adopted it or is about to: this process reads its pipes no more,
// and neither kills nor stops it. [Process.Done] still tells of its end. For example, a node hands its workers over and has calls of its own to
// finish: a line that a worker prints meanwhile is in the log of the next node, as a whole.
func (p *Process) Detach() {
	if p.detached.Swap(true) || p.id.PID == 0 {
		return
	}
	closeAll(p.pipes[:])
}
