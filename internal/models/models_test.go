package models

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// model is a fake model.
type model struct {
	id     string
	closed bool
	shelf  *shelf
}

// shelf loads and closes models, in fake time.
type shelf struct {
	mu            sync.Mutex
	log           []string
	open, most    int
	loading, peak int
	bad           map[string]string // the way in which loads of a model fail
	changed       [][]string
	reported      []string
}

func (s *shelf) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf(format, args...))
}

func (s *shelf) take() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.log
	s.log = nil
	return l
}

func (s *shelf) load(ctx context.Context, id string) (*model, error) {
	s.mu.Lock()
	s.loading++
	s.peak = max(s.peak, s.loading)
	how := s.bad[id]
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.loading--
		s.mu.Unlock()
	}()
	s.note("load %s", id)
	switch how {
	case "fails":
		return nil, errors.New("no " + id)
	case "panics":
		panic(id)
	case "exits":
		runtime.Goexit()
	}
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		s.note("gave up %s", id)
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	s.most = max(s.most, s.open)
	return &model{id: id, shelf: s}, nil
}

func (m *model) Close() error {
	m.shelf.mu.Lock()
	m.closed = true
	m.shelf.open--
	m.shelf.mu.Unlock()
	m.shelf.note("close %s", m.id)
	switch m.id {
	case "angry":
		panic("angry")
	case "sad":
		return errors.New("sad")
	}
	return nil
}

func bubble(t *testing.T, o Options, f func(t *testing.T, s *shelf, c *Cache[*model])) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{bad: map[string]string{}}
		c, err := New(s.load, o, Hooks[*model]{
			Size:    func(m *model) int64 { return int64(len(m.id)) },
			Changed: func(ids []string) { s.changed = append(s.changed, ids) },
			Report:  func(id string, err error) { s.note("report %s", id) },
		})
		if err != nil {
			t.Fatal(err)
		}
		f(t, s, c)
		synctest.Wait()
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if s.open != 0 {
			t.Errorf("%d models are left open", s.open)
		}
		if _, _, err := c.Get(t.Context(), "a"); call.AsError(err).Reason != helvetype.ReasonReplicaUnavailable {
			t.Errorf("after Close: %v", err)
		}
	})
}

func get(t *testing.T, c *Cache[*model], id string) (release func()) {
	t.Helper()
	m, release, err := c.Get(t.Context(), id)
	if err != nil || m.id != id || m.closed {
		t.Fatalf("%s: %+v, %v", id, m, err)
	}
	return release
}

func TestLeastRecentlyUsed(t *testing.T) {
	bubble(t, Options{Max: 2}, func(t *testing.T, s *shelf, c *Cache[*model]) {
		for _, id := range []string{"a", "b", "a", "c", "b"} {
			release := get(t, c, id)
			release()
			release()
		}
		want := []string{"load a", "load b", "load c", "close b", "close a", "load b"}
		if got := s.take(); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		if ids := c.IDs(); !slices.Equal(ids, []string{"b", "c"}) || s.most != 3 { // c was on trial beside the two
			t.Errorf("%v, %d at a time", ids, s.most)
		}
		wantChanges := [][]string{{"a"}, {"a", "b"}, {"a", "c"}, {"b", "c"}}
		last := s.changed[len(s.changed)-1]
		if !slices.Equal(last, wantChanges[3]) || !slices.Equal(s.changed[0], wantChanges[0]) {
			t.Errorf("%v", s.changed)
		}
		if st := c.Stats(); st.Gets != 5 || st.Loads != 4 || st.Unloads != 2 || st.Loaded != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// TestAnUnknownModelPutsNothingOut: a model makes room for another when the other is loaded, not when it is asked
// for, because ids come from clients.
func TestAnUnknownModelPutsNothingOut(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{"count": {Max: 2}, "bytes": {Max: -1, MaxBytes: 9}, "both": {Max: 2, MaxBytes: 9}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, o, func(t *testing.T, s *shelf, c *Cache[*model]) {
				s.bad = map[string]string{"none": "fails", "evil": "panics", "gone": "exits"}
				get(t, c, "good")()
				get(t, c, "fine")()
				var wg sync.WaitGroup
				for range 3 {
					for id := range s.bad {
						wg.Go(func() {
							if _, _, err := c.Get(t.Context(), id); err == nil {
								t.Error(id, "was loaded")
							}
						})
					}
				}
				wg.Go(func() { get(t, c, "good")() })
				wg.Wait()
				if ids := c.IDs(); len(ids) != 2 || c.Stats().Unloads != 0 {
					t.Errorf("%v, %+v", ids, c.Stats())
				}
				get(t, c, "new")() // a model that exists makes room
				synctest.Wait()
				if ids := c.IDs(); !slices.Equal(ids, []string{"new", "good"}) || s.most > 3 {
					t.Errorf("%v, %d at a time", ids, s.most)
				}
			})
		})
	}
}

