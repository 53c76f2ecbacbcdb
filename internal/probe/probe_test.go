package probe

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/spec"
)

// patient is a replica whose answers the test says, with the options that it has.
type patient struct {
	mu      sync.Mutex
	options spec.Effective
	stopped bool
	answer  error // of the next questions
	hang    bool  // the next questions are not answered in time
	asked   []time.Time
}

func newPatient() *patient {
	p := &patient{options: spec.Effective{
		HealthCheckPeriod: 10 * time.Second, HealthCheckTimeout: 30 * time.Second, HealthFailures: 3,
		ReadinessPeriod: 5 * time.Second, ReadinessTimeout: 2 * time.Second, ReadinessFailures: 1, ReadinessSuccesses: 1,
		RoutingStatsPeriod: 10 * time.Second, RoutingStatsTimeout: 30 * time.Second,
	}}
	p.options.RequestRouter.Policy = spec.Custom
	return p
}

func (p *patient) probe() Probe {
	return Probe{Replica: p, Options: func() (spec.Effective, bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.options, !p.stopped
	}}
}

// set changes the patient while it is probed.
func (p *patient) set(change func(*patient)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// count is how often the patient was asked.
func (p *patient) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}

func (p *patient) CheckHealth(ctx context.Context) error {
	p.mu.Lock()
	p.asked = append(p.asked, time.Now())
	answer, hang := p.answer, p.hang
	p.mu.Unlock()
	if hang {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return answer
}

func (p *patient) CheckReady(ctx context.Context) error { return p.CheckHealth(ctx) }

func (p *patient) AutoscalingStats(ctx context.Context) (map[string]float64, error) {
	_, err := p.RoutingStats(ctx)
	return map[string]float64{"tokens": 7}, err
}

func (p *patient) RoutingStats(ctx context.Context) (json.RawMessage, error) {
	return json.RawMessage(`{"free":1}`), p.CheckHealth(ctx)
}

var errSick = errors.New("sick")

// TestHealth: a replica is unhealthy after three failed checks in a row, each about a period after the last answer.
func TestHealth(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change   func(*patient)
		says     string
		earliest time.Duration // of the end of the probe
		latest   time.Duration
	}{
		"failed checks": {func(p *patient) { p.answer = errSick }, "failed 3 health checks: sick", 27 * time.Second, 33 * time.Second},
		"late checks": {func(p *patient) { p.hang = true }, "failed 3 health checks: the check took longer than health_check_timeout_s (30s)",
			117 * time.Second, 123 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPatient()
				c.change(p)
				begun := time.Now()
				err := p.probe().Health(t.Context())
				if took := time.Since(begun); err == nil || err.Error() != c.says || took < c.earliest || took > c.latest || p.count() != 3 {
					t.Errorf("after %s and %d checks: %v", took, p.count(), err)
				}
			})
		})
	}
}

// TestHealthAfterRecovery: a check that succeeds starts the count again.
func TestHealthAfterRecovery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPatient()
		end := make(chan error, 1)
		go func() { end <- p.probe().Health(t.Context()) }()
		for range 3 { // two checks fail, and one succeeds
			before := p.count()
			p.set(func(p *patient) { p.answer = errSick })
			for p.count() < before+2 {
				time.Sleep(time.Second)
			}
			p.set(func(p *patient) { p.answer = nil })
			for p.count() < before+3 {
				time.Sleep(time.Second)
			}
		}
		select {
		case err := <-end:
			t.Errorf("the probe has ended: %v", err)
		default:
		}
		p.set(func(p *patient) { p.stopped = true })
		if err := <-end; err != nil || p.count() != 9 {
			t.Errorf("out of service, after %d checks: %v", p.count(), err)
		}
	})
}

