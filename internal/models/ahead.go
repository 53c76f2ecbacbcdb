package models

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// RefusedError says that a model was not loaded ahead, because it would have cost a model that is worth more.
type RefusedError struct{ text string }

func (e *RefusedError) Error() string { return e.text }

func errNoRoom[M any](e *entry[M]) error {
	return &RefusedError{fmt.Sprintf("no room for %s: every model that is loaded is in use or was used later", e.id)}
}

// Unused is, for each loaded model, the time since its last use; 0 for a model in use.
func (c *Cache[M]) Unused() map[string]time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]time.Duration, c.recent.Len())
	for el := c.recent.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry[M])
		if all[e.id] = 0; e.users == 0 {
			all[e.id] = time.Since(e.used)
		}
	}
	return all
}

// LoadAhead loads a model for which no call has come here, and returns when it is loaded. unused is the time since its
// last use at the replica that has it. The model makes room as a call's model does, but takes the place of no model that
// was used later: then LoadAhead returns a [*RefusedError]. In the queue it is behind the models that calls wait for. A call that asks for the model
// meanwhile makes the load its own, and a model that loads or is loaded already is waited for. The end of ctx ends the wait, and
// the load if no call waits for it.
func (c *Cache[M]) LoadAhead(ctx context.Context, id string, unused time.Duration) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return errClosed()
	}
	e := c.entries[id]
	if e != nil && e.place != nil {
		c.mu.Unlock()
		return nil
	}
	fresh := e == nil
	if fresh {
		e = &entry[M]{id: id, ahead: true, used: time.Now().Add(-unused)}
		c.beginLocked(ctx, e)
	}
	e.waiters++
	c.mu.Unlock()
	if fresh {
		c.notify()
	}
	select {
	case <-e.ready:
	case <-ctx.Done():
		if c.abandon(ctx, e) {
			return call.FromContext(ctx)
		}
	}
	if e.err != nil { // e.err was set before ready was closed
		c.notify() // schedule, which refuses a model in the queue, does not tell
		return e.err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.releaseLocked(e)
	return nil
}

// askedLocked notes that a call asks for a model that is here, or loads or waits for its load: the load is no longer ahead of its calls. mu is held.
func (c *Cache[M]) askedLocked(e *entry[M]) {
	was := e.ahead
	e.ahead, e.used = false, time.Now()
	if i := slices.Index(c.queue, e); was && i >= 0 {
		c.queue = slices.Delete(c.queue, i, i+1)
		c.enqueueLocked(e)
	}
}

// older reports whether the model that would make room for e was used before e. mu is held.
func (c *Cache[M]) older(e *entry[M]) bool {
	old := c.oldest()
	return old != nil && old.used.Before(e.used)
}

// placeLocked puts a model that is loaded now among the others: in front, or, if no call has asked for it, where its last use
// belongs. For example, a model that was used five minutes ago at another replica goes before a model that a call here needs. mu is held.
func (c *Cache[M]) placeLocked(e *entry[M]) *list.Element {
	if e.ahead {
		for el := c.recent.Front(); el != nil; el = el.Next() {
			if el.Value.(*entry[M]).used.Before(e.used) {
				return c.recent.InsertBefore(e, el)
			}
		}
		return c.recent.PushBack(e)
	}
	e.used = time.Now()
	return c.recent.PushFront(e)
}