// TestAKnownModelDoesNotWaitForATrial: a model that was loaded before gets its room while an unknown one loads.
func TestAKnownModelDoesNotWaitForATrial(t *testing.T) {
	bubble(t, Options{Max: 1}, func(t *testing.T, s *shelf, c *Cache[*model]) {
		get(t, c, "a")()
		get(t, c, "b")()
		var wg sync.WaitGroup
		for _, id := range []string{"new", "newer"} {
			wg.Go(func() { get(t, c, id)() })
			synctest.Wait()
		}
		start := time.Now()
		get(t, c, "a")()
		if took := time.Since(start); took != time.Second {
			t.Errorf("it took %v", took)
		}
		wg.Wait()
	})
}

func TestModelsInUseStay(t *testing.T) {
	bubble(t, Options{Max: 1}, func(t *testing.T, s *shelf, c *Cache[*model]) {
		release := get(t, c, "a")
		got := make(chan error, 2)
		short, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, ctx := range []context.Context{short, t.Context()} {
			go func() {
				_, release, err := c.Get(ctx, "b")
				release()
				got <- err
			}()
		}
		synctest.Wait()
		get(t, c, "a")() // a call that waits for room holds nothing up
		if err := <-got; call.AsError(err).Reason != helvetype.ReasonDeadline {
			t.Errorf("%v", err)
		}
		release()
		if err := <-got; err != nil {
			t.Error(err)
		}
		if log := s.take(); !slices.Equal(log, []string{"load a", "load b", "close a"}) || s.most != 2 {
			t.Errorf("%v", log)
		}
	})
}

func TestLoads(t *testing.T) {
	bubble(t, Options{Max: -1, MaxLoads: 2}, func(t *testing.T, s *shelf, c *Cache[*model]) {
		var wg sync.WaitGroup
		start := time.Now()
		for _, id := range []string{"a", "b", "a", "c", "a", "d"} {
			wg.Go(func() { get(t, c, id)() })
		}
		wg.Wait()
		log := s.take()
		slices.Sort(log)
		if !slices.Equal(log, []string{"load a", "load b", "load c", "load d"}) || s.peak != 2 || time.Since(start) != 2*time.Second {
			t.Errorf("%v, %d at a time, in %v", log, s.peak, time.Since(start))
		}
	})
}

func TestFailedLoadsAreForgotten(t *testing.T) {
	bubble(t, Options{Max: 1}, func(t *testing.T, s *shelf, c *Cache[*model]) {
		for how, want := range map[string]string{"fails": "", "panics": "panic", "exits": "goexit"} {
			s.bad["x"] = how
			if _, _, err := c.Get(t.Context(), "x"); err == nil || call.AsError(err).Type != want {
				t.Errorf("%s: %v", how, err)
			}
		}
		delete(s.bad, "x")
		get(t, c, "x")()
		if _, _, err := c.Get(t.Context(), ""); call.AsError(err).Reason != helvetype.ReasonBadInput {
			t.Errorf("%v", err)
		}
	})
}

func TestLoadOutlivesSomeOfItsCallers(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, s *shelf, c *Cache[*model]) {
		one, stopOne := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		ask := func(ctx context.Context) {
			go func() {
				_, release, err := c.Get(ctx, "a")
				release()
				errs <- err
			}()
			synctest.Wait()
		}
		ask(one)
		ask(t.Context())
		stopOne()
		if err := <-errs; call.AsError(err).Reason != helvetype.ReasonCancelled {
			t.Errorf("%v", err)
		}
		if err := <-errs; err != nil {
			t.Error(err)
		}
		two, stopTwo := context.WithCancel(t.Context())
		go func() {
			_, _, err := c.Get(two, "b")
			errs <- err
		}()
		synctest.Wait()
		stopTwo()
		<-errs
		if log := s.take(); !slices.Equal(log, []string{"load a", "load b", "gave up b"}) {
			t.Errorf("%v", log)
		}
	})
}

