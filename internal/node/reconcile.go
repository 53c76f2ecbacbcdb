package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/gate"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/transport"
)

// wake makes the loop look again. It may be called with or without n.mu.
func (n *Node) wake() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
	select {
	case n.state.kick <- struct{}{}:
	default:
	}
}

// loop is the node's only actor: it asks the planner what is missing or too much, and starts and stops that.
func (n *Node) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-n.kick:
		case <-timer.C:
		case <-n.ctx.Done():
			return
		}
		if wake := n.apply(time.Now()); !wake.IsZero() {
			timer.Reset(max(time.Until(wake), 0))
		}
	}
}

// apply brings what runs closer to the target, and says when to look again.
func (n *Node) apply(now time.Time) (wake time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	defer n.noteLocked()
	if until := n.holdingLocked(now); !until.IsZero() {
		return until
	}
	targets, observed, history := n.observeLocked()
	actions, wake := planner.Plan(targets, observed, history, now)
do:
	for _, act := range actions {
		switch act := act.(type) {
		case planner.Start:
			a := n.apps[act.App]
			if a == nil || a.deleted || a.failure != nil || a.deployments[act.Deployment] == nil {
				continue
			}
			for range act.Count {
				n.startLocked(a.deployments[act.Deployment], now)
			}
		case planner.GiveUp:
			if a := n.apps[act.App]; a != nil {
				d := a.deployments[act.Deployment]
				r := d.now.Load().revision
				d.gaveUp = true
				n.failLocked(r, d.lastErr)
				if a.current != r { // it went back: the other actions are for what is not the target any more
					break do
				}
			}
		case planner.Stop:
			if u := n.unitLocked(act.Replica); u != nil {
				n.stopLocked(u)
			}
		}
	}
	for _, a := range n.apps { // one without replicas is ready at once
		n.settleLocked(a.current)
	}
	return wake
}

func (n *Node) observeLocked() (targets []planner.Target, observed []planner.Observed, history map[planner.Key]planner.History) {
	history = map[planner.Key]planner.History{}
	for _, a := range n.apps {
		a.tidyLocked()
		for _, d := range a.deployments {
			k, e := planner.Key{App: a.name, Deployment: d.name}, d.now.Load()
			if !a.deleted && a.failure == nil && !d.dropped {
				giveUp := 1
				if e.retries() {
					giveUp = planner.MaxFailures(e.options.MaxConstructorRetries, e.options.NumReplicas)
				}
				t := planner.Target{Key: k, Revision: e.id(), Replicas: e.options.NumReplicas, GiveUp: giveUp, Early: e.placement == inPython}
				for _, u := range e.spec.Uses {
					t.Uses = append(t.Uses, planner.Key{App: a.name, Deployment: u})
				}
				targets = append(targets, t)
			}
			history[k] = planner.History{Failures: d.failures, Rounds: max(d.starting.n, d.running.n), LastFailure: d.lastFail, Ran: e.ran && (e.retries() || a.status != helvetype.ApplicationDeploying)}
			for _, u := range d.units {
				s := planner.Starting
				switch u.state {
				case helvetype.ReplicaRunning:
					s = planner.Running
				case helvetype.ReplicaStopping:
					s = planner.Draining
				}
				observed = append(observed, planner.Observed{ID: u.id, Key: k, Revision: u.revision.id(), State: s, StartedAt: u.startedAt})
			}
		}
	}
	return targets, observed, history
}

func (n *Node) unitLocked(id string) *Unit {
	for _, a := range n.apps {
		for _, d := range a.deployments {
			if u := d.units[id]; u != nil {
				return u
			}
		}
	}
	return nil
}

func (n *Node) startLocked(d *Deployment, now time.Time) {
	n.nextID++
	u := n.unitOfLocked(d, fmt.Sprintf("%s#%s", d.name, shortID(n.nextID)), now)
	d.starts++
	u.start = d.starts
	u.before = u.inheritLocked()
	n.wg.Go(func() { n.finishStart(u, n.start(u)) })
}

// unitOfLocked makes a replica as the deployment has them now.
func (n *Node) unitOfLocked(d *Deployment, id string, now time.Time) *Unit {
	e := d.now.Load()
	u := &Unit{id: id, dep: d, edition: e, gate: gate.New(e.options.MaxOngoingRequests), state: helvetype.ReplicaStarting, startedAt: now}
	if e.placement == inGoWorker {
		u.gate.OnWaiting(func() { u.recall(false) })
	}
	u.life, u.endLife = context.WithCancelCause(n.ctx)
	d.units[u.id] = u
	return u
}

