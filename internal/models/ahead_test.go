package models

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// use asks for a model and releases it at once.
func use(t *testing.T, c *Cache[*model], id string) {
	t.Helper()
	_, release, err := c.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	release()
}

func refused(err error) bool {
	_, ok := errors.AsType[*RefusedError](err)
	return ok
}

// TestLoadAheadTakesNoBetterPlace: a model that loads ahead takes the place of a model that was used earlier, and of no other.
func TestLoadAheadTakesNoBetterPlace(t *testing.T) {
	bubble(t, Options{Max: 2}, func(t *testing.T, s *shelf, c *Cache[*model]) {
		use(t, c, "a")
		time.Sleep(time.Minute)
		use(t, c, "b")
		time.Sleep(time.Minute)
		s.take()
		if err := c.LoadAhead(t.Context(), "old", time.Hour); !refused(err) {
			t.Error(err)
		}
		if got := s.take(); len(got) != 0 {
			t.Error(got)
		}
		if err := c.LoadAhead(t.Context(), "c", 90*time.Second); err != nil { // b was used a minute ago, a two
			t.Error(err)
		}
		if got := fmt.Sprint(s.take(), c.IDs()); got != "[close a load c] [b c]" {
			t.Error(got)
		}
		use(t, c, "d") // c is where its last use belongs, behind b
		if got := fmt.Sprint(s.take(), c.IDs()); got != "[load d close c] [d b]" {
			t.Error(got)
		}
		if u := c.Unused(); u["d"] != 0 || u["b"] < time.Minute || len(u) != 2 {
			t.Error(u)
		}
		if ids := s.changed[len(s.changed)-1]; !slices.Equal(ids, []string{"b", "d"}) {
			t.Error(ids)
		}
		if st := c.Stats(); st.Gets != 3 {
			t.Errorf("a model that loads ahead is no call for it: %+v", st)
		}
	})
}

