package node

import (
	"context"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/machine"
	"github.com/helve-serve/helve/internal/series"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/updates"
	"github.com/helve-serve/helve/internal/usage"
)

// observed is what a node remembers for pages that show it.
type observed struct {
	started time.Time
	series  *series.Recorder
	machine machine.Recent
	gpus    *machine.GPUs
	numbers fleet.Numbers // used by the goroutine of measure alone, as looks and columns
	looks   []series.Look
	columns []float64 // of looks
	hub     *updates.Hub
	hidden  sync.Once // says that the processes on the GPUs are not those of the node
}

func (n *Node) observe() {
	n.observed = observed{started: time.Now(), series: series.New(series.Budget), gpus: machine.SharedGPUs()}
	n.observed.hub = updates.New(n.ctx, n)
}

// ownProcess is the name of the node among the processes of replicas.
const ownProcess = ""

// look measures the calls and the processes of the replicas of a status.
func (n *Node) look(s helvetype.Status) {
	processes := usage.Processes(s)
	processes[ownProcess] = os.Getpid()
	n.usage.LookNow(func() telemetry.Snapshot {
		k := n.Controller.Metrics()
		k.Requests, _ = n.proxy.Counts()
		k.AddLoops(n.user.LoopDelays())
		return k
	}, processes)
	n.lookAtGPUs(processes)
}

// lookAtGPUs measures the memory of GPUs that replicas use, while a replica holds one.
func (n *Node) lookAtGPUs(processes map[string]int) {
	var all []machine.GPUProcess
	if n.workers.Ledger().HoldsDevice() {
		all, _ = n.observed.gpus.Processes() // none: what was known before counts no more
	}
	used, here := n.usage.LookAtGPUs(all, processes, usage.KinOf)
	n.workers.Ledger().NoteUse(used)
	if !here {
		n.observed.hidden.Do(func() {
			n.log.Warn("the memory of GPUs that replicas use is not known: the driver names processes that are not here, as in a container with process ids of its own")
		})
	}
}

// measure looks in periods, so that a question finds the last minute, and the last hour.
func (n *Node) measure() {
	tick := time.NewTicker(usage.Period)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			n.record()
		case <-n.ctx.Done():
			return
		}
	}
}

// counts are the numbers of applications, with the memory of processes.
func (n *Node) counts() telemetry.Snapshot {
	k := n.Controller.Metrics()
	n.usage.Measure(&k)
	k.Requests, k.Ongoing = n.proxy.Counts()
	return k
}

// record adds the node as it is now to the numbers of the last minute and of the last hour. It makes no status: a node may have 10,000 replicas, of which few have calls.
func (n *Node) record() {
	k, processes := n.observed.numbers.Look(n.Controller.Fleet)
	k.Requests, k.Ongoing = n.proxy.Counts()
	k.AddLoops(n.user.LoopDelays())
	n.usage.LookNow(func() telemetry.Snapshot { return k }, processes)
	n.lookAtGPUs(processes)
	n.observed.series.Record(time.Since(n.observed.started), n.looks(&k, time.Now().Add(-series.Step)))
}

// looks are all objects of the node. since is the time of the look before.
func (n *Node) looks(k *telemetry.Snapshot, since time.Time) []series.Look {
	o := &n.observed
	o.looks, o.columns = o.looks[:0], o.columns[:0]
	columns := func(now ...float64) []float64 {
		from := len(o.columns)
		o.columns = append(o.columns, now...)
		return o.columns[from:]
	}
	counted := func(of series.Name, c *telemetry.Counts, now []float64) {
		o.looks = append(o.looks, series.Look{Name: of, Ended: c.Ended(), Failed: c.Failed, Latency: c, Longest: c.Peaks.Since(since), Now: now})
	}
	requests, own := k.ByApplication(), n.figures(k)
	process, memory, cpu := 0, math.NaN(), math.NaN()
	counted(series.Name{}, requests[""], columns(own[helvetype.ColumnRunning], own[helvetype.ColumnMemory], own[helvetype.ColumnCPU], own[helvetype.ColumnGoroutines],
		own[helvetype.ColumnMachineCPU], own[helvetype.ColumnMachineMemory]))
	for i := range k.Applications {
		a := &k.Applications[i]
		atIngress := math.NaN()
		for j := range a.Deployments {
			d := &a.Deployments[j]
			name, running := series.Name{App: a.Name, Deployment: d.Name}, 0
			for l := range d.Replicas {
				r := &d.Replicas[l]
				running += r.Running
				if r.State == "" { // it is gone
					continue
				}
				if r.Process != process { // many replicas share one
					process, memory, cpu = 0, math.NaN(), math.NaN()
					if m, c, ok := n.usage.Use(r.ID); ok { // else the next replica of the process is asked: this one is too new
						process, memory, cpu = r.Process, float64(m), c
					}
				}
				late := math.NaN()
				if r.Loop.Number > 0 {
					if _, l, ok := n.usage.RecentAt(r.ID); ok {
						late = l
					}
				}
				name.Replica = r.ID
				o.looks = append(o.looks, series.Look{Name: name, Ended: r.Calls.Ended(), Failed: r.Calls.Failed, Now: columns(float64(r.Running), memory, cpu, late)})
			}
			if d.Name == a.Ingress {
				atIngress = float64(running)
			}
			name.Replica = ""
			counted(name, &d.Calls, columns(float64(d.Queued), float64(running), float64(d.Ready), float64(d.Wanted)))
		}
		c := requests[a.Name]
		if c == nil {
			c = new(telemetry.Counts)
		}
		counted(series.Name{App: a.Name}, c, columns(atIngress))
	}
	return o.looks
}

