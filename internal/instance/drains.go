package instance

import "sync"

// Drains say to the code of the replicas in this process that a drain has begun. The code finds the drain of its replica by the replica's id, which
// every call has; a field in the information of a call would cost all calls memory, and few ask. The zero value is ready, and a nil Drains has no
// replicas.
//
// Example: a deploy replaces the replica Chat#003, whose handler serves a WebSocket without an end. Begin("Chat#003") closes the channel that Of
// gave to the handler, which asks its client to connect again.
type Drains struct{ all sync.Map } // *drain by the replica's id

type drain struct {
	begun chan struct{}
	once  sync.Once
}

// Add adds a replica that is about to start. If it is there already, its drain is one that has not begun: another node has taken the replica over.
func (d *Drains) Add(replica string) {
	if d != nil {
		d.all.Store(replica, &drain{begun: make(chan struct{})})
	}
}

// Begin begins the drain of a replica.
func (d *Drains) Begin(replica string) {
	if c := d.find(replica); c != nil {
		c.once.Do(func() { close(c.begun) })
	}
}

// Forget removes a replica that has stopped.
func (d *Drains) Forget(replica string) {
	if d != nil {
		d.all.Delete(replica)
	}
}

// Of is closed when the drain of the replica begins. It is nil for a replica that is not here.
func (d *Drains) Of(replica string) <-chan struct{} {
	if c := d.find(replica); c != nil {
		return c.begun
	}
	return nil
}

func (d *Drains) find(replica string) *drain {
	if d == nil {
		return nil
	}
	c, _ := d.all.Load(replica)
	found, _ := c.(*drain)
	return found
}
