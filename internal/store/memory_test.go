package store_test

import (
	"testing"
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