// TestEndOfProbe: a probe asks nothing after the replica is out of service, or its context has ended.
func TestEndOfProbe(t *testing.T) {
	t.Parallel()
	for name, probe := range map[string]func(context.Context, Probe) error{
		"health": func(ctx context.Context, p Probe) error { return p.Health(ctx) },
		"stats": func(ctx context.Context, p Probe) error {
			p.Stats(ctx, func(json.RawMessage) error { return nil }, func(error) {})
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPatient()
				p.stopped = true
				if err := probe(t.Context(), p.probe()); err != nil || p.count() != 0 {
					t.Errorf("a replica out of service was asked %d times: %v", p.count(), err)
				}
				p.stopped, p.hang = false, true
				ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
				defer cancel()
				if err := probe(ctx, p.probe()); err != nil || p.count() != 1 {
					t.Errorf("a replica was asked %d times: %v", p.count(), err)
				}
			})
		})
	}
}

// TestReadiness: the first check is made at once, and a replica is ready or not after as many checks in a row as the thresholds say.
func TestReadiness(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		failures, successes int
		checks              string // '+' for one that passes, '-' for one that fails, 'h' for one that is late
		want                string // '+' for a replica that is ready after the check
	}{
		"one of each":        {1, 1, "+-+-h+", "+-+--+"},
		"two failures":       {2, 1, "+-+--+", "++++-+"},
		"two successes":      {1, 2, "++-+-++", "-+----+"},
		"not ready at first": {1, 1, "--+", "--+"},
		"three successes":    {3, 3, "++-+++---", "-----+++-"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPatient()
				p.options.ReadinessFailures, p.options.ReadinessSuccesses = c.failures, c.successes
				next := func(n int) {
					p.answer, p.hang = nil, c.checks[n] == 'h'
					if c.checks[n] == '-' {
						p.answer = errSick
					}
				}
				next(0)
				got, begun := "", time.Now()
				p.probe().Readiness(t.Context(), func(r Readiness) {
					if (r.Err == nil) != (c.checks[len(got)] == '+') || r.Again != 5*time.Second {
						t.Errorf("check %d: %+v", len(got), r)
					}
					if c.checks[len(got)] == 'h' && !strings.Contains(r.Err.Error(), "readiness_check_timeout_s (2s)") {
						t.Error(r.Err)
					}
					if r.Ready {
						got += "+"
					} else {
						got += "-"
					}
					p.set(func(p *patient) {
						if p.stopped = len(got) == len(c.checks); !p.stopped {
							next(len(got))
						}
					})
				})
				if got != c.want || !p.asked[0].Equal(begun) || p.asked[1].Sub(begun) < 4500*time.Millisecond {
					t.Errorf("%s, want %s; asked at %v", got, c.want, p.asked)
				}
			})
		})
	}
}

// TestOptionsChangeWhileProbed: the next period and timeout are those of the options of the moment.
func TestOptionsChangeWhileProbed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPatient()
		end := make(chan error, 1)
		go func() { end <- p.probe().Health(t.Context()) }()
		time.Sleep(11 * time.Second)
		p.set(func(p *patient) {
			p.options.HealthCheckPeriod, p.options.HealthCheckTimeout, p.hang = time.Second, 2*time.Second, true
		})
		err := <-end
		if err == nil || !strings.Contains(err.Error(), "health_check_timeout_s (2s)") {
			t.Error(err)
		}
		if n := len(p.asked); n != 4 || p.asked[3].Sub(p.asked[2]) > 3200*time.Millisecond {
			t.Errorf("asked at %v", p.asked)
		}
	})
}

// TestPeriodsDiffer: periods vary by a tenth at most, and not all are equal.
func TestPeriodsDiffer(t *testing.T) {
	t.Parallel()
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := jittered(10 * time.Second)
		if seen[d] = true; d < 9*time.Second || d > 11*time.Second {
			t.Fatal(d)
		}
	}
	if len(seen) < 100 || jittered(0) != 0 {
		t.Errorf("%d different periods", len(seen))
	}
}