// figures are the numbers of the node itself.
func (n *Node) figures(k *telemetry.Snapshot) map[string]float64 {
	all := map[string]float64{helvetype.ColumnRunning: float64(k.Ongoing), helvetype.ColumnGoroutines: float64(runtime.NumGoroutine())}
	for _, column := range []string{
		helvetype.ColumnRate, helvetype.ColumnErrorRate, helvetype.ColumnP50, helvetype.ColumnP90, helvetype.ColumnP99, helvetype.ColumnMemory, helvetype.ColumnCPU, helvetype.ColumnMachineCPU,
		helvetype.ColumnMachineMemory, helvetype.ColumnMachineLoad,
	} {
		all[column] = math.NaN()
	}
	if r, ok := n.usage.Recent("", ""); ok {
		all[helvetype.ColumnRate], all[helvetype.ColumnErrorRate] = r.Calls, r.Errors
	}
	if m := n.usage.LastMinute(""); m != nil && m.Calls > 0 {
		all[helvetype.ColumnP50], all[helvetype.ColumnP90], all[helvetype.ColumnP99] = m.P50, m.P90, m.P99
	}
	if memory, cpu, ok := n.usage.Use(ownProcess); ok {
		all[helvetype.ColumnMemory], all[helvetype.ColumnCPU] = float64(memory), cpu
	}
	if m, percent, ok := n.observed.machine.Now(); ok {
		all[helvetype.ColumnMachineCPU], all[helvetype.ColumnMachineMemory], all[helvetype.ColumnMachineLoad] = percent, float64(m.Memory-m.Available), m.Load[0]
	}
	return all
}

// Series gives the numbers of an object in the last time, at most an hour. false: the node does not know the object.
func (n *Node) Series(of updates.View, last time.Duration) (s helvetype.Series, ok bool) {
	now, name := time.Now(), series.Name{App: of.App, Deployment: of.Deployment, Replica: of.Replica}
	s, ok = n.observed.series.Read(name, now, time.Since(n.observed.started), last)
	if ok && (of.Deployment == "" || of.Replica != "") {
		return s, ok
	}
	app, there := n.Controller.Status().Applications[of.App]
	d, has := app.Deployments[of.Deployment]
	if !ok {
		there = there || of.App == ""
		there = there && (has || of.Deployment == "")
		there = there && (of.Replica == "" || slices.ContainsFunc(d.Replicas, func(r helvetype.ReplicaStatus) bool { return r.ID == of.Replica }))
		return series.Empty(name, now), there
	}
	if a := d.Autoscaling; a != nil {
		for _, d := range a.Decisions {
			if !d.At.Before(s.From) {
				s.Decisions = append(s.Decisions, d)
			}
		}
	}
	return s, ok
}

// Updates tells readers what changes.
func (n *Node) Updates() *updates.Hub { return n.observed.hub }

// Facts are all that pages show of the node now.
func (n *Node) Facts(ctx context.Context) *updates.Facts {
	f := &updates.Facts{At: time.Now(), Status: n.Status(), Rates: &n.usage, Hidden: spec.HiddenApps, Deployed: map[string]updates.Deployed{}}
	f.Counts = n.counts()
	f.Figures = n.figures(&f.Counts)
	for i := range f.Counts.Applications {
		a := &f.Counts.Applications[i]
		f.Deployed[a.Name] = updates.Deployed{Revision: a.Revision, Ingress: a.Ingress}
	}
	f.Problems, _ = n.operator.Overview(ctx) //nolint:errcheck // it has none
	f.Node = helvetype.NodeUpdate{
		ID: name, Version: n.set.Version, PID: os.Getpid(), StartedAt: n.observed.started.UTC().Truncate(time.Millisecond), URLs: n.URLs(), Draining: n.Draining(), Durable: n.set.Durable,
		Machine: helvetype.Machine{System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), GPUs: gpus(n.observed.gpus.Now())},
	}
	if m, ok := machine.Read(); ok {
		f.Node.Machine.Memory = m.Memory
	}
	for name, r := range f.Status.Resources {
		if f.Node.Resources == nil {
			f.Node.Resources = map[string]helvetype.Resource{}
		}
		r.Used = 0
		f.Node.Resources[name] = r
	}
	return f
}

// megabyte is the unit of the tool of the driver of GPUs.
const megabyte = 1 << 20

func gpus(all []machine.GPU) (out []helvetype.GPU) {
	number := func(v, unit float64) *float64 {
		if v < 0 {
			return nil
		}
		return new(v * unit)
	}
	for _, g := range all {
		out = append(out, helvetype.GPU{Index: strings.TrimSpace(g.Index), Name: g.Name, Busy: number(g.Percent, 1), Used: number(g.Used, megabyte), Free: number(g.Free, megabyte)})
	}
	return out
}
