package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/proc"
	"github.com/helve-serve/helve/bench/stat"
)

// Unit is a deployment that counts its replicas as they start and end, so that a row waits for exactly the replicas that it has asked for.
type Unit struct{ of *units }

// units counts the replicas of a system.
type units struct {
	build   time.Duration // that a constructor takes
	started chan struct{}
	ended   chan struct{}
}

func (u Unit) Echo(_ context.Context, n int) (int, error) { return n, nil }

// Close is called when a replica ends.
func (u Unit) Close(context.Context) error {
	u.of.ended <- struct{}{}
	return nil
}

func newUnits(build time.Duration) *units {
	return &units{build: build, started: make(chan struct{}, 1<<16), ended: make(chan struct{}, 1<<16)}
}

// construct makes a replica.
func (u *units) construct(ctx context.Context) (Unit, error) {
	if u.build > 0 {
		select {
		case <-time.After(u.build):
		case <-ctx.Done():
			return Unit{}, ctx.Err()
		}
	}
	u.started <- struct{}{}
	return Unit{u}, nil
}

// app is an application of some deployments with a number of replicas each; the first is its ingress.
func (u *units) app(name string, deployments, replicas int) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp(name)
		app.RoutePrefix("/" + name)
		for i := range deployments {
			h := helve.Deploy(app, fmt.Sprintf("D%d", i), u.construct, helve.Options{NumReplicas: new(replicas)})
			if i == 0 {
				app.Ingress(helve.MethodOf(h, Unit.Echo))
			}
		}
		return app, nil
	}
}

// fleet is a system with many deployments.
type fleet struct {
	*units
	sys *helve.System
}

// fleet starts applications that together have a number of deployments, until the group ends.
func (b *bench) fleet(c helve.Config, apps, deployments, replicas int) (*fleet, error) {
	f := &fleet{units: newUnits(0)}
	var err error
	if f.sys, err = c.Run(b.ctx, f.app("app0", deployments, replicas)); err != nil {
		return nil, err
	}
	for i := 1; i < apps; i++ {
		if err := f.sys.Deploy(b.ctx, f.app(fmt.Sprintf("app%d", i), deployments, replicas)); err != nil {
			return nil, errors.Join(err, f.sys.Close(context.WithoutCancel(b.ctx)))
		}
	}
	for range apps * deployments * replicas {
		<-f.started
	}
	return f, nil
}

// change has one deployment start a second replica, and end it: two changes of its target.
func (f *fleet) change(ctx context.Context) error {
	if err := f.sys.Scale(ctx, "app0", "D0", 2); err != nil {
		return err
	}
	<-f.started
	if err := f.sys.Scale(ctx, "app0", "D0", 1); err != nil {
		return err
	}
	<-f.ended
	return nil
}

// changeCPU is the processor time of this process for a change of one deployment.
func (b *bench) changeCPU(f *fleet) (sample, error) {
	before, err := proc.SelfCPU()
	if err != nil {
		return sample{}, err
	}
	n := 0
	for end := time.Now().Add(b.length); n == 0 || time.Now().Before(end); n += 2 {
		if err := f.change(b.ctx); err != nil {
			return sample{}, err
		}
	}
	after, err := proc.SelfCPU()
	return sample{v: float64(after-before) / float64(n)}, err
}

// changeRow compares a change in a large system with one in a small system.
func (b *bench) changeRow(config func() (helve.Config, error), apps, deployments int) (result, error) {
	var of [2]sample
	for i, size := range [][2]int{{1, 10}, {apps, deployments}} {
		c, err := config()
		if err != nil {
			return result{}, err
		}
		f, err := b.fleet(c, size[0], size[1], 1)
		if err != nil {
			return result{}, err
		}
		var all []sample
		for range b.rounds {
			var one sample
			if one, err = b.changeCPU(f); err != nil {
				break
			}
			all = append(all, one)
		}
		if err = errors.Join(err, f.sys.Close(context.WithoutCancel(b.ctx))); err != nil {
			return result{}, err
		}
		of[i] = medians(all)
	}
	return result{microseconds(of[1]), microseconds(of[0]), of[1].v / of[0].v}, nil
}

// statusOf is the time, and the processor time, of a read of the whole state.
func (b *bench) statusOf(read func() error) (wall, cpu float64, err error) {
	var walls, cpus []float64
	for range 5 * b.rounds {
		before, err := proc.SelfCPU()
		if err != nil {
			return 0, 0, err
		}
		begin := time.Now()
		if err := read(); err != nil {
			return 0, 0, err
		}
		walls = append(walls, time.Since(begin).Seconds()*1e3)
		after, err := proc.SelfCPU()
		if err != nil {
			return 0, 0, err
		}
		cpus = append(cpus, (after-before).Seconds()*1e3)
	}
	return stat.Median(walls), stat.Median(cpus), nil
}

