// Package usage measures the calls of deployments in the last minute, and the memory and processors that the processes of replicas use.
//
// A node counts since its start, and an operator asks about now: 12 errors of 4 million calls may be of last week, or of this minute. So a [Meter] looks at the counts of each deployment in
// periods, keeps the looks of the last minute, and gives the difference. For example, a look at 10:00:00 has 1,000 calls with a sum of 50 s, and one at 10:01:00 has 1,600 calls with a sum of
// 110 s: the 600 calls of the minute took 100 ms on average, although the average of all is 69 ms.
package usage

import (
	"maps"
	"os"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/telemetry"
)

const (
	// Period is the time between two looks of a [Meter] that nothing asks.
	Period = 5 * time.Second
	// window is the time that the numbers of calls are of.
	window = time.Minute
	// fresh is the age up to which a look answers a question.
	fresh = time.Second
	// least is the shortest time over which the use of processors is said.
	least = 500 * time.Millisecond
)

// Meter has the looks of the last minute. The zero Meter is ready, and safe for concurrent use.
type Meter struct {
	looking sync.Mutex // held over a look and its counts, so that no look has fewer calls than the one before; taken before mu

	mu        sync.Mutex
	at        time.Time // of the last look
	calls     map[deployment][]look
	tallies   map[string][]tally // by the ids of replicas
	edges     map[edge][]tally
	processes map[int]*process
	replicas  map[string]int // the process of each replica
	gpus      map[int]uint64 // bytes of GPUs, by the worker
}

type deployment struct{ app, name string }

// look is the counts of a deployment at a time.
type look struct {
	at       time.Time
	counts   telemetry.Counts
	rejected uint64
	waited   time.Duration // for slots, of all calls
}

// process has the numbers of a process at three times: now, at the last look, and at the one before. The use of processors is that since the look before, so that it does not jump when two looks are close.
type process struct {
	now, last, before used
}

type used struct {
	Process
	at time.Time
}

// Due says that the last look is too old to answer a question at a time.
func (m *Meter) Due(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return now.Sub(m.at) >= fresh
}

// LookNow looks at the counts that take gives, unless the last look answers a question still. Of looks that come at once one takes the counts, and the others find them fresh.
func (m *Meter) LookNow(take func() telemetry.Snapshot, replicas map[string]int) {
	m.looking.Lock()
	defer m.looking.Unlock()
	if now := time.Now(); m.Due(now) {
		m.Look(now, take(), replicas, Read)
	}
}

