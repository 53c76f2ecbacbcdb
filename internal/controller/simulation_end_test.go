package controller

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/store"
)

// within waits until ok gives "", and reports what it gives after limit.
func (s *simulation) within(limit time.Duration, ok func() string) bool {
	for start := time.Now(); ; time.Sleep(500 * time.Millisecond) {
		synctest.Wait()
		if name := s.node.unsaved(); name != "" {
			s.wrong("the file of the node has application %s as it was", name)
		}
		why := ok()
		if why == "" {
			return true
		}
		if time.Since(start) > limit {
			s.wrong("after %s: %s", limit, why)
			return false
		}
	}
}

func (s *simulation) operatorsDone() string {
	s.node.ResumeRollout(context.Background(), "app", "simulation") //nolint:errcheck // there may be none
	if n := s.busy.Load(); n > 0 {
		return fmt.Sprintf("%d operators still wait", n)
	}
	return ""
}

// deploysDone says whether the deploys have ended that a node before had begun. No operator waits for them. For example, the first deploy of the application fails at
// the next node: its records are deleted, and then its replicas stop.
func (s *simulation) deploysDone() string {
	if s.disk == nil {
		return ""
	}
	s.node.ResumeRollout(context.Background(), "app", "simulation") //nolint:errcheck // there may be none
	r, err := store.Get(context.Background(), s.disk.store, store.AppKey("app"))
	if err != nil || r.Record.Attempt != nil {
		return fmt.Sprintf("the deploy of revision %d has not ended: %v", r.Record.Revision, err)
	}
	if a, there := s.node.Status().Applications["app"]; there && r.Modified == 0 {
		return fmt.Sprintf("the application has no record and is still there: %s", a.Status)
	}
	return ""
}

// converge ends the chaos, and checks that the node gets well by itself.
func (s *simulation) converge() {
	s.calm.Store(true)
	if !s.within(operatorLimit, s.operatorsDone) || !s.within(operatorLimit, s.deploysDone) {
		return
	}
	if _, there := s.node.Status().Applications["app"]; !there || s.expected == nil && s.polite.Load() {
		if there {
			s.wrong("the application is there although nothing should run")
		}
		p, def := s.newPlan()
		for p.broken != "" {
			p, def = s.newPlan()
		}
		if err := s.node.Deploy(context.Background(), def); err != nil {
			s.wrong("deploy of a sound application: %v", err)
			return
		}
		s.expected = p
	}
	s.node.Mu.Lock()
	p := s.node.Apps["app"].Current.Def.Home.(*plan)
	s.node.Mu.Unlock()
	if s.polite.Load() && p != s.expected || p.broken != "" {
		s.wrong("%+v runs, expected %+v", p, s.expected)
	}
	if !s.within(convergeLimit, func() string { return s.unwell(p) }) {
		return
	}
	for _, name := range p.names {
		config := s.nextConfig()
		if err := s.node.Reconfigure(context.Background(), "app", name, config); err != nil {
			s.wrong("reconfigure %s: %v", name, err)
		}
		d := s.node.Deployment("app", name)
		s.node.Mu.Lock()
		for _, r := range s.node.Apps["app"].Deployments[name].Replicas {
			if r.State != helvetype.ReplicaRunning {
				continue
			}
			if i := valueOf(r).(*subject); strconv.FormatInt(i.config, 10) != string(config) {
				s.wrong("replica %s has config %d, not %s", r.ID, i.config, config)
			}
		}
		s.node.Mu.Unlock()
		if s.wanted(name) == 0 {
			continue
		}
		s.within(time.Minute, d.Unfinished) // so that a limit of the queue refuses nothing
		c := s.newCall("Submit", name)
		c.ends, c.call.Info.Affinity = returns, nil // every replica can take the call
		w := call.NewWaiter()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		out, e := w.Wait(ctx, d.Submit(nil, &c.call, w))
		cancel()
		c.Complete(nil, call.Result{Payload: out, Err: e})
		if e != nil {
			s.wrong("a fresh call of %s: %v", name, e)
		}
	}
}

// unwell compares the node with p. The result is the first difference, "" for none.
func (s *simulation) unwell(p *plan) string {
	a, ok := s.node.Status().Applications["app"]
	rolledBack := a.Status == helvetype.ApplicationDeployFailed && strings.Contains(a.Message, "was rolled back")
	if !ok || a.Status != helvetype.ApplicationRunning && !rolledBack || len(a.Deployments) != len(p.names) {
		return fmt.Sprintf("status %+v, expected %v", a, p.names)
	}
	for _, name := range p.names {
		d := a.Deployments[name]
		if wanted := s.wanted(name); d.Status != helvetype.DeploymentHealthy && !(rolledBack && d.Status == helvetype.DeploymentDeployFailed) || len(d.Replicas) != wanted {
			return fmt.Sprintf("%s is %s (%s) with %d replicas, expected %d: %+v", name, d.Status, d.Message, len(d.Replicas), wanted, d.Replicas)
		}
		for _, r := range d.Replicas {
			if r.State != helvetype.ReplicaRunning {
				return fmt.Sprintf("replica %s is %s", r.ID, r.State)
			}
		}
	}
	s.node.Mu.Lock()
	defer s.node.Mu.Unlock()
	for _, d := range s.node.Apps["app"].Deployments {
		for _, r := range d.Replicas {
			if r.Of.Revision != s.node.Apps["app"].Current {
				return fmt.Sprintf("replica %s is of revision %d", r.ID, r.Of.Revision.Number)
			}
			i := valueOf(r).(*subject)
			if i.ill() != 0 {
				return fmt.Sprintf("replica %s serves although it is sick", r.ID)
			}
			target := "0"
			if current := r.Of.Config.Current.Value; current != nil {
				target = string(current)
			}
			trial, tried := r.Of.Config.Trial()
			if has := i.holds(); has != target || tried {
				return fmt.Sprintf("replica %s has the config %s, the target is %s (trial: %s)", r.ID, has, target, trial.Value)
			}
		}
	}
	return ""
}

// end closes the node, and checks that nothing is left.
func (s *simulation) end() {
	if err := s.node.Close(context.Background()); err != nil && !errors.Is(err, serving.ErrUnfinished) { // calls that ignore their end are part of it
		s.wrong("close: %v", err)
	}
	s.closed.Store(true)
	now := time.Now()
	check := func(before time.Time) { // an instance that is made while its start is given up is closed by the start, which ends later
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, i := range s.subjects {
			i.mu.Lock()
			if i.closes != 1 && i.made.Before(before) {
				s.wrong("the node has closed, but an instance of %s was closed %d times", i.name, i.closes)
			}
			i.mu.Unlock()
		}
	}
	// The Close of an instance whose grace is over is called, and is not waited for: its goroutine may be about to run, at this same instant. For example, a call ignored its end, and
	// took all of the grace: the node closes at 34.65 s, and so does the instance.
	synctest.Wait()
	check(now)
	time.Sleep(time.Minute) // for code that ignores its context
	synctest.Wait()
	check(time.Now())
	s.within(0, s.operatorsDone)
	for _, c := range s.calls {
		c.mu.Lock()
		if c.answers != 1 {
			s.wrong("%s: %d answers, ran %d times", c, c.answers, c.runs)
		}
		c.mu.Unlock()
	}
}
