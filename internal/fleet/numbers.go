package fleet

import (
	"os"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/telemetry"
)

// Numbers has the numbers of all deployments and replicas for readers that look at them every few seconds, such as the charts of the last hour. A look takes time for replicas with calls: the counts of
// a replica without calls are not read again. For example, of 10,000 replicas ten have had calls since the last look: those ten are read, and of the others two numbers each.
//
// One goroutine uses it at a time.
type Numbers struct {
	last      map[*Deployment]*telemetry.Deployment
	processes map[string]int // of the last look; not changed any more
}

// counted has the part of a look at a replica that the next look needs.
type counted struct {
	process int // 0 before the first look
	index   int // in the deployment's replicas of the last look
	started uint64
	// still says that the counts were read when the replica had had no call for the time between two looks: they change only when a call begins.
	still   bool
	callers map[telemetry.Caller]telemetry.CallerCounts
}

// Look gives the numbers of now, and the processes of the replicas by their ids, with this process under "". Of a deployment it has the name, Wanted, Ready, Queued, Rejected, Calls, Callers, Waits and the replicas, also
// the ones that are gone and have calls under way, of a replica ID, State, Running, Calls and Process. The numbers are the reader's until the next Look.
func (n *Numbers) Look(f *Fleet) (s telemetry.Snapshot, processes map[string]int) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	last := n.last
	n.last = make(map[*Deployment]*telemetry.Deployment, len(last))
	own, replicas, moved := os.Getpid(), 0, false
	for name, a := range f.Apps {
		app := telemetry.Application{Name: name, Deployments: make([]telemetry.Deployment, 0, len(a.Deployments))}
		if i := a.Current.Def.Graph.Ingress; i != nil {
			app.Ingress = i.Deployment
		}
		for _, d := range a.Deployments {
			m, others := d.countLocked(last[d], own)
			app.Deployments, moved = append(app.Deployments, m), moved || others
			n.last[d] = &app.Deployments[len(app.Deployments)-1]
			replicas += len(d.Replicas)
		}
		s.Applications = append(s.Applications, app)
	}
	if moved || len(n.processes) != replicas+1 {
		n.processes = f.processesLocked(replicas)
		n.processes[""] = own
	}
	return s, n.processes
}

// processesLocked are the processes of the replicas that have one.
func (f *Fleet) processesLocked(replicas int) map[string]int {
	all := make(map[string]int, replicas+1)
	for r := range f.ReplicasLocked {
		if r.counted.process > 0 {
			all[r.ID] = r.counted.process
		}
	}
	return all
}

// countLocked gives the numbers of a deployment. last has the numbers of the last look, nil for none, and is changed; others says that a replica has another process than at the last look.
func (d *Deployment) countLocked(last *telemetry.Deployment, own int) (m telemetry.Deployment, others bool) {
	d.Departed.Settle()
	if last == nil {
		last = &telemetry.Deployment{}
	}
	m = telemetry.Deployment{
		Name: d.Name, Wanted: d.Wanted, Queued: d.Serving.Router.Queued(), Rejected: d.Serving.Router.Rejected(), Calls: last.Calls, Waits: d.Serving.Router.Waits(), Ready: len(d.Serving.Router.Replicas()),
		Callers: map[telemetry.Caller]telemetry.CallerCounts{}, Replicas: last.Replicas,
	}
	d.Serving.AddCallers(m.Callers)
	d.Departed.AddCallers(m.Callers)
	if same, changed := d.recountLocked(&m); !same {
		m.Replicas = m.Replicas[:0]
		for _, r := range d.Replicas {
			r.counted.index = len(m.Replicas)
			m.Replicas = append(m.Replicas, telemetry.Replica{ID: r.ID})
			r.readLocked(&m.Replicas[r.counted.index], true)
		}
		for _, r := range d.Departed.Leaving() {
			m.Replicas = append(m.Replicas, telemetry.Replica{ID: r.ID(), Running: r.Running(), Calls: r.Counts()})
			r.AddCallers(m.Callers)
		}
		m.Calls = sum(d.Departed.Total(), m.Replicas)
	} else if changed {
		m.Calls = sum(d.Departed.Total(), m.Replicas)
	}
	for _, r := range d.Replicas {
		c := &r.counted
		for from, k := range c.callers {
			m.Callers[from] = m.Callers[from].Plus(k)
		}
		if c.process == 0 || r.Running == nil { // a replica that was started has its process to the end
			process := r.ProcessLocked().PID
			if process == 0 && r.State != helvetype.ReplicaStarting {
				process = own
			}
			others = others || process != c.process
			c.process = process
		}
		m.Replicas[c.index].Process = c.process
	}
	return m, others
}

// recountLocked brings the replicas of the last look up to date in their places. same is false where they are not the replicas of now: one has come or gone.
func (d *Deployment) recountLocked(m *telemetry.Deployment) (same, changed bool) {
	if len(m.Replicas) != len(d.Replicas) || len(d.Departed.Leaving()) > 0 {
		return false, false
	}
	for _, r := range d.Replicas {
		i := r.counted.index
		if i >= len(m.Replicas) || m.Replicas[i].ID != r.ID {
			return false, false
		}
		changed = r.readLocked(&m.Replicas[i], false) || changed
	}
	return true, changed
}

// sum adds the counts of replicas to the counts of the replicas that are gone.
func sum(gone telemetry.Counts, all []telemetry.Replica) telemetry.Counts {
	for i := range all {
		gone.Add(all[i].Calls)
	}
	return gone
}

// readLocked reads the counts of a replica if they can have changed, or if anew says that the last ones are not in of.
func (r *Replica) readLocked(of *telemetry.Replica, anew bool) (changed bool) {
	c := &r.counted
	if of.State = r.State; r.Running == nil {
		return false
	}
	running, started := serving.Flow(r.Running)
	of.Running = running
	switch {
	case running > 0 || started != c.started:
		c.still = false
	case !c.still:
		c.still = true
	case !anew:
		return false
	}
	c.started, of.Calls = started, r.Running.Counts()
	if clear(c.callers); c.callers == nil {
		c.callers = map[telemetry.Caller]telemetry.CallerCounts{}
	}
	if r.Running.AddCallers(c.callers); len(c.callers) == 0 {
		c.callers = nil
	}
	return true
}