// Look takes a look at a time, later than that of the look before: at the counts of deployments, and at the processes of replicas by their ids ([Processes]). read is [Read].
func (m *Meter) Look(now time.Time, s telemetry.Snapshot, replicas map[string]int, read func(pid int) (Process, bool)) {
	processes := map[int]used{}
	for _, pid := range replicas {
		if _, known := processes[pid]; known {
			continue
		}
		if p, ok := read(pid); ok {
			processes[pid] = used{p, now}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lookAtCalls(now, s)
	m.lookAtReplicas(now, s)
	m.at, m.replicas = now, replicas
	m.lookAtProcesses(now, processes)
}

func (m *Meter) lookAtCalls(now time.Time, s telemetry.Snapshot) {
	before := m.calls
	m.calls = make(map[deployment][]look, len(before))
	for i := range s.Applications {
		a := &s.Applications[i]
		for j := range a.Deployments {
			d := &a.Deployments[j]
			m.add(before, deployment{a.Name, d.Name}, look{at: now, counts: d.Calls, rejected: d.Rejected, waited: d.Waits.Sum})
		}
	}
	for app, counts := range s.ByApplication() {
		m.add(before, deployment{app: app}, look{at: now, counts: *counts})
	}
}

// add adds a look to those of before, and drops those that are too old.
func (m *Meter) add(before map[deployment][]look, key deployment, l look) {
	all, known := before[key]
	if !known && !m.at.IsZero() { // it has begun since the last look; failures without a time are those of replicas that were taken over
		all = []look{{at: m.at, counts: telemetry.Counts{Failed: l.counts.Failed - min(l.counts.Failed, l.counts.Ended())}}}
	}
	if n := len(all); n > 0 && all[n-1].after(&l) { // deleted, and deployed again
		all = nil
	}
	for len(all) > 1 && l.at.Sub(all[1].at) >= window {
		all = all[1:]
	}
	if n := len(all); n > 1 && l.at.Sub(all[n-2].at) < Period { // questions between two periods
		all = all[:n-1]
	}
	m.calls[key] = append(all, l)
}

// after says that a look has counted more than a later one.
func (l *look) after(later *look) bool {
	return l.rejected > later.rejected || l.counts.Ended() > later.counts.Ended()
}

func (m *Meter) lookAtProcesses(now time.Time, processes map[int]used) {
	maps.DeleteFunc(m.processes, func(pid int, p *process) bool {
		return processes[pid].Started != p.now.Started || processes[pid].at.IsZero()
	})
	if m.processes == nil {
		m.processes = map[int]*process{}
	}
	for pid, u := range processes {
		p := m.processes[pid]
		if p == nil {
			m.processes[pid] = &process{now: u, last: u, before: u}
			continue
		}
		if p.now = u; now.Sub(p.last.at) >= Period {
			p.before, p.last = p.last, u
		}
	}
}

// Fill adds the numbers of the last look to a status.
func (m *Meter) Fill(s *helvetype.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, a := range s.Applications {
		a.Requests = m.lastMinute(deployment{app: name})
		s.Applications[name] = a
		for d, of := range a.Deployments {
			of.LastMinute = m.lastMinute(deployment{name, d})
			for i := range of.Replicas {
				r := &of.Replicas[i]
				if p := m.processes[pidOf(r)]; p != nil && pidOf(r) != 0 {
					r.Memory, r.CPU, r.GPUMemory = p.now.Memory, p.cpu(), m.gpus[pidOf(r)]
				}
			}
			a.Deployments[d] = of
		}
	}
}

// cpu is the use of processors in percent of one; 0 for a process that is too young.
func (p *process) cpu() float64 {
	took := p.now.at.Sub(p.before.at)
	if took < least {
		return 0
	}
	return 100 * (p.now.CPU - p.before.CPU).Seconds() / took.Seconds()
}

// LastMinute has the HTTP requests of the last minute to an application, or to all of the node for ""; nil while there are no two looks at them.
func (m *Meter) LastMinute(app string) *helvetype.LastMinute {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lastMinute(deployment{app: app})
}

// Use is the memory, in bytes, and the use of processors, in percent of one, of a process by its name in the replicas of the last look. false: it is not known.
func (m *Meter) Use(name string) (memory uint64, cpu float64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.processes[m.replicas[name]]
	if p == nil {
		return 0, 0, false
	}
	return p.now.Memory, p.cpu(), true
}

// lastMinute is nil while there are no two looks.
func (m *Meter) lastMinute(key deployment) *helvetype.LastMinute {
	all := m.calls[key]
	if len(all) < 2 {
		return nil
	}
	first, last := &all[0], &all[len(all)-1]
	r := &helvetype.LastMinute{
		Seconds: last.at.Sub(first.at).Seconds(), Rejected: last.rejected - first.rejected,
	}
	between := last.counts.Since(&first.counts)
	r.Calls, r.Errors = between.Ended(), between.Failed
	if r.Calls > 0 {
		longest := last.counts.Peaks.Since(first.at)
		r.Mean = milliseconds(between.Busy) / float64(r.Calls)
		r.P50, r.P90, r.P99 = between.Quantile(0.5, longest), between.Quantile(0.9, longest), between.Quantile(0.99, longest)
	}
	if between.Started > 0 {
		r.Wait = milliseconds(last.waited-first.waited) / float64(between.Started)
	}
	return r
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// pidOf is the process of a replica: that of the node for a replica in it, 0 for a replica that has none.
func pidOf(r *helvetype.ReplicaStatus) int {
	if r.PID == 0 && r.State != helvetype.ReplicaStarting {
		return os.Getpid()
	}
	return r.PID
}

// Processes are the processes of the replicas of a status, by the ids of the replicas.
func Processes(s helvetype.Status) map[string]int {
	all := map[string]int{}
	for _, a := range s.Applications {
		for _, d := range a.Deployments {
			for i := range d.Replicas {
				if pid := pidOf(&d.Replicas[i]); pid != 0 {
					all[d.Replicas[i].ID] = pid
				}
			}
		}
	}
	return all
}

// Measure adds the numbers of processes to a snapshot.
func (m *Meter) Measure(s *telemetry.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range s.Applications {
		for j := range s.Applications[i].Deployments {
			d := &s.Applications[i].Deployments[j]
			counted := map[int]bool{}
			for k := range d.Replicas {
				r := &d.Replicas[k]
				pid, known := m.replicas[r.ID]
				p := m.processes[pid]
				if !known || p == nil {
					continue
				}
				r.Memory, r.CPU, r.GPUMemory = p.now.Memory, p.now.CPU, m.gpus[pid]
				if !counted[pid] {
					counted[pid] = true
					d.Memory += p.now.Memory
				}
			}
		}
	}
}
