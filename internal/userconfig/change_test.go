package userconfig

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// member is a replica of a test's deployment. Its fields are guarded by the lock of that, but for judge.
type member struct {
	id             string
	has            int
	seen           []string // the configs that it was given
	changing       chan struct{}
	stops, retired bool
	replaced       error
	of             *fake
	judge          func(ctx context.Context, config string) error
}

func (m *member) ID() string                      { return m.id }
func (m *member) ChangingLocked() <-chan struct{} { return m.changing }
func (m *member) SetConfigLocked(number int)      { m.has = number }
func (m *member) StopsLocked() bool               { return m.stops }
func (m *member) InServiceLocked() bool           { return !m.stops && !m.retired }
func (m *member) ReplaceLocked(err error)         { m.replaced = err }
func (m *member) Give(ctx context.Context, config json.RawMessage) error {
	m.of.Lock()
	m.seen = append(m.seen, string(config))
	m.of.Unlock()
	if m.judge == nil {
		return nil
	}
	return m.judge(ctx, string(config))
}

// fake is a deployment.
type fake struct {
	sync.Mutex
	target  Target
	members []*member
	wanted  int
	wave    int // 0 for all
	gone    bool

	changes, retries, saves int
	unsaved                 error // of Save
	warned                  []string
}

func (f *fake) TargetLocked() *Target { return &f.target }
func (f *fake) RunningLocked() (running []*member) {
	for _, m := range f.members {
		if m.InServiceLocked() {
			running = append(running, m)
		}
	}
	return running
}
func (f *fake) WantedLocked() (int, bool) { return f.wanted, !f.gone }
func (f *fake) WaveLocked() int {
	if f.wave == 0 {
		return len(f.members) + 1
	}
	return f.wave
}
func (f *fake) ChangedLocked()          { f.changes++ }
func (f *fake) RetryLocked()            { f.retries++ }
func (f *fake) Save() error             { f.saves++; return f.unsaved }
func (f *fake) Warn(m *member, _ error) { f.warned = append(f.warned, m.id) }

func (f *fake) add(id string, judge func(ctx context.Context, config string) error) *member {
	m := &member{id: id, has: f.target.Current.Number, of: f, judge: judge}
	f.members = append(f.members, m)
	return m
}

// change gives the deployment the config 2.
func (f *fake) change(ctx context.Context) error {
	c := NewChange(f, config(2))
	go c.Run(ctx, context.WithoutCancel(ctx))
	return c.Await(ctx)
}

// refuses is a judge that refuses one config.
func refuses(config string) func(context.Context, string) error {
	return func(_ context.Context, c string) error {
		if c == config {
			return errors.New("not this one")
		}
		return nil
	}
}