// refusal says that a replica did not start because of its user config, or perhaps: its process ended, or was ended.
func refusal(err error) bool {
	if _, ok := errors.AsType[*overdueError](err); ok {
		return true
	}
	if e, ok := errors.AsType[*call.Error](err); ok {
		return strings.EqualFold(e.Method, "Reconfigure")
	}
	e, ended := errors.AsType[*endedError](err)
	return ended && e.begun
}

// abandoned forgets a replica whose start has ended in nothing, without a failure of its own. The next replica has its place.
func (n *Node) abandoned(u *Unit) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forgetLocked(u)
	if u.before.exit != nil { // it took the place of a replica that has ended
		u.edition.vacant = append(u.edition.vacant, u.before)
	}
	n.wake()
}

// finishStart puts a replica into service whose start ended with err.
func (n *Node) finishStart(u *Unit, err error) {
	ready := err == nil
	if err != nil && refusal(err) && n.refusedTrial(u, u.version, constructorError(u, err)) {
		n.abandoned(u)
		return
	}
	for err == nil && !n.ready(u) { // it has an old user config
		err = n.renew(u)
	}
	if err != nil {
		if ready { // the user config that it should have was refused
			closing, cancel := context.WithTimeout(n.ctx, closeTime)
			n.end(closing, u) //nolint:errcheck // why it did not start counts
			cancel()
		}
		n.startFailed(u, constructorError(u, err))
	}
}

// shortID makes replica ids of one node distinct and short enough to read aloud.
func shortID(k uint64) string {
	const digits = "0123456789abcdefghjkmnpqrstvwxyz"
	b := make([]byte, 0, 8)
	for ; k > 0 || len(b) < 3; k /= 32 {
		b = append(b, digits[k%32])
	}
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}

func (n *Node) start(u *Unit) error {
	switch u.placement {
	case inGoWorker:
		return n.startInGoWorker(u)
	case inPython:
		return n.startInPython(u)
	}
	n.mu.Lock()
	config, version := u.configLocked()
	u.version = version
	n.mu.Unlock()
	done := n.waiting(u, waitsForConstructor)
	r, err := instance.Start(u.ctx, u.class, u.id, config, u.options.ConstructTimeout)
	done()
	if err != nil {
		return err
	}
	local := &transport.Local{Replica: r, Codec: n.codec}
	u.instance, u.transport = r, local
	strict := n.set.Strict
	if strict == call.None && u.options.StrictCodec {
		strict = call.Msgpack
	}
	switch {
	case strict != call.None:
		u.transport = &transport.Encoded{Local: local, Default: strict}
	case !n.set.OutOfLine:
		u.Local = r
	}
	r.Scope.WatchModels(u.setModels)
	return nil
}

// constructorError is what the user reads when a replica does not start: where, what, and the user's traceback.
func constructorError(u *Unit, err error) error {
	e, ok := errors.AsType[*call.Error](err)
	if !ok {
		return err
	}
	c := *e
	c.App, c.Deployment, c.Replica = u.dep.app.name, u.dep.name, u.id
	if c.Method == "" {
		c.Method = "constructor"
	}
	switch {
	case c.Traceback != "":
		c.Message += "\n" + strings.TrimRight(c.Traceback, "\n")
	case c.Type != "" && c.Remote:
		c.Message = c.Type + ": " + c.Message
	}
	c.Traceback = ""
	return &c
}

