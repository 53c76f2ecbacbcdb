package control

import (
	"fmt"
	"sync"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
)

// claim is the right of a request to deploy an application. The next request for the application takes it away: the last one wins, and the first is told.
//
// A whole file also claims its source. For example, a file with the application a is still being built when another one of the same source comes that has b alone: a is
// not deployed any more, although no other request claims it, and b is not deleted.
type claim struct {
	number uint64 // rises with each request
	lost   chan struct{}
	by     string // the author of the request that has taken it; set before lost is closed
}

// taken says that another request has the application.
func (c *claim) taken() bool {
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

// error is the error of a request whose application another one has taken over: another request, or a deploy of a program.
func (c *claim) error(app string) error {
	by := ""
	if c.taken() {
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
	all    map[string]*claim
}

// sourceClaim is the key of the claim of a source. No application has such a name.
func sourceClaim(source string) string { return "source " + source }

// take takes applications and sources over from the requests that have them, all at once: of two requests with the same applications one has all.
func (c *Claims) take(by string, keys ...string) (of map[string]*claim, number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[string]*claim{}
	}
	c.number++
	of = map[string]*claim{}
	for _, key := range keys {
		if before := c.all[key]; before != nil {
			before.by = by
			close(before.lost)
		}
		of[key] = &claim{number: c.number, lost: make(chan struct{})}
		c.all[key] = of[key]
	}
	return of, c.number
}

// drop takes an application over that is deleted.
func (c *Claims) drop(app, by string) {
	c.take(by, app)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, app)
}

// since says that a request after the one of a number has claimed an application.
func (c *Claims) since(number uint64, app string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	newest := c.all[app]
	return newest != nil && newest.number > number
}
