package store_test

import (
	"testing"

	"github.com/helve-serve/helve/internal/store"
	"github.com/helve-serve/helve/internal/store/storetest"
)

func TestMemoryBlobs(t *testing.T) {
	t.Parallel()
	storetest.RunBlobs(t, storetest.BlobSubject{Open: func(*testing.T) store.Blobs { return store.NewMemoryBlobs() }})
}