func TestBytes(t *testing.T) {
	bubble(t, Options{Max: -1, MaxBytes: 5}, func(t *testing.T, s *shelf, c *Cache[*model]) {
		get(t, c, "aa")()
		get(t, c, "bb")()
		get(t, c, "ccc")()
		s.take()
		if ids := c.IDs(); !slices.Equal(ids, []string{"ccc", "bb"}) || c.Stats().Bytes != 5 {
			t.Errorf("%v, %+v", ids, c.Stats())
		}
		if _, _, err := c.Get(t.Context(), "dddddd"); call.AsError(err).Reason != helvetype.ReasonBadInput {
			t.Errorf("%v", err)
		}
		s.take()
		get(t, c, "aa")() // the size of a refused model is no measure for the next
		get(t, c, "ccc")()
		if ids := c.IDs(); !slices.Equal(ids, []string{"ccc", "aa"}) || c.Stats().Bytes != 5 {
			t.Errorf("%v, %+v", ids, c.Stats())
		}
	})
}

// TestBytesInUse: while all loaded models are in use, another model waits for room, also a model that turned out to
// be larger than the bytes set aside for it.
func TestBytesInUse(t *testing.T) {
	bubble(t, Options{Max: -1, MaxBytes: 5}, func(t *testing.T, s *shelf, c *Cache[*model]) {
		release := get(t, c, "aa")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, _, err := c.Get(ctx, "bbbb"); call.AsError(err).Reason != helvetype.ReasonDeadline {
			t.Errorf("%v", err)
		}
		if log := s.take(); !slices.Equal(log, []string{"load aa", "load bbbb", "close bbbb"}) || c.Stats().Bytes != 2 {
			t.Errorf("%v, %+v", log, c.Stats())
		}
		got := make(chan func())
		go func() { got <- get(t, c, "bbbb") }()
		time.Sleep(time.Minute)
		if log := s.take(); len(log) > 0 {
			t.Errorf("now that its size is known: %v", log)
		}
		release()
		(<-got)()
		if log := s.take(); !slices.Equal(log, []string{"close aa", "load bbbb"}) {
			t.Errorf("%v", log)
		}
	})
}

// TestBytesAtOnce: the models that are loaded, load or close never exceed MaxBytes once their sizes are known; before
// that, by at most one model.
func TestBytesAtOnce(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			const limit, ids, largest = 100, 12, 40
			rng := rand.New(rand.NewPCG(seed, 1))
			size := map[string]int64{}
			for i := range ids {
				size[fmt.Sprint(i)] = 1 + rng.Int64N(largest)
			}
			var mu sync.Mutex
			var open, most int64
			hold := func(n int64) {
				mu.Lock()
				defer mu.Unlock()
				open += n
				most = max(most, open)
			}
			c, err := New(func(ctx context.Context, id string) (string, error) {
				hold(size[id])
				time.Sleep(time.Second)
				return id, nil
			}, Options{Max: -1, MaxBytes: limit}, Hooks[string]{
				Size:  func(id string) int64 { return size[id] },
				Close: func(_ context.Context, id string) error { time.Sleep(time.Second / 2); hold(-size[id]); return nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, bound := range []int64{limit + largest, limit} {
				most = 0
				var wg sync.WaitGroup
				for k := range 200 {
					time.Sleep(time.Duration(rng.Int64N(int64(time.Second) / 2)))
					id, use := fmt.Sprint(rng.IntN(ids)), time.Duration(rng.Int64N(int64(3*time.Second)))
					if k < ids {
						id = fmt.Sprint(k) // each once
					}
					wg.Go(func() {
						_, release, err := c.Get(t.Context(), id)
						if err != nil {
							t.Errorf("seed %d: %v", seed, err)
						}
						time.Sleep(use)
						release()
					})
				}
				wg.Wait()
				if most > bound {
					t.Errorf("seed %d: %d bytes at once, want at most %d", seed, most, bound)
				}
			}
			c.Close(t.Context()) //nolint:errcheck // nothing is in use
			if s := c.Stats(); open != 0 || c.reserved != 0 || c.closingBytes != 0 || s.Bytes != 0 {
				t.Errorf("seed %d: %d bytes are left, %d reserved, %d leaving, %+v", seed, open, c.reserved, c.closingBytes, s)
			}
		})
	}
}

func TestClosesThatFail(t *testing.T) {
	bubble(t, Options{Max: 1}, func(t *testing.T, s *shelf, c *Cache[*model]) {
		for _, id := range []string{"angry", "sad", "a"} {
			get(t, c, id)()
		}
		want := []string{"load angry", "load sad", "close angry", "report angry", "load a", "close sad", "report sad"}
		if log := s.take(); !slices.Equal(log, want) {
			t.Errorf("%v", log)
		}
	})
}

