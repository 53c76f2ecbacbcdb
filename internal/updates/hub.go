// Package updates tells readers the changes of a node: of its state, its objects and their figures. The readers are pages that people leave open.
//
// A [Hub] looks at the node once a second while there is a reader, and at once when the node has an event; all readers share the look. The hub remembers for each reader the objects and figures that it has been told, and
// each item has the difference between that and the newest look. So a reader that is slow gets fewer and larger items, does not hold up the node or other readers, and learns of each change that is still true. For example,
// a replica starts, fails and is replaced while a reader does not read: its next item has the new replica, and the old one as gone.
//
// Figures change all the time, states seldom. An item with figures is followed by the next one with figures no sooner than a second later, and later if it was large, so that a reader
// of a node with very many objects gets at most [bytesSecond] bytes a second. A change of a state does not wait for that.
package updates

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/telemetry"
)

const (
	// period is the time between two looks while nothing happens.
	period = time.Second
	// gap is the least time between two looks. It is longer after a look that took long: see busyPart.
	gap = 100 * time.Millisecond
	// busyPart is how many times as long as a look the node does not look after it, so that looks take at most a fifth of one processor.
	busyPart = 4
	// bytesSecond bounds the bytes of figures that a reader gets, on average.
	bytesSecond = 50_000
	// idle is the time without an item after which a reader gets an empty one, by which it knows that the node is there.
	idle = 10 * time.Second
)

// Source is the node.
type Source interface {
	// Facts looks at the node.
	Facts(ctx context.Context) *Facts
	// Events are the transitions of its objects.
	Events() *telemetry.Events
}

// View names the objects that a reader wants beside the node and its applications: the deployments and edges of an application, the replicas of a deployment, or one replica. Empty fields are for none.
type View struct {
	App, Deployment, Replica string
	// AllReplicas is for the replicas of all deployments of the node. Deployment and Replica are empty then.
	AllReplicas bool
}

// Hub looks at a node for its readers. Its methods may be called from any goroutine. Make one with [New].
type Hub struct {
	source Source
	ctx    context.Context // of the node

	mu      sync.Mutex
	readers int
	stop    context.CancelFunc // of the looks; nil while there is no reader
	newest  *state
	changed chan struct{} // closed with the next state
}

// New makes a hub without readers. It ends with ctx.
func New(ctx context.Context, source Source) *Hub {
	return &Hub{source: source, ctx: ctx, changed: make(chan struct{})}
}

// Follow gives items to send, the first of which is whole, until ctx or the node ends, or send returns an error, which it returns.
func (h *Hub) Follow(ctx context.Context, of View, send func(item json.RawMessage) error) error {
	h.enter()
	defer h.leave()
	var m memory
	var last *state
	var figuresAt, sentAt time.Time
	for {
		s, err := h.next(ctx, last)
		if err != nil {
			return err
		}
		now := time.Now()
		out := m.next(s, of, !now.Before(figuresAt))
		last = s
		if out.empty() && now.Sub(sentAt) < idle {
			continue
		}
		b := encode(out)
		if !out.Figures.IsZero() {
			wait := period - gap // the next look may come a little early
			if !out.Whole {
				wait = max(wait, time.Duration(len(b))*time.Second/bytesSecond)
			}
			figuresAt = now.Add(wait)
		}
		sentAt = now
		if err := send(b); err != nil {
			return err
		}
	}
}

func (h *Hub) enter() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readers++; h.stop == nil {
		var ctx context.Context
		ctx, h.stop = context.WithCancel(h.ctx)
		go h.look(ctx)
	}
}

func (h *Hub) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readers--; h.readers == 0 {
		h.stop()
		h.stop, h.newest = nil, nil // the look would be old for the next reader, and is large
	}
}

// next waits for another state than the last one.
func (h *Hub) next(ctx context.Context, last *state) (*state, error) {
	for {
		h.mu.Lock()
		s, changed := h.newest, h.changed
		h.mu.Unlock()
		if s != nil && s != last {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-h.ctx.Done():
			return nil, context.Cause(h.ctx)
		}
	}
}

// look looks at the node until ctx ends.
func (h *Hub) look(ctx context.Context) {
	events := make(chan struct{}, 1)
	go h.watch(ctx, events)
	for ctx.Err() == nil {
		begun := time.Now()
		s := newState(h.source.Facts(ctx))
		took := time.Since(begun)
		h.mu.Lock()
		if ctx.Err() == nil { // else the looks of another reader may have begun
			h.newest = s
			close(h.changed)
			h.changed = make(chan struct{})
		}
		h.mu.Unlock()
		rest := max(gap, busyPart*took)
		if !sleep(ctx, rest) {
			return
		}
		tick := time.NewTimer(max(period-took-rest, 0))
		select {
		case <-events:
		case <-tick.C:
		case <-ctx.Done():
		}
		tick.Stop()
	}
}

// watch says that there are events.
func (h *Hub) watch(ctx context.Context, events chan<- struct{}) {
	after := h.source.Events().Last()
	for {
		all, _, err := h.source.Events().Next(ctx, after, 256)
		if err != nil {
			return
		}
		after = all[len(all)-1].ID
		select {
		case events <- struct{}{}:
		default: // the next look sees it
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
