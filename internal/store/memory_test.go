package store_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/store"
	"github.com/helve-serve/helve/internal/store/storetest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Subject{
		Open:      func(*testing.T) store.Store { return store.NewMemory() },
		Compact:   func(_ *testing.T, s store.Store, revision int64) { s.(*store.Memory).Compact(revision) },
		Lease:     10 * time.Second,
		FakeClock: true,
	})
}

// TestCommit: a change takes effect after commit has returned, and reads do not wait for it.
func TestCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		committing, result := make(chan store.Update), make(chan error)
		s := store.RestoreMemory(7, []store.KV{{Key: "a", Value: []byte("1"), Created: 3, Modified: 5}}, func(u store.Update) error {
			committing <- u
			return <-result
		})
		put := func(ctx context.Context, key string) error {
			_, err := s.Txn(ctx, store.Txn{Then: []store.Op{store.Put(key, []byte("2"))}})
			return err
		}
		wants := func(key, value string, modified int64) {
			t.Helper()
			if r, _, err := s.Get(t.Context(), key); err != nil || string(r.Value) != value || r.Modified != modified {
				t.Errorf("%+v, want %q of revision %d: %v", r, value, modified, err)
			}
		}
		first := make(chan error, 1)
		go func() { first <- put(t.Context(), "a") }()
		if u := <-committing; u.Revision != 8 || len(u.Changes) != 1 || u.Changes[0].Created != 3 {
			t.Errorf("%+v", u)
		}
		wants("a", "1", 5)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := put(ctx, "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a change while another is made durable: %v", err)
		}
		result <- nil
		if err := <-first; err != nil {
			t.Error(err)
		}
		wants("a", "2", 8)

		full := errors.New("full")
		go func() { <-committing; result <- full }()
		if err := put(t.Context(), "b"); !errors.Is(err, full) {
			t.Error(err)
		}
		wants("b", "", 0)
		for _, err := range s.Watch(t.Context(), "", 7) {
			if !errors.Is(err, store.ErrCompacted) {
				t.Errorf("a watch of a revision before the restart: %v", err)
			}
		}

		l, err := s.Lease(t.Context(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		go func() { <-committing; result <- nil }()
		if _, err := s.Txn(t.Context(), store.Txn{Then: []store.Op{{Key: "l", Lease: l.ID()}}}); err != nil {
			t.Fatal(err)
		}
		wants("l", "", 9)
		<-committing // the lease ends
		wants("l", "", 9)
		result <- full
		synctest.Wait()
		wants("l", "", 0)
	})
}
