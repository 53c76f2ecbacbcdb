package updates

import (
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/series"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/usage"
)

// Facts are a node at one moment, as its status, its metrics and its answers to why have it. They are not changed any more.
type Facts struct {
	At       time.Time
	Node     helvetype.NodeUpdate
	Figures  map[string]float64 // of the node, by column; NaN for a number that is not known
	Status   helvetype.Status
	Counts   telemetry.Snapshot
	Deployed map[string]Deployed // applications as they were deployed
	Problems helvetype.Overview
	Rates    Rates
	Hidden   string // the begin of the names of applications that are not shown
}

// Deployed is an application as it was deployed.
type Deployed struct {
	Revision int
	Ingress  string
}

// Rates are the calls of the last seconds: a [usage.Meter].
type Rates interface {
	Recent(app, deployment string) (usage.Rate, bool)
	RecentAt(replica string) (r usage.Rate, late float64, known bool)
	RecentFrom(app, deployment string, from telemetry.Caller) (r usage.Rate, wait float64, known bool)
}

// kind is a kind of objects of which an item has a list.
type kind int

const (
	applications kind = iota
	deployments
	replicas
	edges
	kinds
)

// columns are the figures of each kind, in the order of [entry.figures].
//
//nolint:gochecknoglobals // constants
var columns = [kinds][]string{
	applications: {helvetype.ColumnRate, helvetype.ColumnErrorRate, helvetype.ColumnP50, helvetype.ColumnP90, helvetype.ColumnP99, helvetype.ColumnRunning, helvetype.ColumnReady, helvetype.ColumnWanted, helvetype.ColumnMemory},
	deployments: {
		helvetype.ColumnRate, helvetype.ColumnErrorRate, helvetype.ColumnRejectedRate, helvetype.ColumnP50, helvetype.ColumnP90, helvetype.ColumnP99, helvetype.ColumnWait,
		helvetype.ColumnQueued, helvetype.ColumnRunning, helvetype.ColumnCalls, helvetype.ColumnErrors, helvetype.ColumnMemory,
	},
	replicas: {
		helvetype.ColumnRate, helvetype.ColumnErrorRate, helvetype.ColumnRunning, helvetype.ColumnCalls, helvetype.ColumnErrors, helvetype.ColumnMemory, helvetype.ColumnCPU,
		helvetype.ColumnLoopDelay,
	},
	edges: {helvetype.ColumnRate, helvetype.ColumnErrorRate, helvetype.ColumnWait},
}

// state is the node at one moment in the form of items. A list that no reader asks for is not made, and a list that several ask for is made once.
type state struct {
	facts    *Facts
	node     json.RawMessage
	problems json.RawMessage
	calm     json.RawMessage // the problems without numbers
	figures  json.RawMessage // of the node

	mu    sync.Mutex
	lists map[list][]entry
}

// list names a list of objects: the applications, the deployments and edges of an application, the replicas of a deployment. A list of replicas without an application has those of the whole node.
type list struct {
	kind
	app, deployment string
}

// entry is an object of a list.
type entry struct {
	name    string
	is      helvetype.Object // not set for an edge
	object  json.RawMessage
	calm    json.RawMessage // the object without that which may come later: see calmEvery
	figures []float64
}

func newState(f *Facts) *state {
	problems := encode(f.Problems)
	return &state{facts: f, node: encode(f.Node), problems: problems, calm: numberless(problems), figures: encode(known(f.Figures)), lists: map[list][]entry{}}
}

// encode gives the JSON of a value, which always encodes.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func known(figures map[string]float64) map[string]*float64 {
	all := make(map[string]*float64, len(figures))
	for name, v := range figures {
		all[name] = nil
		if v = rounded([]float64{v})[0]; !math.IsNaN(v) && !math.IsInf(v, 0) {
			all[name] = new(v)
		}
	}
	return all
}

// list gives the objects of a list, sorted by name.
func (s *state) list(of list) []entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, made := s.lists[of]
	if !made {
		switch of.kind {
		case applications:
			all = s.applications()
		case deployments:
			all = s.deployments(of.app)
		case replicas:
			if of.app == "" {
				all = s.allReplicas()
			} else {
				all = s.replicas(of.app, of.deployment, s.counts(of.app)[of.deployment])
			}
		case edges:
			all = s.edges(of.app)
		}
		s.lists[of] = all
	}
	return all
}

// shown are the names of the applications that readers get, sorted.
func (s *state) shown() []string {
	hidden := func(name string) bool { return s.facts.Hidden != "" && strings.HasPrefix(name, s.facts.Hidden) }
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.facts.Status.Applications)), hidden)
}