// ready puts a started replica into its router, unless it is no longer wanted. false: it must be given the newest user
// config first.
func (n *Node) ready(u *Unit) bool {
	n.mu.Lock()
	d := u.dep
	if d.units[u.id] != u { // its worker died between the answer and now
		n.mu.Unlock()
		return true
	}
	if w := u.worker; w != nil && n.workers[w.id] != w { // likewise, and whoever saw it leaves those that start alone
		n.mu.Unlock()
		n.startFailed(u, &endedError{fmt.Sprintf("deployment %s: its worker ended", d.name), w.proc.Exit(), false})
		return true
	}
	if config, version := u.configLocked(); u.version != version {
		n.mu.Unlock()
		return false
	} else if u.trial != nil {
		u.acceptLocked(config, version)
	}
	if u.state == helvetype.ReplicaStarting || u.state == helvetype.ReplicaRecovering {
		u.state = helvetype.ReplicaRunning
		u.ran = true
		d.starting.n = 0
		if n.readier != nil {
			close(n.readier)
			n.readier = nil
		}
		if d.app.deployments[d.name] != d { // another has its name by now
			n.stopLocked(u)
		}
		if n.checked(u) {
			n.wg.Go(func() { n.watchHealth(u) })
		}
		if n.reports(u) {
			n.wg.Go(func() { n.watchStats(u) })
		}
	}
	n.wake()
	n.mu.Unlock()
	n.log.Info("replica is ready", "app", d.app.name, "deployment", d.name, "replica", u.id, "after", time.Since(u.startedAt).Round(time.Millisecond))
	n.update(d)
	n.mu.Lock()
	n.settleLocked(u.revision) // after the router has it: who waits for the application may count on all
	n.mu.Unlock()
	return true
}

func (d *Deployment) runningLocked() []router.Replica {
	var set []router.Replica
	for _, u := range d.units {
		if u.state == helvetype.ReplicaRunning {
			set = append(set, u)
		}
	}
	slices.SortFunc(set, func(a, b router.Replica) int { return strings.Compare(a.ID(), b.ID()) }) // turns keep their order
	return set
}

// update gives the router its replicas. The set is taken under n.mu and handed over outside of it, because the router
// may start queued calls at once.
func (n *Node) update(d *Deployment) {
	d.updating.Lock()
	defer d.updating.Unlock()
	n.mu.Lock()
	set := d.runningLocked()
	n.mu.Unlock()
	// Of replicas that become ready together each comes here, and finds all of them. A set that is new to the router has it make
	// everything anew that it knows of sets (a hash ring of 1,000 replicas takes 0.1 s).
	if !slices.Equal(set, d.Router.Replicas()) {
		d.Router.Update(nil, set)
	}
}

// settleLocked ends the first start of a revision when everything runs.
func (n *Node) settleLocked(r *revision) {
	a := r.app
	if a.status != helvetype.ApplicationDeploying || a.failure != nil || a.current != r {
		return
	}
	for _, d := range a.deployments {
		e := d.now.Load()
		if e.revision != r {
			continue
		}
		ready := 0
		for _, rep := range d.Router.Replicas() {
			if rep.(*Unit).revision != r { // it takes calls until the loop has stopped it
				return
			}
			ready++
		}
		if ready < e.options.NumReplicas {
			return
		}
	}
	a.status, a.previous = helvetype.ApplicationRunning, nil
	for _, d := range a.deployments {
		d.former = nil
	}
	close(r.settled)
	n.wake() // for what is left of the revision before
}

// failLocked ends the first start of a revision with its first error.
func (n *Node) failLocked(r *revision, err error) {
	a := r.app
	if a.status != helvetype.ApplicationDeploying || a.failure != nil || a.current != r {
		return
	}
	if a.previous != nil {
		r.failure = err
		a.revertLocked(err)
		close(r.settled)
		r.cancel(err)
		n.wake()
		return
	}
	a.status, a.failure, a.message, r.failure = helvetype.ApplicationDeployFailed, err, err.Error(), err
	e := call.NewError(call.DeploymentUnavailable, "application "+a.name+" failed to start: "+err.Error())
	for _, d := range a.deployments {
		d.down.Store(e)
	}
	close(r.settled)
	a.cancel(err)
	n.wake()
}

func (n *Node) startFailed(u *Unit, err error) {
	d := u.dep
	n.mu.Lock()
	n.forgetLocked(u)
	if u.edition == d.now.Load() {
		exit := &helvetype.Exit{Replica: u.id, Reason: err.Error(), Code: -1, At: time.Now()}
		if ended, ok := errors.AsType[*endedError](err); ok {
			exit = exitOf(u, ended.exit, "")
		}
		u.vacateLocked(exit)
		d.failedLocked(&d.starting, u, err)
	}
	silent := d.app.failure != nil || d.app.status == helvetype.ApplicationDeploying && !u.retries() || // Deploy returns it
		d.app.endingLocked() // the start was given up
	n.wake()
	n.mu.Unlock()
	if !silent {
		n.log.Error("replica failed to start", "app", d.app.name, "deployment", d.name, "replica", u.id, "error", err)
	}
}

