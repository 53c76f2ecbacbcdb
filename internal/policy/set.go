package policy

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"
)

// Source is the policy of one deployment, or that of all deployments of an application that scale by themselves.
type Source struct {
	App string
	// Deployment has the policy. Its own policy has the name of the deployment, and that of the application has none: see Together.
	Deployment string
	// Together are the deployments that a policy of the application answers for; nil for a policy of one deployment.
	Together []string
	// Version is another one for another policy: the one before ends.
	Version string

	// Go is a policy of this program; nil for a policy that a process runs.
	Go Policy
	// Of describes a policy that a process runs. Of one of this program it has the name.
	Of Described
	// Key says which policies share a process: policies of equal keys do. Beside prepares its environment.
	Key    string
	Beside func(ctx context.Context) (Environment, error)
	// Limit is the time of one answer.
	Limit time.Duration
}

// Name is the name of the policy for people: its import path, or that of the function in Go behind [helvetype.GoPolicy].
func (s *Source) Name() string { return s.Of.Function }

// PolicyName is the name of the policy in its application: that of its deployment, or "" for one of all.
func (s *Source) PolicyName() string {
	if s.Together != nil {
		return ""
	}
	return s.Deployment
}

// Advice is the answer of a policy as far as it is known.
type Advice struct {
	// Replicas is the last answer; nil before the first.
	Replicas *float64
	// State is the state of that answer; nil for none.
	State json.RawMessage
	// Failure is why there is no newer answer; nil if nothing has failed.
	Failure *Failure
	// Took is the time of the last question, and Answered the time of the last answer; zero before the first.
	Took     time.Duration
	Answered time.Time
	// Again is when the policy can be asked again. Zero: [SetSettings].Changed is called before that.
	Again time.Time
}

// SetSettings are the arguments of [NewSet].
type SetSettings struct {
	// Changed is called when a policy has answered, or failed. May be nil.
	Changed func()
	// Line gets each line that the process of an application's policies prints. May be nil.
	Line func(app, text string)
	// Scrub takes secrets out of lines, errors and tracebacks; nil leaves them as they are.
	Scrub func(text string) string
}

func (s SetSettings) scrub(text string) string {
	if s.Scrub == nil {
		return text
	}
	return s.Scrub(text)
}

// scrubbed is an error without secrets.
func (s SetSettings) scrubbed(err error) error {
	if err == nil || s.Scrub == nil {
		return err
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return &Error{Text: s.Scrub(e.Text), Traceback: s.Scrub(e.Traceback)}
	}
	if text := err.Error(); s.Scrub(text) != text {
		return errors.New(s.Scrub(text))
	}
	return err
}

// process are the settings of the process of a policy.
func (s SetSettings) process(of *Source) ProcessSettings {
	app := of.App
	return ProcessSettings{Open: of.Beside, Line: func(text string) {
		if s.Line != nil {
			s.Line(app, s.scrub(text))
		}
	}}
}

// scrubbing is a policy whose errors have no secrets.
type scrubbing struct {
	Policy
	set SetSettings
}

// Ask implements [Policy].
func (p scrubbing) Ask(ctx context.Context, views []View) (map[string]Answer, error) {
	answers, err := p.Policy.Ask(ctx, views)
	return answers, p.set.scrubbed(err)
}

// Set has the policies of a node. Its methods may be called from any goroutine, and none but Close waits for a process.
type Set struct {
	set SetSettings
	wg  sync.WaitGroup // ends of policies

	mu        sync.Mutex
	closed    bool
	held      map[[2]string]*entry // by application and policy
	processes map[[2]string]*shared
}

// entry is one policy. Guarded by Set.mu.
type entry struct {
	version string
	held    *Held
	process *shared         // nil for one in Go
	views   map[string]View // the newest of each deployment, of a policy of an application
}

// shared is a process and the number of its policies.
type shared struct {
	key     [2]string
	process *Process
	users   int
}

// NewSet makes an empty set.
func NewSet(s SetSettings) *Set {
	return &Set{set: s, held: map[[2]string]*entry{}, processes: map[[2]string]*shared{}}
}

// Advise gives the last answer of the policy of a deployment, and asks the policy if it is time. view describes the deployment, if it is called. A policy of an application
// is asked when each of its deployments was described once. For example, of A and B the first call of Advise for A asks nothing, and that for B asks with both.
func (s *Set) Advise(now time.Time, of Source, view func() View) (a Advice) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return a
	}
	e := s.entryLocked(&of)
	ready := true
	if of.Together != nil {
		e.views[of.Deployment] = view()
		ready = !slices.ContainsFunc(of.Together, func(name string) bool { _, ok := e.views[name]; return !ok })
	}
	s.mu.Unlock()
	if ready {
		a.Again = e.held.Offer(now, func() []View { return s.views(&of, e, view) })
	}
	if last, ok := e.held.Last(of.Deployment); ok {
		a.Replicas, a.State = &last.Replicas, last.State
	}
	a.Failure = e.held.Failure()
	a.Took, a.Answered = e.held.Took()
	return a
}

// views are the arguments of a question. Their states are the states of the last answer, which may have come after the views were made: a policy of 300 ms is asked again as soon as it has
// answered.
func (s *Set) views(of *Source, e *entry, view func() View) (all []View) {
	if of.Together == nil {
		all = []View{view()}
	} else {
		s.mu.Lock()
		for _, name := range of.Together {
			all = append(all, e.views[name])
		}
		s.mu.Unlock()
	}
	for i := range all {
		if last, ok := e.held.Last(all[i].Deployment); ok && last.State != nil {
			all[i].State = last.State
		}
	}
	return all
}

func (s *Set) entryLocked(of *Source) *entry {
	key := [2]string{of.App, of.PolicyName()}
	e := s.held[key]
	if e != nil && e.version == of.Version {
		return e
	}
	if e != nil {
		s.endLocked(e)
	}
	e = &entry{version: of.Version, views: map[string]View{}}
	settings := Settings{Changed: s.set.Changed}
	p := of.Go
	if of.Go == nil {
		e.process = s.processLocked(of)
		p = e.process.process.Policy(of.PolicyName(), of.Of, of.Limit)
	} else {
		settings.Limit = of.Limit
	}
	e.held = Hold(scrubbing{p, s.set}, settings)
	s.held[key] = e
	return e
}

func (s *Set) processLocked(of *Source) *shared {
	key := [2]string{of.App, of.Key}
	p := s.processes[key]
	if p == nil {
		p = &shared{key: key, process: NewProcess(s.set.process(of))}
		s.processes[key] = p
	}
	p.users++
	return p
}

// endLocked ends a policy, and its process if it was the last one there.
func (s *Set) endLocked(e *entry) {
	var last *Process
	if p := e.process; p != nil {
		if p.users--; p.users == 0 {
			delete(s.processes, p.key)
			last = p.process
		}
	}
	e.held.Close()
	if last != nil {
		s.wg.Go(last.Close)
	}
}

// Keep ends the policies of deployments that are not there any more. deployment is "" for a policy of an application.
func (s *Set) Keep(there func(app, deployment string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, e := range s.held {
		if !there(key[0], key[1]) {
			delete(s.held, key)
			s.endLocked(e)
		}
	}
}

// Close ends all policies, and waits for the ends of their processes.
func (s *Set) Close() {
	s.Keep(func(string, string) bool { return false })
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.wg.Wait()
}
