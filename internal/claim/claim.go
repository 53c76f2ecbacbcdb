// Package claim says which of several requests for one application is the last: it wins, and the others are told. It is pure bookkeeping under one lock.
package claim

import (
	"fmt"
	"sync"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
)

// Claim is the right of a request to deploy an application. The next request for the application takes it away: the last one wins, and the first is told.
//
// A whole file also claims its source. For example, a file with the application a is still being built when another one of the same source comes that has b alone: a is
// not deployed any more, although no other request claims it, and b is not deleted.
type Claim struct {
	number uint64 // rises with each request
	lost   chan struct{}
	by     string // the author of the request that has taken it; set before lost is closed
}

// Taken says that another request has the application. A nil Claim is never taken.
func (c *Claim) Taken() bool {
	if c == nil {
		return false
	}
	select {
	case <-c.lost:
		return true
	default:
		return false
	}
}

// Lost is closed when another request takes the application.
func (c *Claim) Lost() <-chan struct{} { return c.lost }

// Never is a claim that no request takes away, for a plan.
func Never() *Claim { return &Claim{lost: make(chan struct{})} }

// Error is the error of a request whose application another one has taken over: another request, or a deploy of a program.
func (c *Claim) Error(app string) error {
	by := ""
	if c.Taken() {
		by = ", of " + c.by + ","
	}
	return &helvetype.OperationError{
		Code:    helvetype.CodeAborted,
		Message: fmt.Sprintf("application %q: another deploy%s has come before this one was ready, and has taken its place", app, by),
		Next:    fmt.Sprintf("helve history %s shows what runs", app),
		Err:     deploy.ErrSuperseded,
	}
}

// Claims are the newest claims of applications and sources. A claim stays after its request, so that an older request sees that a newer one has dealt with the application.
// The operator and all drivers of a node have the same claims: for example, a script deploys an application while a file with that is being built, and the file leaves
// it. The zero value is ready for use.
type Claims struct {
	mu     sync.Mutex
	number uint64
	all    map[string]*Claim
}

// Source is the key of the claim of a source. No application has such a name.
func Source(source string) string { return "source " + source }

// Take takes applications and sources over from the requests that have them, all at once: of two requests with the same applications one has all. by is the
// author of the new request. The result has the claim of each key, and their number.
func (c *Claims) Take(by string, keys ...string) (of map[string]*Claim, number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[string]*Claim{}
	}
	c.number++
	of = map[string]*Claim{}
	for _, key := range keys {
		if before := c.all[key]; before != nil {
			before.by = by
			close(before.lost)
		}
		of[key] = &Claim{number: c.number, lost: make(chan struct{})}
		c.all[key] = of[key]
	}
	return of, c.number
}

// Drop takes an application over that is deleted.
func (c *Claims) Drop(app, by string) {
	c.Take(by, app)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, app)
}

// Since says that a request after the one of a number has claimed an application.
func (c *Claims) Since(number uint64, app string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	newest := c.all[app]
	return newest != nil && newest.number > number
}