func TestCloseWaitsForUsers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		c, err := New(s.load, Options{}, Hooks[*model]{})
		if err != nil {
			t.Fatal(err)
		}
		a, b := get(t, c, "a"), get(t, c, "b")
		time.AfterFunc(time.Second, a)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if err := c.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		b()
		synctest.Wait()
		if s.open != 0 {
			t.Errorf("%d are open", s.open)
		}
	})
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	if _, err := New[int](nil, Options{Max: -2, MaxBytes: 1, MaxLoads: -1}, Hooks[int]{}); err == nil {
		t.Error("accepted")
	}
}

// TestModelsHoldAnything: in any mix of gets, failures and cancellations a model in use is open, and the number of
// models is at most Max, and one more for a model on trial.
func TestModelsHoldAnything(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			s := &shelf{bad: map[string]string{"m0": "fails", "m1": "panics"}}
			limit := 1 + rng.IntN(3)
			c, err := New(s.load, Options{Max: limit, MaxLoads: 1 + rng.IntN(3)}, Hooks[*model]{})
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for range 200 {
				id := fmt.Sprintf("m%d", rng.IntN(7))
				patience, hold := time.Duration(rng.IntN(20))*time.Second, time.Duration(rng.IntN(3000))*time.Millisecond
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					m, release, err := c.Get(ctx, id)
					defer release()
					if err == nil {
						for range 3 {
							if s.mu.Lock(); m.closed || m.id != id {
								t.Errorf("seed %d: %s was closed in use", seed, id)
							}
							s.mu.Unlock()
							time.Sleep(hold / 3)
						}
					}
				})
				if rng.IntN(3) == 0 {
					time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
				}
			}
			wg.Wait()
			synctest.Wait()
			if s.most > limit+1 {
				t.Errorf("seed %d: %d models at a time, %d are allowed", seed, s.most, limit)
			}
			for _, id := range []string{"m3", "m4", "m5"} { // no load is stuck
				get(t, c, id)()
			}
			if err := c.Close(t.Context()); err != nil || s.open != 0 {
				t.Errorf("seed %d: %v, %d are open", seed, err, s.open)
			}
		})
	}
}

func BenchmarkGetLoaded(b *testing.B) {
	c, err := New(func(context.Context, string) (int, error) { return 1, nil }, Options{}, Hooks[int]{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, release, err := c.Get(b.Context(), "a")
		if err != nil {
			b.Fatal(err)
		}
		release()
	}
}

// TestWhoComesLateIsNotCancelled: a load that all its callers have left is not the load of a later caller, although
// it still cleans up.
func TestWhoComesLateIsNotCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		loads := 0
		c, err := New(func(ctx context.Context, _ string) (int, error) {
			if loads++; loads > 1 {
				return 7, nil
			}
			<-ctx.Done()
			time.Sleep(time.Second)
			return 0, ctx.Err()
		}, Options{}, Hooks[int]{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go c.Get(ctx, "m") // the caller gives up
		synctest.Wait()
		cancel()
		synctest.Wait()
		m, release, err := c.Get(t.Context(), "m")
		if release(); m != 7 || err != nil {
			t.Errorf("%d, %v", m, err)
		}
		synctest.Wait()
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestWaits: a call that waits for a load says so, with the models that made room: before the load, and after that of a model on trial. A call that finds its model does not wait.
func TestWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told tally
		c, err := New(func(_ context.Context, id string) (string, error) {
			time.Sleep(time.Second)
			if id == "bad" {
				return "", errors.New("bad")
			}
			return id, nil
		}, Options{Max: 1}, Hooks[string]{
			Close: func(context.Context, string) error { return nil },
			Waits: func(_ context.Context, id string) func([]string, error) {
				return func(unloaded []string, err error) { told.note("%s waited, for it %v left: %v", id, unloaded, err) }
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"a", "a", "b", "a", "bad"} {
			if _, release, err := c.Get(t.Context(), id); err == nil {
				release()
			}
			synctest.Wait()
		}
		want := []string{"a waited, for it [] left: <nil>", "b waited, for it [a] left: <nil>", "a waited, for it [b] left: <nil>", "bad waited, for it [] left: bad"}
		if !slices.Equal(told.log, want) {
			t.Errorf("%q, want %q", told.log, want)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
