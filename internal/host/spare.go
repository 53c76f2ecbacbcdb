package host

import (
	"context"
	"fmt"
	"time"

	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/protocol"
)

// prepareTime is how long the modules of a spare process may take to be imported before it is ready all the same.
const prepareTime = time.Minute

var unwatched = Launch{Waits: func(string) func() { return func() {} }} //nolint:gochecknoglobals // a constant, of a process that is no replica

// Warm has a process ready for the next start of the deployment, from now on: the interpreter runs, and the modules of the deployment are imported (warm_spare). It does not wait.
func (h *PythonWorker) Warm() {
	ws := h.App.workers
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.closing || h.warmed.Swap(true) {
		return
	}
	want := h.App.Spares.Claim(h.Deployment.Name)
	ws.wg.Go(func() {
		place, err := h.places()
		if err != nil {
			return // the start of a replica says it
		}
		if env, err := h.prepare(ws.ctx, unwatched, place); err == nil {
			of := h.launchSpec(h.Deployment.Name+"#spare", env, placement.Holding{}, place)
			want(of.spareKey(), func(ctx context.Context) (*Worker, error) { return h.startSpare(ctx, of) })
		}
	})
}

func (h *PythonWorker) startSpare(ctx context.Context, of launchSpec) (*Worker, error) {
	w, err := h.App.workers.spawn(ctx, h.App, of)
	if err != nil {
		return nil, err
	}
	if code, release, err := h.code(); err == nil {
		defer release()
		ctx, cancel := context.WithTimeout(ctx, prepareTime)
		defer cancel()
		protocol.Ask(ctx, w.peer, protocol.Prepare{Deployment: h.Deployment.Name, Code: &code}) //nolint:errcheck // a start in it says what is wrong
	}
	return w, nil
}

// spareKey identifies the process of a start: a spare one of the same key is as good. A process with GPUs has a key of its own.
func (of *launchSpec) spareKey() string {
	return fmt.Sprint(of.program, of.extra, of.limits, of.after, of.construct, len(of.holding.Devices) > 0)
}

// employ gives a spare process the name of its replica, and the resources that it holds.
func (w *Worker) employ(of launchSpec) {
	ws := w.workers
	out := ws.newOutput(w, of.name, of.deployment, of.replica)
	ws.mu.Lock()
	w.holding = of.holding
	ws.mu.Unlock()
	w.out.Swap(out).Close()
}

// Ended is closed when the process has ended, and everything on its connection was answered.
func (w *Worker) Ended() <-chan struct{} { return w.stopped }

// End ends a spare process.
func (w *Worker) End() { w.Stop(w.workers.ctx) }
