package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/proc"
	"github.com/helve-serve/helve/bench/stat"
	"github.com/helve-serve/helve/internal/rest"
)

// durable is a node that helve start runs, with its state directory. Its addresses stay the same when it is started again.
type durable struct {
	b      *bench
	helve  string // the binary
	app    string // the executable of stored/main.go
	state  string
	http   string
	admin  string
	client *rest.Client
	keeper *exec.Cmd
}

// durableNode builds the binary and the executable with the applications, for the rows of a group.
func (b *bench) durableNode() (*durable, error) {
	dir, err := b.tempDir()
	if err != nil {
		return nil, err
	}
	d := &durable{b: b, helve: filepath.Join(dir, "helve"), app: filepath.Join(dir, "stored"), state: filepath.Join(dir, "state")}
	for out, pkg := range map[string]string{d.helve: "../cmd/helve", d.app: "./stored"} { // the modules of the two are not one
		build := command(b.ctx, "go", "build", "-o", out, ".")
		build.Dir = pkg
		if err := build.Run(); err != nil {
			return nil, err
		}
	}
	for _, addr := range []*string{&d.http, &d.admin} {
		if *addr, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	if d.client, err = rest.Dial(d.admin); err != nil {
		return nil, err
	}
	b.onEnd(d.stop)
	return d, nil
}

// freeAddress is an address at which nothing listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// start starts the keeper, and with it a node.
func (d *durable) start() error {
	d.keeper = command(d.b.ctx, d.helve, "start", "--state-dir", d.state, "--http", d.http, "--admin", d.admin)
	d.keeper.Stderr = nil // it says that it was killed
	return d.keeper.Start()
}

// stop ends the keeper in order, or kills it.
func (d *durable) stop() {
	if d.keeper == nil {
		return
	}
	d.keeper.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	end := time.AfterFunc(30*time.Second, func() { d.keeper.Process.Kill() })
	defer end.Stop()
	d.keeper.Wait() //nolint:errcheck // as above
	d.keeper = nil
}

// await waits until a node answers.
func (d *durable) await() error {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := d.pid(); err == nil {
			return nil
		}
	}
	return errors.New("helve start does not answer")
}

// pid is the process of the node.
func (d *durable) pid() (int, error) {
	about, err := d.client.About(d.b.ctx)
	return about.PID, err
}

// answer asks an application over a connection of its own until it answers, and gives its answer: the process of its replica. Connections that are refused
// meanwhile, and answers that the application is not there yet, are asked again.
func (d *durable) answer(app string) (string, error) {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	var last error
	for end := time.Now().Add(time.Minute); time.Now().Before(end) && d.b.ctx.Err() == nil; time.Sleep(time.Millisecond) {
		text, err := d.ask(c, app)
		if err == nil {
			return text, nil
		}
		last = err
	}
	return "", errors.Join(last, d.b.ctx.Err())
}

func (d *durable) ask(c *http.Client, app string) (string, error) {
	req, err := http.NewRequestWithContext(d.b.ctx, http.MethodPost, "http://"+d.http+"/"+app, strings.NewReader("x"))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "text/plain")
	r, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", r.Status, body)
	}
	return string(body), err
}

// applications is the number of applications in stored/main.go.
const applications = 100

// name is that of an application of stored/main.go.
func name(i int) string { return fmt.Sprintf("app%03d", i) }

// attach connects a program to the node. The admin interface of a node answers before programs can attach.
func (d *durable) attach() (sys *helve.System, err error) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if sys, err = helve.Connect(d.b.ctx, d.state); err == nil {
			return sys, nil
		}
	}
	return nil, err
}

// deploy has the node keep the applications with these numbers.
func (d *durable) deploy(from, to int) error {
	sys, err := d.attach()
	if err != nil {
		return err
	}
	defer sys.Close(d.b.ctx)
	for i := from; i < to; i++ {
		if err := sys.Deploy(d.b.ctx, helve.Executable("exec:"+d.app+"#"+name(i))); err != nil {
			return fmt.Errorf("%s: %w", name(i), err)
		}
	}
	return nil
}

// killed is the outcome of a node's death.
type killed struct {
	seconds            float64 // to the first answer
	accepted, attempts int     // connections that clients made in the second behind it
}

// kill ends the node as kill -9 does, while clients make connections.
func (d *durable) kill() (k killed, err error) {
	before, err := d.answer(name(0))
	if err != nil {
		return k, err
	}
	pid, err := d.pid()
	if err != nil {
		return k, err
	}
	ctx, cancel := context.WithTimeout(d.b.ctx, time.Second)
	defer cancel()
	var clients sync.WaitGroup
	begin := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return k, err
	}
	clients.Go(func() { k.accepted, k.attempts = d.connect(ctx) })
	after, err := d.answer(name(0))
	k.seconds = time.Since(begin).Seconds()
	clients.Wait()
	if err == nil && after != before {
		err = fmt.Errorf("the replica was in the process %s, and is in %s: it was not kept", before, after)
	}
	return k, err
}

// connect makes connections until ctx ends.
func (d *durable) connect(ctx context.Context) (accepted, attempts int) {
	for ctx.Err() == nil {
		conn, err := net.DialTimeout("tcp", d.http, 5*time.Second)
		attempts++
		if err == nil {
			accepted++
			conn.Close()
		}
		time.Sleep(2 * time.Millisecond)
	}
	return accepted, attempts
}

// restarted is the time from a start to the first answer of the first application, and to that of the last.
type restarted struct{ first, last float64 }

