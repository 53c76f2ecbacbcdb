package gate

// Retire ends admission for good, as Close does, and says how many slots are taken. From then on the gate calls released
// once for each slot that is given back, on the goroutine that gave it back; released must not block.
//
// A node retires its gates when it hands its replicas over to the next node. For example, three calls run at a replica with
// four slots. Retire says three, and the gate of the next node begins with three slots taken. It gets one back for each call
// of released, so that both nodes together never execute more than four calls.
//
// No slot is missed or counted twice: the closed bit is set in the step that reads the number of slots, so a Release has
// come before that step, or sees the bit and calls released.
func (g *Gate) Retire(released func()) (taken int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.onReleased.Store(&released)
	g.waiters = nil
	for {
		s := g.state.Load()
		if g.state.CompareAndSwap(s, (s|closedBit)&^waitingBit) {
			return int(s & countMask)
		}
	}
}

// released tells the owner of a retired gate of a slot that was given back.
func (g *Gate) released() {
	if f := g.onReleased.Load(); f != nil {
		(*f)()
	}
}