// TestStats: the first stats come at once, a failure is reported once until the stats come again, and a deployment without a policy of
// the user's asks for none.
func TestStats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPatient()
		var taken, reported int
		var refuse error // of take
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan struct{})
		go func() {
			defer close(end)
			p.probe().Stats(ctx, func(stats json.RawMessage) error {
				p.mu.Lock()
				defer p.mu.Unlock()
				if taken++; string(stats) != `{"free":1}` {
					t.Errorf("%s", stats)
				}
				return refuse
			}, func(err error) {
				p.mu.Lock()
				defer p.mu.Unlock()
				if reported++; !errors.Is(err, errSick) {
					t.Error(err)
				}
			})
		}()
		want := func(step string, wantTaken, wantReported int) {
			t.Helper()
			synctest.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			if taken != wantTaken || reported != wantReported {
				t.Errorf("%s: taken %d times, %d failures reported, want %d and %d", step, taken, reported, wantTaken, wantReported)
			}
		}
		next := func() { // until the replica has been asked once more
			for before := p.count(); p.count() == before; {
				time.Sleep(time.Second)
			}
			synctest.Wait()
		}
		want("at once", 1, 0)
		p.set(func(p *patient) { p.answer = errSick })
		next()
		next()
		want("while it fails", 1, 1)
		p.set(func(p *patient) { p.answer = nil })
		next()
		want("when it works again", 2, 1)
		p.set(func(p *patient) { refuse = errSick })
		next()
		next()
		want("while its stats are of no use", 4, 2)
		p.set(func(p *patient) { refuse, p.options.RequestRouter.Policy = nil, "" })
		before := p.count()
		time.Sleep(time.Minute)
		if p.count() != before {
			t.Errorf("without a policy the replica was asked %d times", p.count()-before)
		}
		p.set(func(p *patient) { p.options.RequestRouter.Policy = spec.Custom })
		next()
		want("with a policy again", 5, 2)
		cancel()
		<-end
	})
}

// TestStoppedReplicaReportsNothing: a replica that is stopped while it is asked fails unseen.
func TestStoppedReplicaReportsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPatient()
		p.hang = true
		time.AfterFunc(time.Second, func() { p.set(func(p *patient) { p.stopped = true }) })
		p.probe().Stats(t.Context(), func(json.RawMessage) error { return nil }, func(err error) { t.Error(err) })
		if p.count() != 1 {
			t.Errorf("asked %d times", p.count())
		}
	})
}

// TestNumbers: a replica is asked while its deployment scales by itself, three times within its look-back period and at least each 10 s.
func TestNumbers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPatient()
		p.options.AutoscalingConfig = json.RawMessage(`{"max_replicas":2,"look_back_period_s":6}`)
		var taken, failed int
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan struct{})
		go func() {
			defer close(end)
			p.probe().Numbers(ctx, func(numbers map[string]float64, err error) {
				p.mu.Lock()
				defer p.mu.Unlock()
				if err != nil {
					failed++
				} else if taken++; numbers["tokens"] != 7 {
					t.Error(numbers)
				}
			})
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := p.count(); n < 27 || n > 35 { // each 2 s, give or take a tenth
			t.Error(n, "questions in a minute")
		}
		p.set(func(p *patient) { p.options.AutoscalingConfig = json.RawMessage(`{"max_replicas":2}`) })
		time.Sleep(10 * time.Second)
		before := p.count()
		time.Sleep(time.Minute)
		if n := p.count() - before; n < 5 || n > 7 {
			t.Error(n, "questions in a minute")
		}
		p.set(func(p *patient) { p.answer = errSick })
		time.Sleep(30 * time.Second)
		p.set(func(p *patient) { p.options.AutoscalingConfig = nil })
		time.Sleep(20 * time.Second)
		before = p.count()
		time.Sleep(time.Hour)
		if n := p.count(); n != before || failed == 0 || taken == 0 {
			t.Error(n-before, "questions without an autoscaler;", taken, "taken,", failed, "failed")
		}
		cancel()
		<-end
	})
}