// millisecondRows are two rows, of times and processor times in milliseconds that are read once.
func millisecondRows(name string, bars [2]float64, take func() (wall, cpu float64, err error)) (rows []measurement) {
	type both [2]float64
	once := sync.OnceValues(func() (both, error) {
		wall, cpu, err := take()
		return both{wall, cpu}, err
	})
	for i, what := range []string{"time", "CPU"} {
		rows = append(rows, measurement{name: name + ", " + what + " / bar", bar: 1, measure: func() (result, error) {
			v, err := once()
			return result{fmt.Sprintf("%.1f ms", v[i]), fmt.Sprintf("%.0f ms", bars[i]), v[i] / bars[i]}, err
		}})
	}
	return rows
}

// deployMany deploys applications of three deployments at once.
func (b *bench) deployMany(apps int, build time.Duration) (time.Duration, error) {
	u := newUnits(build)
	sys, err := helve.Run(b.ctx, newUnits(0).app("first", 1, 1))
	if err != nil {
		return 0, err
	}
	errs := make([]error, apps)
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range apps {
		wg.Go(func() { errs[i] = sys.Deploy(b.ctx, u.app(fmt.Sprintf("app%d", i), 3, 1)) })
	}
	wg.Wait()
	took := time.Since(begin)
	return took, errors.Join(errors.Join(errs...), sys.Close(context.WithoutCancel(b.ctx)))
}

// storeWrites is how often a node writes to its state directory for the deploy of an application of three deployments, until it runs.
func (b *bench) storeWrites() (float64, error) {
	d, err := b.durableNode()
	if err != nil {
		return 0, err
	}
	if err := d.start(); err != nil {
		return 0, err
	}
	if err := errors.Join(d.await(), d.deploy(0, 1)); err != nil { // the executable is stored by then
		return 0, err
	}
	before, _, err1 := d.writes()
	sys, err := d.attach()
	if err != nil {
		return 0, err
	}
	defer sys.Close(b.ctx)
	err2 := sys.Deploy(b.ctx, helve.Executable("exec:"+d.app+"#trio"))
	after, _, err3 := d.writes()
	return after - before, errors.Join(err1, err2, err3)
}

// Sleeper answers after its service time.
type Sleeper struct{}

const serviceTime = 20 * time.Millisecond

// Work answers after the service time.
func (Sleeper) Work(ctx context.Context, s string) (string, error) {
	t := time.NewTimer(serviceTime)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return s, ctx.Err()
}

// sleepers builds the application of the rows about requests during changes. Two replicas with 16 slots serve 16 clients at half load.
func sleepers(isolation helve.Isolation, version string) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp("sleepers")
		h := helve.Deploy(app, "Sleeper", func(context.Context) (Sleeper, error) { return Sleeper{}, nil }, helve.Options{
			NumReplicas: new(2), MaxOngoingRequests: new(16), Isolation: isolation, Version: version,
		})
		app.Ingress(helve.MethodOf(h, Sleeper.Work))
		return app, nil
	}
}

func buildSleepers() (*helve.App, error) { return sleepers(helve.Process, "1")() }

// disturbed is the fate of the requests that clients send while something changes: how many failed, and how long the slowest took.
type disturbed struct {
	requests, failed int
	slowest          time.Duration
}

// disturb has 16 clients ask in closed loops while do runs, and for a while before and after it.
func (b *bench) disturb(url string, do func() error) (d disturbed, err error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var over atomic.Bool
	for range 16 {
		wg.Go(func() {
			t := &http.Transport{MaxIdleConnsPerHost: 1}
			defer t.CloseIdleConnections()
			c := &http.Client{Transport: t, Timeout: 30 * time.Second}
			for !over.Load() {
				begin := time.Now()
				ok := post(c, url)
				took := time.Since(begin)
				mu.Lock()
				d.requests++
				if d.slowest = max(d.slowest, took); !ok {
					d.failed++
				}
				mu.Unlock()
				if !ok {
					time.Sleep(serviceTime)
				}
			}
		})
	}
	time.Sleep(b.length / 2)
	err = do()
	time.Sleep(b.length / 2)
	over.Store(true)
	wg.Wait()
	return d, err
}

