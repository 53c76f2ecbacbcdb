package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/helve-serve/helve/bench/proc"
)

// The clients of a fault are closed loops, as in reference measurements of Ray Serve.
const (
	faultClients = 16
	faultLimit   = 90 * time.Second // until the service must be as it should be
	faultBefore  = 500 * time.Millisecond
	faultAfter   = time.Second // the clients go on for that long when the service is as it should be
)

// faultRows do something to two replicas of 20 ms of work while clients call them over HTTP, and count the failures that the clients see.
func faultRows() []row {
	fault := func(name, needs string, once bool, do func(*faults) (time.Duration, error)) row {
		return row{group: "fault", name: name, systems: []string{helveSystem, rayBest, rayDefault}, program: needs, once: once,
			measure: func(r *run, p *program) (map[string]float64, error) { return r.fault(p, do) }}
	}
	kill := fault("kill -9 of one of two replicas", "faults", false, (*faults).killReplica)
	kill.bars = []comparison{atMost(whole, rayBest, 0.2)}
	return []row{
		kill,
		fault("redeploy with a new argument", "faults", false, (*faults).redeploy),
		fault("2 to 1 replicas", "faults", false, (*faults).scale),
		fault("kill -9 of the process that serves HTTP", "node", true, (*faults).killServer),
	}
}

// outcome is the end of one request.
type outcome struct {
	begin, end time.Time
	status     int    // 0 without an answer
	version    string // of the replica that answered
	pid        int    // of its process
}

// faults are clients of a program, with the ends of their requests.
type faults struct {
	p     *program
	mu    sync.Mutex
	all   []outcome
	start time.Time // of the fault
}

// clients send requests until ctx ends.
func (f *faults) clients(ctx context.Context, wg *sync.WaitGroup) {
	for range faultClients {
		wg.Go(func() {
			t := &http.Transport{MaxIdleConnsPerHost: 1}
			defer t.CloseIdleConnections()
			c := &http.Client{Transport: t, Timeout: 30 * time.Second}
			for ctx.Err() == nil {
				o := request(c, f.p.addr)
				f.mu.Lock()
				f.all = append(f.all, o)
				f.mu.Unlock()
				if o.status != http.StatusOK {
					time.Sleep(5 * time.Millisecond) // a closed loop on refused connections would take all of the machine
				}
			}
		})
	}
}

// request asks once. It is a POST, which no layer sends again by itself.
func request(c *http.Client, addr string) outcome {
	o := outcome{begin: time.Now()}
	resp, err := c.Post("http://"+addr+"/", "text/plain", strings.NewReader("world"))
	if err == nil {
		var body []byte
		if body, err = io.ReadAll(resp.Body); err == nil {
			o.status = resp.StatusCode
		}
		resp.Body.Close()
		version, pid, _ := strings.Cut(string(body), " ")
		o.version = version
		o.pid, _ = strconv.Atoi(pid)
	}
	o.end = time.Now()
	return o
}

// until waits for the first moment after the fault at which the outcomes satisfy a condition.
func (f *faults) until(condition func(after []outcome) bool) (time.Duration, error) {
	for deadline := time.Now().Add(faultLimit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if condition(f.after()) {
			return time.Since(f.start), nil
		}
	}
	return 0, fmt.Errorf("the service is not as it should be after %v", faultLimit)
}

// after has the answers to requests that were sent after the fault.
func (f *faults) after() (all []outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.all {
		if o.begin.After(f.start) && o.status == http.StatusOK {
			all = append(all, o)
		}
	}
	return all
}

// pids are the processes that have answered.
func pids(all []outcome) (pids []int) {
	for _, o := range all {
		if !slices.Contains(pids, o.pid) {
			pids = append(pids, o.pid)
		}
	}
	return pids
}

// killReplica kills a replica, and waits until both replicas have answered again: the one that was left, and the new one.
func (f *faults) killReplica() (time.Duration, error) {
	f.mu.Lock()
	old := pids(f.all)
	f.mu.Unlock()
	old = slices.DeleteFunc(old, func(pid int) bool { return pid == 0 })
	if len(old) != 2 {
		return 0, fmt.Errorf("processes %v have answered, want two", old)
	}
	if err := syscall.Kill(old[0], syscall.SIGKILL); err != nil {
		return 0, err
	}
	return f.until(func(after []outcome) bool {
		return slices.ContainsFunc(pids(after), func(pid int) bool { return !slices.Contains(old, pid) })
	})
}

// change deploys, and waits until only the wanted replicas answer. The time is that of the last answer of another one.
func (f *faults) change(version, replicas int, wanted func([]outcome) bool) (time.Duration, error) {
	answered := make(chan error, 1)
	go func() {
		var a struct{ Text string }
		answered <- f.p.ask(map[string]int{"version": version, "replicas": replicas}, &a)
	}()
	if err := <-answered; err != nil {
		return 0, err
	}
	// The last half second decides: there are hundreds of answers in it.
	const window = 500 * time.Millisecond
	_, err := f.until(func(after []outcome) bool {
		recent := slices.DeleteFunc(after, func(o outcome) bool { return time.Since(o.begin) > window })
		return time.Since(f.start) > 2*window && len(recent) > faultClients && wanted(recent)
	})
	if err != nil {
		return 0, err
	}
	last := f.start
	all := f.after()
	final := pids(all[len(all)-faultClients:])
	for _, o := range all {
		if !slices.Contains(final, o.pid) && o.end.After(last) {
			last = o.end
		}
	}
	return last.Sub(f.start), nil
}