// restart ends the node in order, and starts it with the applications that it has stored.
func (d *durable) restart(stored int) (r restarted, err error) {
	d.stop()
	begin := time.Now()
	if err := d.start(); err != nil {
		return r, err
	}
	if _, err := d.answer(name(0)); err != nil {
		return r, err
	}
	r.first = time.Since(begin).Seconds()
	for i := range stored {
		if _, err := d.answer(name(i)); err != nil {
			return r, fmt.Errorf("%s: %w", name(i), err)
		}
	}
	r.last = time.Since(begin).Seconds()
	return r, nil
}

// writes are how often the node has written to its state directory, and how often it has waited for the disk.
func (d *durable) writes() (writes, syncs float64, err error) {
	r, err := http.Get("http://" + d.admin + "/metrics") //nolint:noctx // the admin interface of this machine
	if err != nil {
		return 0, 0, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	for name, value := range map[string]*float64{"helve_state_writes_total": &writes, "helve_state_syncs_total": &syncs} {
		_, rest, found := strings.Cut(string(text), "\n"+name+" ")
		number, _, _ := strings.Cut(rest, "\n")
		v, perr := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err == nil && (!found || perr != nil) {
			err = fmt.Errorf("/metrics has no %s: %w", name, perr)
		}
		*value = v
	}
	return writes, syncs, err
}

// stored has the rows about starts with stored applications, which need more and more of them.
type stored struct {
	node  func() (*durable, error)
	count int // of the applications that the node has stored
}

// restart stores applications up to a number, and takes the median of some starts.
func (s *stored) restart(b *bench, count int) (r restarted, err error) {
	d, err := s.node()
	if err == nil && count > s.count {
		err = d.deploy(s.count, count)
		s.count = count
	}
	var first, last []float64
	for range b.rounds {
		if err != nil {
			return r, err
		}
		var one restarted
		one, err = d.restart(count)
		first, last = append(first, one.first), append(last, one.last)
	}
	return restarted{stat.Median(first), stat.Median(last)}, err
}

// durableRows measure a node under a keeper: its death, its memory, and its starts with stored applications.
func durableRows(b *bench) []measurement {
	node := sync.OnceValues(func() (*durable, error) {
		d, err := b.durableNode()
		if err != nil {
			return nil, err
		}
		if err := d.start(); err != nil {
			return nil, err
		}
		return d, errors.Join(d.await(), d.deploy(0, 1))
	})
	deaths := sync.OnceValues(func() (all []killed, err error) {
		d, err := node()
		for range b.rounds {
			if err != nil {
				return nil, err
			}
			var k killed
			k, err = d.kill()
			all = append(all, k)
		}
		return all, err
	})
	rows := []measurement{
		{name: "node killed, to first answer / bar", bar: 1, measure: func() (result, error) {
			all, err := deaths()
			var seconds []float64
			for _, k := range all {
				seconds = append(seconds, k.seconds)
			}
			const bar = 0.5
			return result{fmt.Sprintf("%.3f s", stat.Median(seconds)), fmt.Sprintf("%.3f s", bar), stat.Median(seconds) / bar}, err
		}},
		{name: "node killed, accepted connections / all", bar: 1, atLeast: true, exact: true, measure: func() (result, error) {
			all, err := deaths()
			accepted, attempts := 0, 0
			for _, k := range all {
				accepted += k.accepted
				attempts += k.attempts
			}
			return result{fmt.Sprint(accepted), fmt.Sprint(attempts), float64(accepted) / float64(attempts)}, err
		}},
	}
	memory := func(name string, bar float64, pid func(*durable) (int, error)) {
		rows = append(rows, measurement{name: name, bar: 1, exact: true, measure: func() (result, error) {
			d, err := node()
			if err != nil {
				return result{}, err
			}
			of, err := pid(d)
			if err != nil {
				return result{}, err
			}
			mb, err := proc.PSS(of)
			return result{fmt.Sprintf("%.1f MB", mb), fmt.Sprintf("%.1f MB", bar), mb / bar}, err
		}})
	}
	deployed := sync.OnceValues(func() (n [2]float64, err error) {
		d, err := node()
		if err != nil {
			return n, err
		}
		w1, s1, err1 := d.writes()
		err = d.deploy(1, 2)
		w2, s2, err2 := d.writes()
		return [2]float64{w2 - w1, s2 - s1}, errors.Join(err1, err, err2)
	})
	for i, name := range []string{"writes to the state directory, a deploy / one", "syncs of the disk, a deploy / one"} {
		rows = append(rows, measurement{name: name, exact: true, measure: func() (result, error) {
			n, err := deployed()
			return result{fmt.Sprint(n[i]), "1", n[i]}, err
		}})
	}
	memory("keeper, PSS / bar", 10, func(d *durable) (int, error) { return d.keeper.Process.Pid, nil })
	memory("node under a keeper, PSS / bar", 40, (*durable).pid)
	s, counts := &stored{node: node, count: 1}, []int{1, 10, applications}
	if b.rounds == 1 { // a quick run, in which a hundred processes would take longer than all other rows
		counts = []int{1, 3}
	}
	one := sync.OnceValues(func() (restarted, error) { return s.restart(b, 1) })
	for _, count := range counts {
		of := sync.OnceValues(func() (restarted, error) {
			if count == 1 {
				return one()
			}
			return s.restart(b, count)
		})
		row := func(name string, pick func(restarted) float64) {
			rows = append(rows, measurement{name: fmt.Sprintf("helve start, %d stored, %s answer / one stored", count, name), measure: func() (result, error) {
				reference, err := one()
				if err != nil {
					return result{}, err
				}
				r, err := of()
				return result{fmt.Sprintf("%.3f s", pick(r)), fmt.Sprintf("%.3f s", reference.first), pick(r) / reference.first}, err
			}})
		}
		row("first", func(r restarted) float64 { return r.first })
		row("last", func(r restarted) float64 { return r.last })
	}
	return rows
}
