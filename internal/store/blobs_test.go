package store_test

import (
	"bytes"
	"testing"

	"github.com/helve-serve/helve/internal/store"
)

// TestBlobs: a blob is found under its key and digest alone, and is a copy.
func TestBlobs(t *testing.T) {
	t.Parallel()
	b, body := store.NewBlobs(), []byte("large")
	digest := b.Put("revisions/a/1", body)
	body[0] = 'x'
	got, err := b.Get("revisions/a/1", digest)
	if err != nil || string(got) != "large" {
		t.Errorf("%q, %v", got, err)
	}
	got[0] = 'y'
	if again, _ := b.Get("revisions/a/1", digest); !bytes.Equal(again, []byte("large")) {
		t.Errorf("the blob has changed: %q", again)
	}
	if _, err := b.Get("revisions/a/1", "0"); err == nil || err.Error() != "the blob of record revisions/a/1 has another digest" {
		t.Error(err)
	}
	b.Delete("revisions/a/1")
	b.Delete("revisions/a/2")
	if _, err := b.Get("revisions/a/1", digest); err == nil || err.Error() != "the blob of record revisions/a/1 is not there" {
		t.Error(err)
	}
}