func (s *state) applications() (all []entry) {
	for _, name := range s.shown() {
		a, of := s.facts.Status.Applications[name], s.facts.Deployed[name]
		u := helvetype.ApplicationUpdate{
			Name: name, Status: a.Status, Message: a.Message, DeployedAt: a.DeployedAt, RoutePrefix: a.RoutePrefix, Ingress: of.Ingress, Revision: of.Revision,
			Deployments: slices.AppendSeq([]string{}, maps.Keys(a.Deployments)), Rollout: a.Rollout, FailedDeploy: a.FailedDeploy,
		}
		slices.Sort(u.Deployments)
		ready, wanted, running := 0, 0, math.NaN()
		for n, d := range a.Deployments {
			u.Counts = sum(u.Counts, count(d.Replicas))
			ready, wanted = ready+Serving(d.Replicas), wanted+d.Wanted
			if n == of.Ingress {
				running = float64(d.Calls.Running)
			}
		}
		rate := s.rate(name, "")
		if a.RoutePrefix == "" {
			rate = s.fromOutside(name)
		}
		figures := append([]float64{rate.Calls, rate.Errors}, latencies(a.Requests)...)
		object := encode(u)
		calm := object
		if u.Message != "" {
			u.Message = string(numberless(u.Message))
			calm = encode(u)
		}
		all = append(all, entry{name, helvetype.Object{Kind: helvetype.KindApplication, App: name}, object, calm, rounded(append(figures, running, float64(ready), float64(wanted), memoryOf(a)))})
	}
	return all
}

// memoryOf is the memory of the processes of all replicas in bytes. A process counts once. For example, a Go worker of 18 MiB has the replicas of two deployments:
// each of them has 18 MiB, and so has the application.
func memoryOf(a helvetype.ApplicationStatus) float64 {
	processes := map[int]uint64{}
	for _, d := range a.Deployments {
		for _, r := range d.Replicas {
			processes[r.PID] = max(processes[r.PID], r.Memory)
		}
	}
	sum := uint64(0)
	for _, bytes := range processes {
		sum += bytes
	}
	return orUnknown(float64(sum))
}

// rate is the rate of the calls of a deployment, or of the HTTP requests of an application; NaN where it is not known.
func (s *state) rate(app, deployment string) usage.Rate {
	if r, ok := s.facts.Rates.Recent(app, deployment); ok {
		return r
	}
	return usage.Rate{Calls: math.NaN(), Errors: math.NaN(), Rejected: math.NaN()}
}

// fromOutside is the rate of the calls that come from outside of an application.
func (s *state) fromOutside(app string) (sum usage.Rate) {
	for _, d := range s.counts(app) {
		for from := range d.Callers {
			if from.Kind != telemetry.FromDeployment || from.App != app {
				r, _, _ := s.facts.Rates.RecentFrom(app, d.Name, from)
				sum.Calls, sum.Errors = sum.Calls+r.Calls, sum.Errors+r.Errors
			}
		}
	}
	return sum
}

func latencies(m *helvetype.LastMinute) []float64 {
	if m == nil || m.Calls == 0 {
		return []float64{math.NaN(), math.NaN(), math.NaN()}
	}
	return []float64{m.P50, m.P90, m.P99}
}

// rounded keeps whole numbers as they are: counts and bytes are as the status says.
func rounded(all []float64) []float64 {
	for i, v := range all {
		if v != math.Trunc(v) {
			all[i] = series.Round(v)
		}
	}
	return all
}

func count(all []helvetype.ReplicaStatus) (c helvetype.ReplicaCounts) {
	for i := range all {
		switch r := &all[i]; r.State {
		case helvetype.ReplicaStarting:
			c.Starting++
		case helvetype.ReplicaRecovering:
			c.Recovering++
		case helvetype.ReplicaStopping:
			c.Stopping++
		case helvetype.ReplicaRunning:
			c.Running++
			if r.NotReady != nil {
				c.NotReady++
			}
			if r.Ejected != nil {
				c.Ejected++
			}
		}
	}
	return c
}

// Serving is the number of replicas that take calls, of all revisions. For example, a rollout has started one of 4 new replicas, and 3 old ones are left: 4 take calls.
func Serving(all []helvetype.ReplicaStatus) (n int) {
	for i := range all {
		if all[i].Ready {
			n++
		}
	}
	return n
}

func sum(x, y helvetype.ReplicaCounts) helvetype.ReplicaCounts {
	return helvetype.ReplicaCounts{
		Starting: x.Starting + y.Starting, Recovering: x.Recovering + y.Recovering, Running: x.Running + y.Running, Stopping: x.Stopping + y.Stopping,
		NotReady: x.NotReady + y.NotReady, Ejected: x.Ejected + y.Ejected,
	}
}

