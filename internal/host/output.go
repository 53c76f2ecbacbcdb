package host

import (
	"time"

	"github.com/helve-serve/helve/internal/output"
	"github.com/helve-serve/helve/internal/worker"
)

// newOutput opens the worker's output. deployment and replica are "" for a Go worker, whose lines may be any replica's.
func (ws *Workers) newOutput(w *Worker, name, deployment, replica string) *output.Output {
	return ws.output.Open(output.Source{
		Name: name, App: w.app.name, Worker: w.id, Deployment: deployment, Replica: replica, Hide: ws.set.Secrets.ScrubLine,
		Unresponsive: func(since time.Time, stacks string) { ws.unresponsive(w, since, stacks, true) },
		Responsive:   func() { ws.responsive(w, time.Now()) },
	})
}

// reporting sets the destinations of a worker's lines and reports. The Go runtime reports crashes, and a Python worker all the rest.
func (ws *Workers) reporting(w *Worker, crash bool, c worker.Command) worker.Command {
	c.Output = func(stream string, text []byte) { w.out.Load().Line(stream, text) }
	c.Report = func(text []byte) []byte { return w.out.Load().Report(text) }
	c.Hide, c.Crash = ws.set.Secrets.ScrubLine, crash
	return c
}

// logLimits says how a worker's limits hold, and once per node that CPU time is not limited.
func (ws *Workers) logLimits(w *Worker, l worker.Limits) {
	if l == (worker.Limits{}) {
		return
	}
	e := w.proc.Enforcement()
	ws.log.Info("limits of a worker", "app", w.app.name, "worker", w.id, "limits", l.String(),
		"memory_by", e.Memory, "cpus_by", e.CPUs)
	if l.CPUs > 0 && e.CPUs == "" && !ws.cpusReported.Swap(true) {
		ws.log.Warn("num_cpus is not enforced on this machine, which takes a cgroup v2", "reason", e.Why)
	}
}
