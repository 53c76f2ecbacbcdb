package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// An upgrade replaces the program of a service while that serves:
//
//	keeper                        node that serves             next node, of the new program
//	starts it                                                  starts, and opens nothing yet: prepared
//	hand_over                     gives up directory,
//	                              sockets and workers
//	answers prepared                                           opens the directory, takes the workers: ready
//	succeed                       passes late calls on,
//	                              ends with its last call
//	executes the new program
//
// A program that does not come as far as prepared changes nothing. If the next node fails after that, the keeper starts a node of the program of before,
// as after any end of a node: its own program is still that one. In both cases no call is lost that the node before has: it goes on, and
// waits for the node that becomes ready.

// The requests of an upgrade between the keeper and its nodes.
const (
	// DoPrepared is the request of a node that begins beside another one. It is answered when the directory is free.
	DoPrepared = "prepared"
	// DoHandOver asks the node that serves to hand over; the answer comes when the directory is free.
	DoHandOver = "hand_over"
	// DoSucceed tells a former node which node serves now: a [Successor].
	DoSucceed = "succeed"
)

// Successor is the node that has taken the place of another.
type Successor struct {
	Private string `json:"private"` // the directory in which programs find it
}

const (
	// prepareTime is how long a new program may take to start.
	prepareTime = 10 * time.Second
	// handOverTime is how long the node that serves may take to hand over. It waits for deploys that are under way.
	handOverTime = 30 * time.Second
	// readyTime is how long the next node may take to serve; workers look for it for a little less.
	readyTime = 25 * time.Second
)

// upgrade replaces the node, and tells the command of each step. When it returns without an error the next node serves, and the keeper has to execute the
// program.
func (k *Keeper) upgrade(c *Conn, u Upgrade) (err error) {
	path := u.Path
	if !filepath.IsAbs(path) {
		return fmt.Errorf("the path of the program must be absolute, is %q", path)
	}
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() || st.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%s is not a program: %w", path, errors.Join(err, syscall.ENOEXEC))
	}
	k.mu.Lock()
	former := k.current
	free := !k.upgrades && k.draining == "" && former != nil && !former.readyAt().IsZero()
	k.upgrades = k.upgrades || free
	k.mu.Unlock()
	if !free {
		return errors.New("the node is starting, draining, or being upgraded: try again later")
	}
	defer func() {
		if err != nil { // else no other upgrade begins before the keeper is the next program
			k.mu.Lock()
			k.upgrades = false
			k.mu.Unlock()
		}
	}()
	tell := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		k.out.info("upgrade", "step", text)
		c.Tell(DoProgress, Reason{text}) //nolint:errcheck // the command may have gone; the upgrade goes on
	}
	next, err := k.startNode(path, true)
	if err != nil {
		return fmt.Errorf("%s does not start: %w", path, err)
	}
	turn, err := next.awaitPrepared()
	if err != nil {
		return fmt.Errorf("%s does not start, and nothing has changed: %w", path, err)
	}
	tell("node %d of %s has started, node %d hands over", next.child.PID, next.name(), former.child.PID)
	k.serve(next) // before the node hands over: its end is no reason to start another
	handing, cancel := context.WithTimeout(context.Background(), handOverTime)
	defer cancel()
	if _, _, err := former.conn.Ask(handing, DoHandOver, nil); err != nil {
		var refused *Failure
		if errors.As(err, &refused) {
			k.serve(former)
			next.end()
			return fmt.Errorf("the node does not hand over, and nothing has changed: %w", err)
		}
		former.end() // the former node has ended or does not answer, and the next one takes its workers as after a crash
	}
	k.drainLate(next)
	turn.Answer(nil, nil)
	if err := next.awaitReady(); err != nil {
		tell("node %d does not serve: %v", next.child.PID, err)
		return fmt.Errorf("%s does not serve, and a node of the program of before is started: %w", path, err)
	}
	tell("node %d serves", next.child.PID)
	return nil
}

// serve makes n the current node.
func (k *Keeper) serve(n *node) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current = n
}

// become executes the program of an upgrade in this process.
func (k *Keeper) become(path string) {
	k.mu.Lock()
	before := k.config.Version
	if k.current != nil {
		k.config.Version = k.current.name()
	}
	k.mu.Unlock()
	err := k.exec(path)
	k.mu.Lock()
	k.config.Version, k.upgrades = before, false
	k.mu.Unlock()
	k.out.error("the keeper goes on with the program of before, and its node with the new one", "error", err)
}

// resumeUpgrade goes on after the program of the keeper was replaced.
func (k *Keeper) resumeUpgrade() {
	k.notify.send("MAINPID=" + fmt.Sprint(os.Getpid()) + "\nSTATUS=Upgraded to " + k.config.Version)
	k.out.info("the keeper goes on with the next program", "version", k.config.Version)
}

// takePrepared notes that a node waits for its turn.
func (n *node) takePrepared(r *Request) {
	select {
	case n.prepared <- r:
	default:
		r.Answer(nil, errors.New("said twice"))
	}
}

// awaitPrepared waits until a node has started; the result is answered when its turn has come. A node that fails is ended.
func (n *node) awaitPrepared() (turn *Request, err error) {
	late := time.NewTimer(prepareTime)
	defer late.Stop()
	select {
	case turn = <-n.prepared:
		return turn, nil
	case <-n.child.done:
		return nil, errors.New(n.how())
	case <-late.C:
		n.end()
		return nil, fmt.Errorf("it has said nothing for %s", prepareTime)
	}
}

// awaitReady waits until a node serves. A node that fails is ended.
func (n *node) awaitReady() error {
	late := time.NewTimer(readyTime)
	defer late.Stop()
	select {
	case <-n.ready:
		return nil
	case <-n.child.done:
		return errors.New(n.how())
	case <-late.C:
		n.end()
		return fmt.Errorf("it is not ready after %s", readyTime)
	}
}

// end kills a node, and waits for its end.
func (n *node) end() {
	syscall.Kill(n.child.PID, syscall.SIGKILL) //nolint:errcheck // it may have ended
	<-n.child.done
}

// name is the version that a node has said it has.
func (n *node) name() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.version
}

// nameSuccessor tells the nodes that have handed over which node serves now. It may be the second one: the first may have ended before it served.
func (k *Keeper) nameSuccessor(next *node, private string) {
	k.mu.Lock()
	var formers []*node
	for _, n := range k.nodes {
		if n != next && !n.readyAt().IsZero() {
			formers = append(formers, n)
		}
	}
	k.mu.Unlock()
	for _, n := range formers {
		n.conn.Tell(DoSucceed, Successor{private}) //nolint:errcheck // it may have ended
	}
}

// UpgradeTo has the keeper of a state directory change to the program at path, and returns when the next node serves and the keeper is that program. Each step
// is given to progress.
func UpgradeTo(ctx context.Context, dir, path string, progress func(step string)) error {
	c, err := Dial(dir, func(do string, body json.RawMessage) {
		var r Reason
		if do == DoProgress && json.Unmarshal(body, &r) == nil {
			progress(r.Text)
		}
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if _, _, err = c.Ask(ctx, DoUpgrade, Upgrade{Path: path}); err != nil {
		return err
	}
	select {
	case <-c.Ended(): // the keeper is the next program, to which the next command goes
	case <-ctx.Done():
	}
	return nil
}