// died is told that a replica's process has ended. Its calls have been answered or routed again by its connection.
// counts says whether it is a failure of its own for the back-off of starts.
func (n *Node) died(u *Unit, exit *helvetype.Exit, counts bool) {
	d := u.dep
	u.gate.Close()
	u.lane.close()
	n.mu.Lock()
	if d.units[u.id] != u || u.state != helvetype.ReplicaRunning {
		// One that is starting or stopping is looked after by whoever starts or stops it.
		n.mu.Unlock()
		return
	}
	n.forgetLocked(u)
	u.vacateLocked(exit)
	reason := strings.Join(append([]string{exit.Reason}, exit.Lines...), "\n")
	if counts && u.edition == d.now.Load() {
		d.forgiveLocked(u)
		d.failedLocked(&d.running, u, errors.New(reason))
	}
	said := exit.Reason
	if w := u.worker; w == nil || !w.buried { // once for all replicas of a worker
		said = reason
		if w != nil {
			w.buried = true
		}
	}
	level, what := slog.LevelError, "replica died, starting another"
	if d.app.endingLocked() {
		level, what = slog.LevelInfo, "replica died"
	}
	n.mu.Unlock()
	n.log.Log(context.Background(), level, what, "app", d.app.name, "deployment", d.name, "replica", u.id, "reason", said,
		"code", exit.Code, "signal", exit.Signal, "out_of_memory", exit.OutOfMemory, "restarts", u.before.restarts+1)
	n.update(d)
	n.wake()
}

// endingLocked says that the application goes: nothing of it that ends is missed.
func (a *app) endingLocked() bool {
	return a.node.closing || a.deleted || a.status == helvetype.ApplicationDeleting
}

// healthyTime is how long a replica must have run for its end to count as the first failure again.
const healthyTime = 10 * time.Minute

func (n *Node) forgetLocked(u *Unit) {
	u.endLife(u.gone())
	if u.dep.units[u.id] == u {
		u.dep.leaving = append(u.dep.leaving, u)
		u.dep.tallyLocked()
	}
	delete(u.dep.units, u.id)
	u.dep.Router.Forget(u)
	n.broadcastLocked()
}