func (s *state) deployments(app string) (all []entry) {
	a := s.facts.Status.Applications[app]
	counts := s.counts(app)
	for _, name := range slices.Sorted(maps.Keys(a.Deployments)) {
		d := a.Deployments[name]
		u := helvetype.DeploymentUpdate{
			App: app, Name: name, Status: d.Status, Trigger: d.Trigger, Message: d.Message, Wanted: d.Wanted, Ready: d.Ready, Counts: count(d.Replicas), Failures: d.Failures, MaxFailures: d.MaxFailures,
			Scaling: scaling(d.Autoscaling), Uses: d.Uses, DynamicUses: d.DynamicUses, Cycle: d.Cycle, LastExit: withoutLines(d.LastExit), FirstFailure: d.FirstFailure, Next: d.Next, NextAt: d.NextAt,
		}
		rate, wait, memory := s.rate(app, name), math.NaN(), math.NaN()
		if d.LastMinute != nil && d.LastMinute.Calls > 0 {
			wait = d.LastMinute.Wait
		}
		if k := counts[name]; k != nil && k.Memory > 0 {
			memory = float64(k.Memory)
		}
		figures := append([]float64{rate.Calls, rate.Errors, rate.Rejected}, latencies(d.LastMinute)...)
		figures = append(figures, wait, float64(d.Calls.Queued), float64(d.Calls.Running), float64(d.Calls.Total), float64(d.Calls.Errors), memory)
		object := encode(u)
		calm := object
		if u.Message != "" || u.Scaling != nil && u.Scaling.Reason != "" {
			u.Message = string(numberless(u.Message))
			if u.Scaling != nil {
				u.Scaling.Reason = ""
			}
			calm = encode(u)
		}
		all = append(all, entry{name, helvetype.Object{Kind: helvetype.KindDeployment, App: app, Deployment: name}, object, calm, rounded(figures)})
	}
	return all
}

// counts are the numbers of the deployments of an application.
func (s *state) counts(app string) map[string]*telemetry.Deployment {
	all := map[string]*telemetry.Deployment{}
	for i := range s.facts.Counts.Applications {
		if a := &s.facts.Counts.Applications[i]; a.Name == app {
			for j := range a.Deployments {
				all[a.Deployments[j].Name] = &a.Deployments[j]
			}
		}
	}
	return all
}

func scaling(a *helvetype.Autoscaling) *helvetype.ScalingUpdate {
	if a == nil {
		return nil
	}
	u := &helvetype.ScalingUpdate{
		Target: a.Target, Desired: a.Desired, Least: a.Least, Most: a.Most, Blocked: a.Blocked, Reason: a.Reason, Policy: a.Policy, Health: a.Health, Errors: a.Errors,
	}
	if n := len(a.Decisions); n > 0 {
		u.Decision = &a.Decisions[n-1]
	}
	return u
}

func withoutLines(x *helvetype.Exit) *helvetype.Exit {
	if x == nil || x.Lines == nil {
		return x
	}
	short := *x
	short.Lines = nil
	return &short
}

// allReplicas are the replicas of all deployments of the node.
func (s *state) allReplicas() (all []entry) {
	for _, app := range s.shown() {
		counts := s.counts(app)
		for _, deployment := range slices.Sorted(maps.Keys(s.facts.Status.Applications[app].Deployments)) {
			all = append(all, s.replicas(app, deployment, counts[deployment])...)
		}
	}
	return all
}

// replicas are the replicas of a deployment. d has its counts; nil for none.
func (s *state) replicas(app, deployment string, d *telemetry.Deployment) (all []entry) {
	counts := map[string]*telemetry.Replica{}
	if d != nil {
		for i := range d.Replicas {
			counts[d.Replicas[i].ID] = &d.Replicas[i]
		}
	}
	for _, r := range s.facts.Status.Applications[app].Deployments[deployment].Replicas {
		memory, cpu, running, calls, errors := orUnknown(float64(r.Memory)), r.CPU, math.NaN(), math.NaN(), math.NaN()
		if math.IsNaN(memory) {
			cpu = math.NaN()
		}
		u := helvetype.ReplicaUpdate{App: app, Deployment: deployment, ReplicaStatus: r}
		u.LastExit = withoutLines(r.LastExit)
		u.Memory, u.CPU = 0, 0
		if r.Unresponsive != nil {
			u.Unresponsive = &helvetype.Unresponsive{Since: r.Unresponsive.Since}
		}
		if k := counts[r.ID]; k != nil {
			u.Models = k.Models
			running, calls, errors = float64(k.Running), float64(k.Calls.Started), float64(k.Calls.Failed)
		}
		rate, late, ok := s.facts.Rates.RecentAt(r.ID)
		if !ok {
			rate, late = usage.Rate{Calls: math.NaN(), Errors: math.NaN()}, math.NaN()
		}
		object := encode(u)
		is := helvetype.Object{Kind: helvetype.KindReplica, App: app, Deployment: deployment, Replica: r.ID}
		all = append(all, entry{r.ID, is, object, object, rounded([]float64{rate.Calls, rate.Errors, running, calls, errors, memory, cpu, late})})
	}
	return all
}

