package userconfig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/helve-serve/helve/internal/call"
)

// Configurable is a replica whose user config changes. The lock of its deployment is held for the methods that end in Locked.
type Configurable interface {
	Replica
	// ChangingLocked is closed when the replica has taken or refused the config that it was given before; nil while it has none to take.
	ChangingLocked() <-chan struct{}
	SetConfigLocked(number int) // the number of the config that it has
	StopsLocked() bool
	InServiceLocked() bool
	// ReplaceLocked takes the replica out of service, so that another starts in its place.
	ReplaceLocked(err error)
	Give(ctx context.Context, config json.RawMessage) error
}

// Deployment is a deployment in one revision, with the lock that guards it. The lock is held for the methods that end in Locked.
type Deployment[R Configurable] interface {
	sync.Locker
	TargetLocked() *Target
	// RunningLocked are the replicas that run with the revision.
	RunningLocked() []R
	// WantedLocked is the number of replicas that are wanted. It returns false if the deployment is gone or has another revision.
	WantedLocked() (n int, present bool)
	// WaveLocked is the number of replicas that are asked at a time, so that never all of them are busy with it.
	WaveLocked() int
	ChangedLocked() // replicas have another config
	RetryLocked()   // the next replica starts without delay, because it gets another config
	Save() error    // keeps the target for the next node; nil when that is sure
	Warn(r R, err error)
}

// Change gives a deployment another user config, in rounds. Each round asks a wave of the replicas that run and were not asked before; the first that
// refuses ends it. For example, with waves of two, replicas 1 and 2 are asked, then 3 and 4; replica 5, which started with the config of before, becomes
// ready meanwhile, and is asked in the third round.
type Change[R Configurable] struct {
	of      Deployment[R]
	config  Config
	answers Answers[R]
	outcome chan error // of one

	// Guarded by the lock of the deployment.
	accepted, withdrawn bool
	last                Target // before the config was accepted
}

// NewChange makes a change of the user config. [Change.Run] begins it.
func NewChange[R Configurable](of Deployment[R], config Config) *Change[R] {
	return &Change[R]{of: of, config: config, answers: Answers[R]{}, outcome: make(chan error, 1)}
}

// Await returns the outcome of the change. When ctx ends before, the change is withdrawn, unless the config is the target already.
func (c *Change[R]) Await(ctx context.Context) error {
	select {
	case err := <-c.outcome:
		return err
	case <-ctx.Done():
	}
	c.of.Lock()
	c.withdrawn = true
	accepted := c.accepted
	c.of.Unlock()
	if accepted { // the config is about to be kept for the next node
		return <-c.outcome
	}
	return fmt.Errorf("the user config was withdrawn: %w", call.EndOf(ctx))
}

// Run asks the replicas, and makes the config the target or gives the replicas the one before again. The end of ctx gives up the questions
// about the new config, the end of life those about the one before. A config that cannot be kept for the next node is taken back, as a refused one:
// else that node would give the replicas the config before.
func (c *Change[R]) Run(ctx, life context.Context) {
	last, refused := c.ask(ctx)
	if refused == nil {
		err := c.of.Save()
		if err != nil {
			last = c.takeBack()
			c.restore(life, last)
			err = fmt.Errorf("the one before stays in use: %w", err)
		}
		c.outcome <- err
		return
	}
	c.restore(life, last)
	c.outcome <- fmt.Errorf("the user config was refused, the one before stays in use: %w", refused)
}

// ask asks the replicas until all that run have answered, and decides. It returns the target, and the refusal if that is not the
// new config.
func (c *Change[R]) ask(ctx context.Context) (target Config, refused error) {
	c.of.Lock()
	defer c.of.Unlock()
	for {
		running := c.of.RunningLocked()
		ask, changing := c.roundLocked(running)
		if len(ask) == 0 && changing == nil {
			refused = c.decideLocked(running)
			return c.of.TargetLocked().Current, refused
		}
		c.of.Unlock()
		if changing != nil { // the config that was given before is taken before
			<-changing
		} else {
			c.answers.Ask(ctx, ask, func(r R) error { return r.Give(ctx, c.config.Value) })
		}
		c.of.Lock()
	}
}

// takeBack makes the target of before the target again, and returns its config.
func (c *Change[R]) takeBack() Config {
	c.of.Lock()
	defer c.of.Unlock()
	*c.of.TargetLocked() = c.last
	c.of.ChangedLocked()
	return c.last.Current
}

// roundLocked are the replicas to ask next. While one of the replicas takes another config, changing is its channel.
func (c *Change[R]) roundLocked(running []R) (ask []R, changing <-chan struct{}) {
	wave := max(c.of.WaveLocked(), 1)
	if c.answers.Refusals(R.StopsLocked) != nil {
		wave = 0
	}
	for _, r := range running {
		if _, ok := c.answers[r]; !ok && len(ask) < wave {
			ask = append(ask, r)
		}
		if ch := r.ChangingLocked(); ch != nil {
			changing = ch
		}
	}
	return ask, changing
}

// decideLocked makes the config the target, or the trial if no replica runs, or says why not.
func (c *Change[R]) decideLocked(running []R) error {
	wanted, present := c.of.WantedLocked()
	if refused := c.answers.Refusals(R.StopsLocked); refused != nil {
		return refused
	}
	switch {
	case c.withdrawn:
		return errors.New("it was withdrawn")
	case len(running) == 0 && !present:
		return errors.New("its revision of the deployment does not run any more")
	}
	c.accepted, c.last = true, *c.of.TargetLocked()
	if len(running) == 0 && wanted > 0 { // the config may bring them back
		c.of.TargetLocked().Try(c.config)
		c.of.RetryLocked()
		return nil
	}
	c.of.TargetLocked().Accept(c.config)
	for _, r := range running {
		r.SetConfigLocked(c.config.Number)
	}
	c.of.ChangedLocked()
	return nil
}

// restore gives the replicas that were asked the config again that they had: the replicas that took the other one, and the replicas that
// refused it and may have taken half of it. A replica that has the refused one for good is replaced.
func (c *Change[R]) restore(ctx context.Context, last Config) {
	var restored sync.WaitGroup
	for r, answer := range c.answers {
		restored.Go(func() { c.restoreTo(ctx, last, r, answer) })
	}
	restored.Wait()
}

func (c *Change[R]) restoreTo(ctx context.Context, last Config, r R, answer Answer) {
	c.of.Lock()
	serves := r.InServiceLocked()
	c.of.Unlock()
	if !serves {
		return
	}
	err := errors.New("there was no user config before")
	if last.Value != nil {
		err = r.Give(ctx, last.Value)
	}
	switch {
	case err == nil:
		c.of.Lock()
		r.SetConfigLocked(last.Number)
		c.of.ChangedLocked()
		c.of.Unlock()
	case answer.MayHave():
		c.of.Lock()
		r.ReplaceLocked(fmt.Errorf("replica %s has a user config that another replica refused, and cannot go back: %w", r.ID(), err))
		c.of.Unlock()
	case last.Value != nil:
		c.of.Warn(r, err)
	}
}