// stopLocked takes a replica out of service, drains it, and ends it.
func (n *Node) stopLocked(u *Unit) {
	if u.state != helvetype.ReplicaRunning { // a starting one is stopped when it is ready and still too many
		return
	}
	u.state = helvetype.ReplicaStopping
	d := u.dep
	n.wg.Go(func() {
		u.gate.Close()
		u.recall(true)
		n.update(d)
		n.mu.Lock()
		n.settleLocked(d.app.current)
		n.mu.Unlock()
		u.lane.close()
		ctx, cancel := context.WithTimeout(d.app.draining(), u.options.GracefulShutdownTimeout)
		defer cancel()
		for (u.gate.Load() > 0 || u.lane.busy()) && ctx.Err() == nil {
			select {
			case <-time.After(2 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		u.stopped.Store(true)
		u.endLife(call.NewError(call.ReplicaUnavailable, "replica "+u.id+" has stopped"))
		closing, cancel2 := context.WithTimeout(n.ctx, closeTime)
		defer cancel2()
		if err := n.end(closing, u); err != nil {
			n.log.Warn("replica did not close cleanly", "app", d.app.name, "deployment", d.name, "replica", u.id, "error", err)
		}
		n.mu.Lock()
		n.forgetLocked(u)
		n.wake()
		n.mu.Unlock()
	})
}

// closeTime bounds a user's Close, as a constructor that is torn down should not hold a shutdown.
const closeTime = 5 * time.Second

// draining is how long a replica of the application that stops may finish what it runs, beside its own time. Of one that is
// deleted the calls have had their time; broadcasts, which nothing waited for, have what is left of it.
func (a *app) draining() context.Context {
	a.node.mu.Lock()
	defer a.node.mu.Unlock()
	switch {
	case a.failure != nil: // nobody was ever served
		return noTime
	case a.deleted:
		return a.left
	}
	return a.node.ctx
}

var noTime = func() context.Context { //nolint:gochecknoglobals // a constant
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

func (n *Node) end(ctx context.Context, u *Unit) error {
	switch {
	case u.instance != nil:
		return u.instance.Close(ctx)
	case u.worker != nil:
		n.askCounts(ctx, u.worker) //nolint:errcheck // what it said last stands
		err := u.worker.stopReplica(ctx, u.id)
		if u.placement == inPython {
			u.worker.end(ctx)
		}
		return err
	}
	return nil
}

// publish gives the proxy the routes of the applications that run.
func (n *Node) publish() error {
	n.mu.Lock()
	var routes []proxy.Route
	for _, a := range n.apps {
		if a.status == helvetype.ApplicationRunning {
			n.proxy.Open()
		}
		g := a.current.def.Graph
		if a.status == helvetype.ApplicationDeleting {
			continue
		} else if a.previous != nil { // until all of the new revision runs
			g = a.previous.def.Graph
		} else if a.status != helvetype.ApplicationRunning {
			continue
		}
		if a.deleted || g.Ingress == nil || g.RoutePrefix == "" {
			continue
		}
		d := a.deployments[g.Ingress.Deployment]
		e := d.now.Load()
		if a.previous != nil && d.former != nil {
			e = d.former
		}
		r := proxy.Route{Prefix: g.RoutePrefix, App: a.name, In: e.inKind(g.Ingress.Method)}
		place := &call.Place{App: a.name, Deployment: d.name, Method: g.Ingress.Method, Prefix: g.RoutePrefix, Home: a.current.def.Home}
		r.Refuses = func(c *call.Call) *call.Error {
			c.Info.Place = place
			return d.Full(c)
		}
		kind := g.Ingress.Kind
		if e.placement == inPython && pythonStreams(g.Ingress.Method, e.methods) {
			kind = spec.IngressStream
		}
		switch kind {
		case spec.IngressHTTP:
			place.Method = "ServeHTTP"
			r.Handle = func(ctx context.Context, c *call.Call, serve proxy.Serve) *call.Error {
				c.Info.Place = place
				return d.Handle(ctx, c, serve)
			}
		case spec.IngressStream:
			r.Stream = func(ctx context.Context, c *call.Call, item proxy.Item) *call.Error {
				c.Info.Place = place
				return d.Stream(ctx, c, item)
			}
		case spec.IngressMethod:
			r.Call = func(ctx context.Context, c *call.Call) (call.Payload, *call.Error) {
				c.Info.Place = place
				return d.Do(ctx, c)
			}
		}
		routes = append(routes, r)
	}
	n.mu.Unlock()
	return n.proxy.SetRoutes(routes)
}

// readiness says of every application whether it answers requests: it runs, and no deployment is without a replica that should have one.
func (n *Node) readiness() map[string]bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make(map[string]bool, len(n.apps))
	for name, a := range n.apps {
		all[name] = a.readyLocked()
	}
	return all
}

func (a *app) readyLocked() bool {
	if a.deleted || a.status == helvetype.ApplicationDeleting || a.previous == nil && a.status != helvetype.ApplicationRunning {
		return false
	}
	ingress := ""
	if in := a.current.def.Graph.Ingress; in != nil {
		ingress = in.Deployment
	}
	for _, d := range a.deployments {
		if d.dropped || len(d.Router.Replicas()) > 0 {
			continue
		}
		if d.name == ingress || d.former != nil || d.now.Load().options.NumReplicas > 0 {
			return false
		}
	}
	return true
}

// inKind says what an ingress method takes.
func (e *edition) inKind(method string) proxy.InKind {
	kind := "json"
	switch {
	case e.class != nil:
		if m, failure := e.class.Lookup(method); failure == nil {
			kind = m.InKind()
		}
	case e.placement == inPython:
		kind = pythonKind(method, e.methods)
	default:
		for _, m := range e.spec.Methods {
			if m.Name == method {
				kind = m.InKind
			}
		}
	}
	switch kind {
	case "none":
		return proxy.InNone
	case "string", "str":
		return proxy.InString
	case "bytes":
		return proxy.InBytes
	case "json":
		return proxy.InJSON
	}
	return proxy.InUnsupported
}

// changedLocked gives a channel that is closed when a replica is gone.
func (n *Node) changedLocked() <-chan struct{} {
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return n.changed
}

func (n *Node) broadcastLocked() {
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}
