package host

import (
	"context"
	"errors"
	"sync"

	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/serving"
)

// A node hands its workers over to the next node while calls run in them. The gates of this node take no call any more. Each worker is told how many
// slots of each replica this node still holds, dials the next node at once, and keeps the connection to this one until the calls on it have
// ended. When a slot becomes free, this node tells the worker, and the worker tells the next node, whose gate had counted it as taken. The
// worker stands between the two because it can go on alone: if this node is killed meanwhile, the worker counts the calls itself.
//
// Example: a replica with two slots executes two calls under this node when the next node takes it over. The next gate begins full. The first
// call ends: its slot is given up here, and a call that waits at the next node gets it.

// Unlock gives up the directory of the workers, so that the next node can use it: workers dial its socket from now on. No worker is started any
// more. It comes after the last save of the node's state.
func (ws *Workers) Unlock() {
	ws.mu.Lock()
	ws.closing = true
	socket := ws.socket
	ws.mu.Unlock()
	if socket != nil {
		socket.Close()
	}
}

// HandOver hands the workers over to the next node. It comes after Unlock, and returns when each worker knows. A worker that does not know the
// request, because it is of an older version, changes over when its calls have ended.
func (ws *Workers) HandOver(ctx context.Context) {
	ws.mu.Lock()
	var all []*Worker
	for _, w := range ws.all {
		if w.proc == nil || w.proc.Identity().PID == 0 || w.ending.Swap(true) { // it ends with this node, or before
			continue
		}
		w.proc.Detach()
		if w.peer != nil {
			all = append(all, w)
		}
	}
	ws.mu.Unlock()
	var told sync.WaitGroup
	for _, w := range all {
		told.Add(1)
		ws.wg.Go(func() { w.handOver(ctx, told.Done) })
	}
	told.Wait()
}

// freed has the slots that became free since the worker was told.
type freed struct {
	changed chan struct{} // of one: full while slots may have something

	mu    sync.Mutex
	slots map[string]int // by replica
}

func (f *freed) add(replica string, n int) {
	f.mu.Lock()
	f.slots[replica] += n
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *freed) take() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.slots
	f.slots = map[string]int{}
	return all
}

// handOver hands one worker over. It returns when this node holds no slot there any more; told is called when the worker knows.
func (w *Worker) handOver(ctx context.Context, told func()) {
	ws := w.workers
	ws.mu.Lock()
	replicas := w.servingLocked()
	ws.mu.Unlock()
	f := freed{changed: make(chan struct{}, 1), slots: map[string]int{}}
	taken, left := map[string]int{}, 0
	for _, r := range replicas {
		r.inService.Store(false) // a worker that does not answer is the next node's concern
		n := r.Slots().Retire(func() { f.add(r.ID(), 1) })
		resumed := r.slots.ForgetResumed()
		f.add(r.ID(), -resumed)
		taken[r.ID()] = n - resumed
		left += n - resumed
		r.slots.Lend(false)
	}
	_, err := protocol.Ask(ctx, w.peer, protocol.Handover{Slots: taken})
	told()
	if err != nil {
		ws.log.Info("a worker changes over to the next node when its calls have ended", "app", w.app.name, "worker", w.id, "reason", err)
		w.finish(replicas)
		return
	}
	ws.log.Debug("a worker was handed over", "app", w.app.name, "worker", w.id, "slots", left)
	for left > 0 {
		select {
		case <-f.changed:
		case <-w.peer.Done():
			return
		}
		for id, n := range f.take() {
			left -= n
			protocol.Ask(ws.ctx, w.peer, protocol.FreeBlock{Replica: id, Slots: n}) //nolint:errcheck // the end of the connection says the same
		}
	}
}

// finish waits until the calls in a worker have ended, and then ends the connection: the worker dials the next node.
func (w *Worker) finish(replicas []*workerReplica) {
	serving.AwaitIdle(w.workers.ctx, func() bool {
		for _, r := range replicas {
			if r.Busy() {
				return true
			}
		}
		return false
	})
	w.peer.Close(errHandedOver)
}

var errHandedOver = errors.New("the next node has the worker")

// Leave ends the connections of a node that has handed over. The processes live on, and goroutines that watch them end with them.
func (ws *Workers) Leave() {
	ws.stop(errHandedOver)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.all {
		if w.peer != nil {
			w.peer.Close(errHandedOver)
		}
	}
	ws.openings.Close()
	if ws.spawner != nil {
		ws.spawner.Close() // its children outlive it
	}
}