// TestLoadAheadOfModelsInUse: a model in use makes no room, and counts as used now.
func TestLoadAheadOfModelsInUse(t *testing.T) {
	bubble(t, Options{Max: 1}, func(t *testing.T, s *shelf, c *Cache[*model]) {
		_, release, err := c.Get(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if u := c.Unused(); u["a"] != 0 {
			t.Error(u)
		}
		if err := c.LoadAhead(t.Context(), "b", 0); !refused(err) {
			t.Error(err)
		}
		release()
		time.Sleep(time.Second)
		if u := c.Unused(); u["a"] != time.Second {
			t.Error(u)
		}
		if err := c.LoadAhead(t.Context(), "a", 0); err != nil {
			t.Error(err)
		}
	})
}

// TestLongUseCounts: the end of a use counts as a use: a call that has had a model for an hour, and gives it back now, has used it later than another replica used its model a minute ago.
func TestLongUseCounts(t *testing.T) {
	bubble(t, Options{Max: 1}, func(t *testing.T, s *shelf, c *Cache[*model]) {
		_, release, err := c.Get(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		release()
		time.Sleep(time.Second)
		if err := c.LoadAhead(t.Context(), "b", time.Minute); !refused(err) {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if err := c.LoadAhead(t.Context(), "b", time.Minute); err != nil {
			t.Error(err)
		}
	})
}

// TestCallsGoFirst: a model that a call waits for loads before the models that are ahead of their calls, also if it was ahead itself.
func TestCallsGoFirst(t *testing.T) {
	bubble(t, Options{Max: 9, MaxLoads: 1}, func(t *testing.T, s *shelf, c *Cache[*model]) {
		ended := make(chan error)
		begin := func(f func() error) {
			go func() { ended <- f() }()
			synctest.Wait()
		}
		ahead := func(id string) { begin(func() error { return c.LoadAhead(t.Context(), id, time.Minute) }) }
		get := func(id string) {
			begin(func() error {
				_, release, err := c.Get(t.Context(), id)
				release()
				return err
			})
		}
		for _, id := range []string{"first", "a", "b", "c"} {
			ahead(id)
		}
		get("called")
		get("c")
		for range 6 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if got := fmt.Sprint(s.take()); got != "[load first load called load c load a load b]" {
			t.Error(got)
		}
	})
}

// TestCallsTakeOverLoadsAhead: a call for a model that loads ahead waits for that load, and makes the model a used one.
func TestCallsTakeOverLoadsAhead(t *testing.T) {
	bubble(t, Options{Max: 1}, func(t *testing.T, s *shelf, c *Cache[*model]) {
		ctx, cancel := context.WithCancel(t.Context())
		given := make(chan error, 1)
		go func() { given <- c.LoadAhead(ctx, "a", time.Hour) }()
		synctest.Wait()
		got := make(chan error, 1)
		go func() {
			_, release, err := c.Get(t.Context(), "a")
			release()
			got <- err
		}()
		synctest.Wait()
		cancel() // the node has given up: the call has not
		if err := <-given; err == nil {
			t.Error("the load was not given up")
		}
		if err := <-got; err != nil {
			t.Error(err)
		}
		if err := c.LoadAhead(t.Context(), "b", time.Minute); !refused(err) {
			t.Error(err)
		}
		if got := fmt.Sprint(s.take()); got != "[load a]" {
			t.Error(got)
		}
		// Without a call the load ends with its ctx, and a failure is the caller's.
		s.bad["c"] = "fails"
		time.Sleep(time.Minute)
		if err := c.LoadAhead(t.Context(), "c", 0); err == nil || refused(err) || err.Error() != "no c" {
			t.Error(err)
		}
	})
}

// TestLoadAheadBytes: the rule of places holds for memory too, also if the size of the model was not known before.
func TestLoadAheadBytes(t *testing.T) {
	bubble(t, Options{Max: -1, MaxBytes: 10}, func(t *testing.T, s *shelf, c *Cache[*model]) {
		use(t, c, "aaaa")
		time.Sleep(time.Minute)
		use(t, c, "bbbb")
		time.Sleep(time.Minute)
		s.take()
		if err := c.LoadAhead(t.Context(), "cccc", 90*time.Second); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(s.take(), c.IDs()); got != "[close aaaa load cccc] [bbbb cccc]" {
			t.Error(got)
		}
		// The model dddddddd holds more bytes than were kept for it, and would need the room of bbbb too.
		if err := c.LoadAhead(t.Context(), "dddddddd", 80*time.Second); !refused(err) {
			t.Error(err)
		}
		if got := fmt.Sprint(s.take(), c.IDs()); got != "[close cccc load dddddddd close dddddddd] [bbbb]" {
			t.Error(got)
		}
		if err := c.LoadAhead(t.Context(), "dddddddd", 0); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(c.IDs()); got != "[dddddddd]" {
			t.Error(got)
		}
	})
}

// TestLoadAheadProperty: among random calls and loads ahead, a load ahead never puts out a model that was used after its own.
func TestLoadAheadProperty(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			bubble(t, Options{Max: 3}, func(t *testing.T, s *shelf, c *Cache[*model]) {
				used := map[string]time.Time{}
				for range 100 {
					time.Sleep(time.Duration(r.IntN(60)) * time.Second)
					id := fmt.Sprint("m", r.IntN(8))
					if r.IntN(2) == 0 {
						use(t, c, id)
						used[id] = time.Now()
						continue
					}
					before, unused := c.IDs(), time.Duration(r.IntN(300))*time.Second
					at := time.Now().Add(-unused)
					err := c.LoadAhead(t.Context(), id, unused)
					synctest.Wait()
					after := c.IDs()
					if err == nil && !slices.Contains(before, id) {
						used[id] = at
					}
					for _, old := range before {
						if !slices.Contains(after, old) && !used[old].Before(at) {
							t.Fatalf("%s, used %v, was put out for %s, used %v", old, used[old], id, at)
						}
					}
					if slices.Contains(after, id) != (err == nil) || err != nil && !slices.Equal(before, after) {
						t.Fatalf("%s: %v: %v, then %v", id, err, before, after)
					}
					if len(after) > 3 {
						t.Fatal(after)
					}
				}
			})
		})
	}
}
