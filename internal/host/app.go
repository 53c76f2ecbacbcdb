package host

import (
	"context"
	"slices"
	"sync"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/secret"
	"github.com/helve-serve/helve/internal/shm"
	"github.com/helve-serve/helve/internal/spare"
	"github.com/helve-serve/helve/internal/trace"
)

// App is the part of an application that its workers share: the Go workers by key, and shared memory for large values.
//
// Replicas of Go deployments share one process if their keys are equal, of different revisions too: the key says how the process is
// started. For example, a deploy that changes the number of replicas has the key of the revision before, and the new replicas start in
// the worker that runs; a deploy of another executable starts a worker beside it.
type App struct {
	workers *Workers
	name    string

	mu        sync.Mutex
	goWorkers map[string]*goWorkerSlot // by key

	Spares spare.Pool[*Worker] // processes for the next starts of Python replicas

	// Guarded by Workers.mu.
	memory *shm.Memory // nil until the first worker, or for good
	closed bool
}

// goWorkerSlot is the place of one Go worker.
type goWorkerSlot struct {
	worker *Worker       // nil while there is none
	up     chan struct{} // closed when the worker that is being started or taken over is up or has failed; nil for none
	err    error         // why it failed
	gaveUp bool          // the replica that had it started was not wanted any more
}

// NewApp makes the part of an application that its workers share.
func (ws *Workers) NewApp(name string) *App {
	return &App{workers: ws, name: name, goWorkers: map[string]*goWorkerSlot{}}
}

// Memory is the account of the application's shared memory; nil if there is none.
func (a *App) Memory() *helvetype.SharedMemory {
	a.workers.mu.Lock()
	m := a.memory
	a.workers.mu.Unlock()
	return m.Status()
}

// goWorker gives the Go worker of a key, which start starts if need be.
func (a *App) goWorker(ctx context.Context, key string, start func() (*Worker, error)) (*Worker, error) {
	for {
		a.mu.Lock()
		s := a.slotLocked(key)
		// A worker that was idle and is being ended is of no use. For example, an application changes from one build to another and back at
		// once: the worker of the first build is on its way out, and another one starts.
		if w := s.worker; w != nil && !w.ending.Load() {
			a.mu.Unlock()
			return w, nil
		}
		up := s.up
		if up == nil {
			up = make(chan struct{})
			s.up = up
			a.mu.Unlock()
			w, err := start()
			a.mu.Lock()
			s.gaveUp = err != nil && ctx.Err() != nil
			s.settle(w, err)
			a.mu.Unlock()
			return w, err
		}
		a.mu.Unlock()
		<-up
		a.mu.Lock()
		err, again := s.err, s.gaveUp && ctx.Err() == nil
		a.mu.Unlock()
		if err != nil && !again {
			return nil, err
		}
	}
}

func (a *App) slotLocked(key string) *goWorkerSlot {
	s := a.goWorkers[key]
	if s == nil {
		s = &goWorkerSlot{}
		a.goWorkers[key] = s
	}
	return s
}

// settle lets the starts go on that wait for the worker. With neither worker nor error they start another. App.mu is held.
func (s *goWorkerSlot) settle(w *Worker, err error) {
	s.worker, s.err = w, err
	if w != nil {
		select {
		case <-w.stopped: // died at once
			s.worker = nil
		default:
		}
	}
	if s.up != nil {
		close(s.up)
		s.up = nil
	}
}

// expect has starts wait for a Go worker that is taken over, until settled is called.
func (a *App) expect(key string) (settled func(w *Worker)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.slotLocked(key)
	s.up = make(chan struct{})
	return func(w *Worker) {
		a.mu.Lock()
		defer a.mu.Unlock()
		s.settle(w, nil)
	}
}

// ended forgets a Go worker whose process has ended.
func (a *App) ended(w *Worker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.goWorkers[w.key]; s != nil && s.worker == w {
		s.worker = nil
	}
}

// running are the Go workers that run.
func (a *App) running() (ws []*Worker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.goWorkers {
		if s.worker != nil {
			ws = append(ws, s.worker)
		}
	}
	return ws
}

// EndIdle ends the Go workers without replicas, except those of the keys that the current revision uses. It does not wait.
func (a *App) EndIdle(keep []string) {
	ws := a.workers
	for _, w := range a.running() {
		ws.mu.Lock()
		idle := len(w.replicas) == 0
		ws.mu.Unlock()
		if idle && !slices.Contains(keep, w.key) && !w.ending.Swap(true) {
			ws.wg.Go(func() { w.Stop(ws.ctx) })
		}
	}
}

// Close ends the Go workers and the shared memory of an application whose replicas are gone.
func (a *App) Close(ctx context.Context) {
	for _, w := range a.running() {
		w.Stop(ctx)
	}
	a.Spares.Close()
	a.workers.mu.Lock()
	m := a.memory
	a.closed = true
	a.workers.mu.Unlock()
	m.Close()
	a.workers.code.Drop(a.name)
}

// Secrets are the values that the node puts in the place of placeholders; nil for an application without a node of its own, in a test.
func (a *App) Secrets() *secret.Resolver {
	if a == nil {
		return nil
	}
	return a.workers.set.Secrets
}

// Trace takes the records of calls; nil for none.
func (a *App) Trace() *trace.Recorder {
	if a == nil {
		return nil
	}
	return a.workers.set.Trace
}