func post(c *http.Client, url string) bool {
	r, err := c.Post(url, "text/plain", strings.NewReader("world"))
	if err != nil {
		return false
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return err == nil && r.StatusCode == http.StatusOK && string(body) == "world"
}

// disturbances are the changes of an application under load, by their names.
func disturbances(isolation helve.Isolation) []struct {
	name string
	do   func(context.Context, *helve.System) error
} {
	return []struct {
		name string
		do   func(context.Context, *helve.System) error
	}{
		{"rollout", func(ctx context.Context, s *helve.System) error { return s.Deploy(ctx, sleepers(isolation, "2")) }},
		{"2 to 1 replicas", func(ctx context.Context, s *helve.System) error { return s.Scale(ctx, "sleepers", "Sleeper", 1) }},
		{"1 to 2 replicas", func(ctx context.Context, s *helve.System) error { return s.Scale(ctx, "sleepers", "Sleeper", 2) }},
		{"rollback", func(ctx context.Context, s *helve.System) error { return s.Rollback(ctx, "sleepers", 1) }},
	}
}

// disturbanceRows count the requests that are lost, and time the slowest, while two replicas of 20 ms of work change under half load.
func (b *bench) disturbanceRows(kind string, isolation helve.Isolation) (rows []measurement) {
	changes := disturbances(isolation)
	all := sync.OnceValues(func() (all []disturbed, err error) {
		sys, err := helve.Config{HTTP: "127.0.0.1:0"}.Run(b.ctx, sleepers(isolation, "1"))
		if err != nil {
			return nil, err
		}
		defer sys.Close(context.WithoutCancel(b.ctx))
		url, _ := sys.HTTP()
		for _, change := range changes {
			d, err := b.disturb(url, func() error { return change.do(b.ctx, sys) })
			if all = append(all, d); err != nil {
				return all, fmt.Errorf("%s: %w", change.name, err)
			}
		}
		return all, nil
	})
	for i, change := range changes {
		rows = append(rows,
			measurement{name: change.name + ", " + kind + ", answered / requests", bar: 1, atLeast: true, exact: true, measure: func() (result, error) {
				d, err := all()
				if err != nil {
					return result{}, err
				}
				return result{fmt.Sprint(d[i].requests - d[i].failed), fmt.Sprint(d[i].requests), float64(d[i].requests-d[i].failed) / float64(d[i].requests)}, nil
			}},
			measurement{name: change.name + ", " + kind + ", slowest / bar", bar: 1, measure: func() (result, error) {
				d, err := all()
				if err != nil {
					return result{}, err
				}
				bar := serviceTime + 50*time.Millisecond
				return result{fmt.Sprintf("%.1f ms", d[i].slowest.Seconds()*1e3), fmt.Sprintf("%.0f ms", bar.Seconds()*1e3), float64(d[i].slowest) / float64(bar)}, nil
			}})
	}
	return rows
}

// operateRows measure what operators wait for: deploys of many applications, the status of many replicas, a change among many deployments, and requests
// while an application changes.
func operateRows(b *bench) []measurement {
	apps, build := 100, time.Second
	if b.rounds == 1 {
		apps, build = 10, 10*time.Millisecond
	}
	rows := []measurement{{name: fmt.Sprintf("%d apps of 3 deployments at once / 3x + 5 s", apps), bar: 1, measure: func() (result, error) {
		took, err := b.deployMany(apps, build)
		bar := 3*build + 5*time.Second
		return result{fmt.Sprintf("%.2f s", took.Seconds()), fmt.Sprintf("%.2f s", bar.Seconds()), took.Seconds() / bar.Seconds()}, err
	}}}
	rows = append(rows, measurement{name: "store writes, a deploy of 3 deployments / 12", bar: 1, exact: true, measure: func() (result, error) {
		n, err := b.storeWrites()
		return result{fmt.Sprint(n), "12", n / 12}, err
	}})
	large := sync.OnceValues(func() (*fleet, error) {
		f, err := b.fleet(helve.Config{Admin: "127.0.0.1:0"}, apps, 1, 10)
		if err == nil {
			b.onEnd(func() { f.sys.Close(context.WithoutCancel(b.ctx)) }) //nolint:errcheck // the rows are over
		}
		return f, err
	})
	rows = append(rows, millisecondRows(fmt.Sprintf("status of %d replicas", apps*10), [2]float64{20, 60}, func() (wall, cpu float64, err error) {
		f, err := large()
		if err != nil {
			return 0, 0, err
		}
		return b.statusOf(func() error {
			if n := len(f.sys.Status().Applications); n != apps {
				return fmt.Errorf("%d applications, want %d", n, apps)
			}
			return nil
		})
	})...)
	rows = append(rows, millisecondRows(fmt.Sprintf("GET of %d replicas", apps*10), [2]float64{20, 60}, func() (wall, cpu float64, err error) {
		f, err := large()
		if err != nil {
			return 0, 0, err
		}
		url := f.sys.AdminURL() + "/api/serve/applications/"
		return b.statusOf(func() error {
			r, err := http.Get(url) //nolint:noctx // the admin interface of this process
			if err != nil {
				return err
			}
			defer r.Body.Close()
			n, err := io.Copy(io.Discard, r.Body)
			if err == nil && (r.StatusCode != http.StatusOK || n < int64(apps)*1000) {
				err = fmt.Errorf("%s, %d bytes", r.Status, n)
			}
			return err
		})
	})...)
	plain := func() (helve.Config, error) { return helve.Config{}, nil }
	kept := func() (helve.Config, error) {
		dir, err := os.MkdirTemp("", "hs-")
		b.onEnd(func() { os.RemoveAll(dir) })
		return helve.Config{StateDir: dir}, err
	}
	for _, r := range []struct {
		name   string
		config func() (helve.Config, error)
		apps   int
		each   int
	}{
		{"100 apps of 10", plain, apps, 10},
		{"one app of 1,000", plain, 1, apps * 10},
		{"100 apps of 10, state file", kept, apps, 10},
	} {
		rows = append(rows, measurement{name: "change, " + r.name + ", CPU / 10", bar: 2, measure: func() (result, error) {
			return b.changeRow(r.config, r.apps, r.each)
		}})
	}
	rows = append(rows, b.disturbanceRows("in the node", "")...)
	return append(rows, b.disturbanceRows("in a worker", helve.Process)...)
}
