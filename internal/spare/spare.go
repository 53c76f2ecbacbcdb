// Package spare keeps processes ready that have started and have nothing to do yet: one for each environment that is wanted. A start takes the process of its environment, and does not wait for
// an interpreter and its imports.
//
// For example, two deployments of an application have the same runtime_env, and both want a spare. One process is ready. A replica of the first takes it; when that replica
// is ready another process starts, and the replica of the second that starts an hour later takes that one.
package spare

import (
	"context"
	"slices"
	"sync"
)

// Process is a process that waits.
type Process interface {
	// Ended is closed when the process has ended.
	Ended() <-chan struct{}
	// End ends the process, and returns when it has ended.
	End()
}

// Start starts a process, and returns when it is ready.
type Start[P Process] func(ctx context.Context) (P, error)

// Pool has the spare processes of an application. The zero value has none. Its methods may be called from any goroutine.
type Pool[P Process] struct {
	wg sync.WaitGroup

	mu     sync.Mutex
	closed bool
	last   int               // number of the last claim
	claims map[string]int    // the newest claim of each deployment
	wanted map[string]string // key of the environment, by the deployment that wants a spare
	slots  map[string]*slot[P]
}

// slot is the place of one spare.
type slot[P Process] struct {
	start   Start[P]
	up      chan struct{} // closed when its start has ended; nil while there is neither a process nor a start
	cancel  context.CancelFunc
	process P
	ready   bool
}

// Want says that a deployment wants a spare of an environment, and starts one if there is none. The spare that it wanted before ends if no other deployment wants it.
func (p *Pool[P]) Want(deployment, key string, start Start[P]) { p.Claim(deployment)(key, start) }

// Claim is Want for an environment that is known later. A claim that another one of the deployment has followed, or whose deployment is not kept any more, does nothing. For example, pip installs the
// environment of revision 1 for a minute, and revision 2 with another one is deployed meanwhile: the spare is of revision 2, also when that of 1 is ready.
func (p *Pool[P]) Claim(deployment string) (want func(key string, start Start[P])) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.claims == nil {
		p.claims, p.wanted, p.slots = map[string]int{}, map[string]string{}, map[string]*slot[P]{}
	}
	p.last++
	claim := p.last
	p.claims[deployment] = claim
	return func(key string, start Start[P]) { p.want(deployment, claim, key, start) }
}

func (p *Pool[P]) want(deployment string, claim int, key string, start Start[P]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.claims[deployment] != claim {
		return
	}
	p.wanted[deployment] = key
	if p.slots[key] == nil {
		p.slots[key] = &slot[P]{}
	}
	p.slots[key].start = start
	p.fillLocked(key)
	p.dropLocked()
}

// Keep ends the spares that only other deployments have wanted.
func (p *Pool[P]) Keep(deployments []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.claims {
		if !slices.Contains(deployments, name) {
			delete(p.claims, name)
			delete(p.wanted, name)
		}
	}
	p.dropLocked()
}

// Take gives the spare of an environment, and waits for one that is being started. false: there is none.
func (p *Pool[P]) Take(ctx context.Context, key string) (process P, ok bool) {
	for {
		p.mu.Lock()
		s := p.slots[key]
		if s == nil || s.up == nil {
			p.mu.Unlock()
			return process, false
		}
		up := s.up
		select {
		case <-up:
			process, ok = s.process, s.ready && !ended(s.process)
			s.emptyLocked()
			p.mu.Unlock()
			return process, ok
		default:
		}
		p.mu.Unlock()
		select {
		case <-up:
		case <-ctx.Done():
			return process, false
		}
	}
}

// Fill starts the spare of an environment anew, if it is wanted and was taken or has ended.
func (p *Pool[P]) Fill(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.slots[key]; s != nil && s.ready && ended(s.process) {
		s.emptyLocked()
	}
	p.fillLocked(key)
}

func (p *Pool[P]) fillLocked(key string) {
	s := p.slots[key]
	if p.closed || s == nil || s.up != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	up := make(chan struct{})
	s.up, s.cancel = up, cancel
	start := s.start
	p.wg.Go(func() {
		defer cancel()
		process, err := start(ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		defer close(up)
		switch current := s.up == up && p.slots[key] == s && !p.closed; {
		case err != nil && current:
			s.up = nil // the next Fill tries again: a start that takes none says what is wrong
		case err == nil && current:
			s.process, s.ready = process, true
		case err == nil:
			p.wg.Go(process.End)
		}
	})
}

// dropLocked ends the spares that no deployment wants.
func (p *Pool[P]) dropLocked() {
	for key, s := range p.slots {
		if p.isWantedLocked(key) {
			continue
		}
		delete(p.slots, key)
		if s.cancel != nil {
			s.cancel()
		}
		if s.ready {
			p.wg.Go(s.process.End)
		}
	}
}

func (p *Pool[P]) isWantedLocked(key string) bool {
	for _, k := range p.wanted {
		if k == key {
			return true
		}
	}
	return false
}

func (s *slot[P]) emptyLocked() {
	var none P
	s.up, s.cancel, s.process, s.ready = nil, nil, none, false
}

// Close ends all spares.
func (p *Pool[P]) Close() {
	p.Keep(nil)
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.wg.Wait()
}

func ended(p Process) bool {
	select {
	case <-p.Ended():
		return true
	default:
		return false
	}
}
