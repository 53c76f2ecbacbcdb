package host

import (
	"github.com/helve-serve/helve/internal/shm"
	"github.com/helve-serve/helve/internal/wire"
)

// arenaSizeLocked is the size of each application's shared memory; less than 0: there is none.
func (ws *Workers) arenaSizeLocked() int64 {
	switch {
	case ws.noArena:
		return -1
	case ws.set.ArenaSize == 0:
		return shm.DefaultSize
	}
	return ws.set.ArenaSize
}

// memoryLocked is the application's arena, which is made for its first worker; nil without. Workers.mu is held.
func (ws *Workers) memoryLocked(a *App) *shm.Memory {
	size := ws.arenaSizeLocked()
	if a.memory != nil || size < 0 || a.closed || ws.closing {
		return a.memory
	}
	m, err := shm.New(a.name, size, ws.log)
	if err != nil {
		ws.log.Warn("there is no shared memory for large values: they travel over sockets", "app", a.name, "error", err)
		ws.noArena = true
		return nil
	}
	a.memory = m
	return m
}

// share lets a worker take part in its application's arena; nil if there is none.
func (ws *Workers) share(w *Worker) *wire.Arena {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	m := ws.memoryLocked(w.app)
	if m == nil || w.memory != nil {
		return nil
	}
	w.memory = m.Join(func(do func()) { ws.wg.Go(do) })
	return w.memory.Offer()
}
