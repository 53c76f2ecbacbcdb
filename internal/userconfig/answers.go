package userconfig

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// Replica is a replica that can be given a user config.
type Replica interface {
	comparable
	ID() string
}

// Answer is the answer of one replica.
type Answer struct {
	Err error // nil if the replica took the config
	// Unsure says that the replica may have the config although there is an error, or be about to take it: its answer did not come in
	// time, or was not waited for.
	Unsure bool
}

// MayHave says that the replica has the config, or may have it.
func (a Answer) MayHave() bool { return a.Err == nil || a.Unsure }

// Answers are the answers of the replicas that were given one user config.
type Answers[R Replica] map[R]Answer

// Ask gives the config to replicas with give, all at once, and notes their answers. The end of ctx has given up the requests.
func (a Answers[R]) Ask(ctx context.Context, replicas []R, give func(R) error) {
	answers := make([]Answer, len(replicas))
	var asked sync.WaitGroup
	for i, r := range replicas {
		asked.Go(func() {
			err := give(r)
			answers[i] = Answer{err, err != nil && (ctx.Err() != nil || ranOut(err))}
		})
	}
	asked.Wait()
	for i, r := range replicas {
		a[r] = answers[i]
	}
}

// ranOut says that a request's time was over, or its caller gone, before the replica had answered. A Reconfigure that returns
// the error of a context of its own has answered.
func ranOut(err error) bool {
	if e := call.ErrorIn(err); e != nil {
		return e.Reason == helvetype.ReasonDeadline || e.Reason == helvetype.ReasonCancelled
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// Refusals are the errors of the replicas that did not take the config; nil if all did. An error that several give alike is in the text
// once. A replica that stops meanwhile has no say; one whose process has ended may have ended because of the config.
func (a Answers[R]) Refusals(stops func(R) bool) error {
	// Errors that cross a process carry their replica: the message counts.
	said, order := map[string][]R{}, []string(nil)
	replicas := slices.SortedFunc(maps.Keys(a), func(r, s R) int { return strings.Compare(r.ID(), s.ID()) })
	for _, r := range replicas {
		err := a[r].Err
		if err == nil || stops(r) {
			continue
		}
		text := call.AsError(err).Message
		if said[text] == nil {
			order = append(order, text)
		}
		said[text] = append(said[text], r)
	}
	var all []error
	for _, text := range order {
		switch rs := said[text]; len(rs) {
		case 1:
			all = append(all, fmt.Errorf("replica %s: Reconfigure: %w", rs[0].ID(), a[rs[0]].Err))
		default:
			all = append(all, fmt.Errorf("%d of %d replicas: Reconfigure: %w", len(rs), len(a), a[rs[0]].Err))
		}
	}
	return errors.Join(all...)
}