// redeploy changes the argument of the constructor.
func (f *faults) redeploy() (time.Duration, error) {
	f.p.version++
	want := strconv.Itoa(f.p.version)
	return f.change(f.p.version, 2, func(recent []outcome) bool {
		return len(pids(recent)) == 2 && !slices.ContainsFunc(recent, func(o outcome) bool { return o.version != want })
	})
}

// scale goes from two replicas to one.
func (f *faults) scale() (time.Duration, error) {
	return f.change(f.p.version, 1, func(recent []outcome) bool { return len(pids(recent)) == 1 })
}

// killServer kills every process that accepts connections, and waits for the first answer.
func (f *faults) killServer() (time.Duration, error) {
	listening, err := listeners(f.p.keeper.Process.Pid, f.p.addr)
	if err != nil {
		return 0, err
	}
	if f.p.system.name == helveSystem { // its keeper has the socket too, and accepts no connection
		listening, err = withoutParents(listening)
		if err != nil {
			return 0, err
		}
	}
	if len(listening) == 0 {
		return 0, errors.New("no process listens")
	}
	for _, pid := range listening {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return 0, err
		}
	}
	return f.until(func(after []outcome) bool { return len(after) > 0 })
}

// withoutParents are the processes that have no child among them.
func withoutParents(pids []int) (left []int, err error) {
	for _, pid := range pids {
		children, err := proc.Children(pid)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(children, func(child int) bool { return slices.Contains(pids, child) }) {
			left = append(left, pid)
		}
	}
	return left, nil
}

// listeners are the descendants of a process that have the listening socket of an address.
func listeners(pid int, addr string) (all []int, err error) {
	_, port, _ := strings.Cut(addr, ":")
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return nil, err
	}
	sockets := map[string]bool{}
	for line := range strings.Lines(string(table)) {
		// The second field ends with the port in hexadecimal digits; the fourth is the state, 0A for a listener; the tenth is the inode.
		if c := strings.Fields(line); len(c) > 9 && strings.HasSuffix(c[1], fmt.Sprintf(":%04X", n)) && c[3] == "0A" {
			sockets["socket:["+c[9]+"]"] = true
		}
	}
	below, err := proc.Descendants(pid)
	if err != nil {
		return nil, err
	}
	for _, p := range below {
		open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p))
		if slices.ContainsFunc(open, func(fd string) bool { name, _ := os.Readlink(fd); return sockets[name] }) {
			all = append(all, p)
		}
	}
	return all, nil
}

// fault does something to a program with clients, and counts the failures that they see.
func (r *run) fault(p *program, do func(*faults) (time.Duration, error)) (map[string]float64, error) {
	if err := p.prepare(); err != nil {
		return nil, err
	}
	f := &faults{p: p}
	ctx, stop := context.WithCancel(r.ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	f.clients(ctx, &wg)
	time.Sleep(faultBefore)
	f.mu.Lock()
	f.start = time.Now()
	f.mu.Unlock()
	took, err := do(f)
	if err != nil {
		return nil, err
	}
	time.Sleep(faultAfter)
	stop()
	wg.Wait()
	return f.metrics(took), nil
}

// metrics count the failures, and have the slowest answer that was under way during the fault or was asked for later.
func (f *faults) metrics(took time.Duration) map[string]float64 {
	m := map[string]float64{failed: 0, refused: 0, slowest: 0, whole: took.Seconds()}
	for _, o := range f.all {
		switch {
		case o.end.Before(f.start):
			continue
		case o.status == 0:
			m[refused]++
		case o.status != http.StatusOK:
			m[failed]++
		}
		if o.status == http.StatusOK {
			m[slowest] = max(m[slowest], o.end.Sub(o.begin).Seconds()*1e3)
		}
	}
	return m
}

// prepare brings the program to two replicas that both answer.
func (p *program) prepare() error {
	if p.version == 0 {
		p.version = 1
	} else if !p.system.floor {
		var a struct{ Text string }
		if err := p.ask(map[string]int{"version": p.version, "replicas": 2}, &a); err != nil {
			return err
		}
	}
	var seen []outcome
	c := &http.Client{Timeout: 10 * time.Second}
	for deadline := time.Now().Add(faultLimit); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		o := request(c, p.addr)
		seen = append(seen, o)
		if recent := seen[max(0, len(seen)-20):]; len(recent) == 20 && len(pids(recent)) == 2 && !slices.Contains(pids(recent), 0) {
			return nil
		}
	}
	return fmt.Errorf("two replicas do not answer after %v", faultLimit)
}