func orUnknown(v float64) float64 {
	if v == 0 {
		return math.NaN()
	}
	return v
}

// edges are all that the graph declares, all that replicas have asked for, the edge of HTTP clients, and all that have had calls.
//
// The node does not see calls between replicas of one Go worker under slots that it has lent. If a deployment has one declared caller, these are its calls: then the edge has the calls of the deployment that come
// from no other caller.
func (s *state) edges(app string) (all []entry) {
	a, counts := s.facts.Status.Applications[app], s.counts(app)
	declared := map[string]map[telemetry.Caller]bool{} // by the deployment that is called
	declare := func(to string, from telemetry.Caller) {
		if declared[to] == nil {
			declared[to] = map[telemetry.Caller]bool{}
		}
		declared[to][from] = true
	}
	for name, d := range a.Deployments {
		for _, to := range slices.Concat(d.Uses, d.DynamicUses) {
			declare(to, telemetry.Caller{Kind: telemetry.FromDeployment, App: app, Deployment: name})
		}
	}
	if in := s.facts.Deployed[app].Ingress; in != "" && a.RoutePrefix != "" {
		declare(in, telemetry.Caller{Kind: telemetry.FromHTTP})
	}
	for _, to := range slices.Sorted(maps.Keys(a.Deployments)) {
		callers := maps.Clone(declared[to])
		if callers == nil {
			callers = map[telemetry.Caller]bool{}
		}
		if k := counts[to]; k != nil {
			for from := range k.Callers {
				callers[from] = callers[from]
			}
		}
		for from, is := range callers {
			e := helvetype.Edge{Kind: edgeKinds[from.Kind], From: from.Deployment, To: to, Declared: is}
			e.ID = cmp.Or(from.Deployment, e.Kind) + ">" + to
			if from.Kind == telemetry.FromDeployment && from.App != app {
				e.FromApp, e.ID = from.App, from.App+"/"+e.ID
			}
			rate, wait := s.edge(app, to, from, callers)
			object := encode(e)
			all = append(all, entry{e.ID, helvetype.Object{}, object, object, rounded([]float64{rate.Calls, rate.Errors, wait})})
		}
	}
	slices.SortFunc(all, func(x, y entry) int { return strings.Compare(x.name, y.name) })
	return all
}

// edgeKinds are the names of the kinds of callers.
//
//nolint:gochecknoglobals // a constant
var edgeKinds = map[telemetry.CallerKind]string{telemetry.FromHTTP: helvetype.EdgeHTTP, telemetry.FromDeployment: helvetype.EdgeDeployment, telemetry.FromDriver: helvetype.EdgeDriver}

// edge is the rate of the calls of a deployment that come from one of its callers, and their mean wait.
func (s *state) edge(app, to string, from telemetry.Caller, callers map[telemetry.Caller]bool) (r usage.Rate, wait float64) {
	r, wait, known := s.facts.Rates.RecentFrom(app, to, from)
	all, ok := s.facts.Rates.Recent(app, to)
	if !ok || from.Kind != telemetry.FromDeployment || !callers[from] {
		if !known && !ok {
			return usage.Rate{Calls: math.NaN(), Errors: math.NaN()}, math.NaN()
		}
		return r, wait
	}
	for other, is := range callers {
		if other == from {
			continue
		}
		if is && other.Kind == telemetry.FromDeployment {
			return r, wait
		}
		o, _, _ := s.facts.Rates.RecentFrom(app, to, other)
		all.Calls, all.Errors = all.Calls-o.Calls, all.Errors-o.Errors
	}
	if all.Calls > r.Calls*unseen {
		return usage.Rate{Calls: all.Calls, Errors: max(all.Errors, r.Errors)}, wait
	}
	return r, wait
}

// unseen is by how much the calls of a deployment exceed those of its callers where some are unseen: two counts that are not of one moment differ a little.
const unseen = 1.1
