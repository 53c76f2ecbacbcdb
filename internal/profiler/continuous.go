package profiler

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/profile"
)

// Continuous profiles: every continuousPeriod a CPU profile of continuousTime is taken of each process with replicas, and kept for continuousAge, so that the minutes before a
// trouble can be looked at after it. For example, a replica that was slow from 10:02 to 10:04 is asked at 10:05: its profiles since 10:00 are 30 of one second each, and the stacks of the slow
// time are in them. Its cost is that of a profile on demand for a tenth of the time.
const (
	continuousPeriod = 10 * time.Second
	continuousTime   = time.Second
	continuousAge    = 15 * time.Minute
	continuousBytes  = 16 << 20 // of all profiles together: the oldest go first
	// continuousSlack is how much longer than its profile a process may take to answer, before the others go on without it.
	continuousSlack = 2 * time.Second
)

// continuous has the profiles that were taken since it was turned on.
type continuous struct {
	since time.Time
	stop  context.CancelFunc
	taken []taken // the oldest first
	bytes int
}

// taken is one profile of one process.
type taken struct {
	at       time.Time
	replicas []helvetype.Object // of the process
	file     []byte
}

// SetContinuous turns continuous profiles on or off. Turned off, they are dropped.
func (p *Profiler) SetContinuous(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case on && p.on == nil:
		ctx, stop := context.WithCancel(p.ctx)
		p.on = &continuous{since: time.Now(), stop: stop}
		go p.run(ctx, p.on)
	case !on && p.on != nil:
		p.on.stop()
		p.on = nil
	}
}

// Continuous says whether continuous profiles are taken, and how much of them is kept.
func (p *Profiler) Continuous() profile.Continuous {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on == nil {
		return profile.Continuous{}
	}
	return profile.Continuous{On: true, Since: new(p.on.since), Profiles: len(p.on.taken), Bytes: p.on.bytes}
}

// hold keeps continuous profiles from being taken until its result is called: a process takes one profile at a time. It waits for the end of those under way, or of ctx.
func (p *Profiler) hold(ctx context.Context) (release func()) {
	p.mu.Lock()
	p.holds++
	running := p.round
	p.mu.Unlock()
	if running != nil {
		select {
		case <-running:
		case <-ctx.Done():
		}
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.holds--
	}
}

// run takes profiles until ctx ends.
func (p *Profiler) run(ctx context.Context, c *continuous) {
	turn := time.NewTicker(continuousPeriod)
	defer turn.Stop()
	for {
		p.turn(ctx, c)
		select {
		case <-turn.C:
		case <-ctx.Done():
			return
		}
	}
}

// turn takes a profile of each process at the same time, unless an operator has one taken.
func (p *Profiler) turn(ctx context.Context, c *continuous) {
	ctx, cancel := context.WithTimeout(ctx, continuousTime+continuousSlack)
	defer cancel()
	over := make(chan struct{})
	p.mu.Lock()
	if p.holds > 0 {
		p.mu.Unlock()
		return
	}
	p.round = over
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.round = nil
		close(over)
	}()
	var all sync.WaitGroup
	for _, replicas := range p.processes() {
		all.Go(func() {
			of := replicas[0]
			s, err := p.node.Asked(of.App, of.Deployment, of.Replica)
			if err != nil { // the replica has ended since
				return
			}
			if file, err := p.take(ctx, s, of, profile.CPU, continuousTime); err == nil { // else the process has ended, or does not answer
				p.keep(c, taken{time.Now(), replicas, file})
			}
		})
	}
	all.Wait()
}

// processes are the replicas that run, by process.
func (p *Profiler) processes() map[int][]helvetype.Object {
	all := map[int][]helvetype.Object{}
	for app, a := range p.node.Status().Applications {
		for deployment, d := range a.Deployments {
			for _, r := range d.Replicas {
				if r.State == helvetype.ReplicaRunning {
					all[r.PID] = append(all[r.PID], helvetype.Object{Kind: helvetype.KindReplica, App: app, Deployment: deployment, Replica: r.ID})
				}
			}
		}
	}
	return all
}

// keep keeps a profile. Profiles that are too old are dropped, and the oldest ones while all together are too large.
func (p *Profiler) keep(c *continuous, t taken) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.taken = append(c.taken, t)
	c.bytes += len(t.file)
	n := 0
	for n < len(c.taken) && (c.bytes > continuousBytes || t.at.Sub(c.taken[n].at) > continuousAge) {
		c.bytes -= len(c.taken[n].file)
		n++
	}
	c.taken = slices.Delete(c.taken, 0, n)
}

// Last joins the continuous profiles of the last time d of the process of a replica, which may have ended.
func (p *Profiler) Last(of helvetype.Object, d time.Duration) ([]byte, error) {
	p.mu.Lock()
	c := p.on
	var files [][]byte
	if c != nil {
		for _, t := range c.taken {
			if time.Since(t.at) <= d && slices.Contains(t.replicas, of) {
				files = append(files, t.file)
			}
		}
	}
	p.mu.Unlock()
	switch {
	case c == nil:
		return nil, &helvetype.OperationError{Code: helvetype.CodeFailedPrecondition, Message: "continuous profiles are off, so that there is none of the time before", Next: "helve profile --continuous"}
	case len(files) == 0:
		return nil, &helvetype.OperationError{
			Code:    helvetype.CodeNotFound,
			Message: fmt.Sprintf("there is no profile of %s in the last %s; continuous profiles are on since %s, and one is taken every %s", of, d, c.since.Format(time.TimeOnly), continuousPeriod),
			Next:    "helve status lists the replicas",
		}
	}
	all := make([]*profile.Profile, 0, len(files))
	for _, file := range files {
		one, err := profile.Decode(file)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b *profile.Profile) int { return cmp.Compare(a.Start.UnixNano(), b.Start.UnixNano()) })
	return profile.Join(all).Encode(), nil
}