// TestChange: the config is the target when all that run have taken it, and else all have the one before.
func TestChange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set    func(f *fake)
		says   string // "" for a change that is accepted
		target int
		trial  bool
		seen   []string // that the replicas were given, in order
		then   func(f *fake) bool
	}{
		"all take it": {
			set:    func(f *fake) { f.add("a", nil); f.add("b", nil) },
			target: 2, seen: []string{"2", "2"}, then: func(f *fake) bool { return f.changes == 1 && f.saves == 1 },
		},
		"one refuses it, and both go back": {
			set:  func(f *fake) { f.add("a", nil); f.add("b", refuses("2")) },
			says: "replica b: Reconfigure: not this one", target: 1, seen: []string{"2 1", "2 1"}, then: func(f *fake) bool { return f.saves == 0 },
		},
		"a replica that took it cannot go back, and is replaced": {
			set:  func(f *fake) { f.add("a", refuses("1")); f.add("b", refuses("2")) },
			says: "not this one", target: 1, seen: []string{"2 1", "2 1"},
			then: func(f *fake) bool {
				return f.members[0].replaced != nil && strings.Contains(f.members[0].replaced.Error(), "replica a has a user config that another replica refused") && f.members[1].replaced == nil
			},
		},
		"a replica that refused both stays": {
			set:  func(f *fake) { f.add("a", func(context.Context, string) error { return errors.New("never") }) },
			says: "never", target: 1, seen: []string{"2 1"}, then: func(f *fake) bool { return f.members[0].replaced == nil && slices.Equal(f.warned, []string{"a"}) },
		},
		"without a config before the replica that has it is replaced": {
			set:  func(f *fake) { f.target.Current.Value = nil; f.add("a", nil); f.add("b", refuses("2")) },
			says: "not this one", target: 1, seen: []string{"2", "2"},
			then: func(f *fake) bool {
				return f.members[0].replaced != nil && f.members[1].replaced == nil && f.warned == nil
			},
		},
		"a replica that stops has no say": {
			set: func(f *fake) {
				f.add("a", nil)
				b := f.add("b", nil)
				b.judge = func(context.Context, string) error {
					f.Lock()
					defer f.Unlock()
					b.stops = true
					return errors.New("it stops")
				}
			},
			target: 2, seen: []string{"2", "2"},
		},
		"a replica that becomes ready meanwhile is asked": {
			set: func(f *fake) {
				f.add("a", func(context.Context, string) error {
					f.Lock()
					defer f.Unlock()
					if len(f.members) == 1 {
						f.add("b", nil)
					}
					return nil
				})
			},
			target: 2, seen: []string{"2", "2"},
		},
		"a config that was given before is taken before": {
			set: func(f *fake) {
				a := f.add("a", nil)
				a.changing = make(chan struct{})
				go func() {
					time.Sleep(time.Second) // of the bubble
					f.Lock()
					defer f.Unlock()
					a.seen = append(a.seen, "before")
					close(a.changing)
					a.changing = nil
				}()
			},
			target: 2, seen: []string{"before 2"},
		},
		"without a replica it is a trial": {
			set: func(*fake) {}, target: 1, trial: true, then: func(f *fake) bool { return f.retries == 1 && f.changes == 0 && f.saves == 1 },
		},
		"with no replica wanted it is the target": {
			set: func(f *fake) { f.wanted = 0 }, target: 2, then: func(f *fake) bool { return f.retries == 0 },
		},
		"its revision is gone": {
			set: func(f *fake) { f.gone = true }, says: "its revision of the deployment does not run any more", target: 1,
		},
		"replicas of a revision that is not present any more decide": {
			set: func(f *fake) { f.gone = true; f.add("a", nil) }, target: 2, seen: []string{"2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &fake{target: Target{Current: config(1)}, wanted: 2}
				c.set(f)
				err := f.change(t.Context())
				if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), "the one before stays in use") || !strings.Contains(err.Error(), c.says)) {
					t.Errorf("it says %v", err)
				}
				if trial, ok := f.target.Trial(); f.target.Current.Number != c.target || ok != c.trial || ok && trial.Number != 2 {
					t.Errorf("the target is %+v, the trial %+v", f.target.Current, trial)
				}
				var seen []string
				for _, m := range f.members {
					seen = append(seen, strings.Join(m.seen, " "))
					if m.InServiceLocked() && m.replaced == nil && m.has != c.target {
						t.Errorf("replica %s has config %d", m.id, m.has)
					}
				}
				if !slices.Equal(seen, c.seen) {
					t.Errorf("the replicas were given %q, want %q", seen, c.seen)
				}
				if c.then != nil && !c.then(f) {
					t.Errorf("afterwards: %+v", f)
				}
			})
		})
	}
}

// TestWithdrawnChange: the end of the context withdraws a config that is not the target yet. A replica that takes it all the same goes back.
func TestWithdrawnChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{target: Target{Current: config(1)}, wanted: 1}
		a := f.add("a", func(context.Context, string) error { time.Sleep(time.Minute); return nil })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.change(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "was withdrawn") {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		f.Lock()
		defer f.Unlock()
		if f.target.Current.Number != 1 || !slices.Equal(a.seen, []string{"2", "1"}) || a.has != 1 {
			t.Errorf("the target is %+v, the replica was given %q", f.target.Current, a.seen)
		}
	})
}

// TestChangeIsAcceptedThoughItsContextEnds: after the config has become the target, the end of the context withdraws nothing.
func TestChangeIsAcceptedThoughItsContextEnds(t *testing.T) {
	t.Parallel()
	f := &fake{target: Target{Current: config(1)}, wanted: 1}
	f.add("a", nil)
	c := NewChange(f, config(2))
	c.Run(t.Context(), t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Await(ctx); err != nil {
		t.Error(err)
	}
}

// TestWaves: a wave of replicas is asked at a time, and after a refusal no other one is; the replicas that have taken the config are given the one before.
func TestWaves(t *testing.T) {
	t.Parallel()
	var asked []string
	f := &fake{target: Target{Current: config(1)}, wanted: 4, wave: 1}
	for _, id := range []string{"a", "b", "c", "d"} {
		f.add(id, func(_ context.Context, config string) error {
			if config != "2" {
				return nil
			}
			asked = append(asked, id) // one at a time: the race detector says if not
			if id == "b" {
				return errors.New("no")
			}
			return nil
		})
	}
	err := f.change(t.Context())
	if err == nil || !strings.Contains(err.Error(), "replica b") || f.members[2].seen != nil || f.members[3].seen != nil {
		t.Errorf("%v, asked %v", err, asked)
	}
	for _, m := range f.members[:2] {
		if last := m.seen[len(m.seen)-1]; last != "1" {
			t.Errorf("replica %s was given %v", m.id, m.seen)
		}
	}
}
