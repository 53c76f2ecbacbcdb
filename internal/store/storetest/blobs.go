package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/store"
)

// BlobSubject is an implementation of store.Blobs under test.
type BlobSubject struct {
	// Open gives an empty set of blobs, for one test.
	Open func(t *testing.T) store.Blobs
	// Files is set for implementations whose blobs are files.
	Files bool
}

// RunBlobs tests an implementation of store.Blobs. The tests run under testing/synctest, where ten minutes pass at once.
func RunBlobs(t *testing.T, s BlobSubject) {
	for _, x := range []struct {
		name string
		test func(*testing.T, store.Blobs)
	}{
		{"put and open", putAndOpen}, {"a blob that is not there", noBlob}, {"a reader that fails", readerFails}, {"collect", collect},
		{"a second put counts", putAgain}, {"many at once", manyBlobs},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { x.test(t, s.Open(t)) })
		})
	}
	t.Run("files", func(t *testing.T) {
		t.Parallel()
		files(t, s.Open(t), s.Files)
	})
}

func putBlob(t *testing.T, b store.Blobs, content string) (digest string) {
	t.Helper()
	digest, size, err := b.Put(t.Context(), strings.NewReader(content))
	if err != nil || size != int64(len(content)) || digest != store.Digest([]byte(content)) {
		t.Fatalf("%q: digest %s, %d bytes: %v", content, digest, size, err)
	}
	return digest
}

func wantBlob(t *testing.T, b store.Blobs, digest, want string) {
	t.Helper()
	if got, err := store.ReadBlob(b, digest); err != nil || string(got) != want {
		t.Errorf("blob %s: %.40q, want %.40q: %v", digest, got, want, err)
	}
}

func putAndOpen(t *testing.T, b store.Blobs) {
	for _, content := range []string{"", "large", strings.Repeat("x", 1<<20)} {
		wantBlob(t, b, putBlob(t, b, content), content)
	}
	source := []byte("value")
	digest, err := store.PutBlob(t.Context(), b, source)
	if err != nil {
		t.Fatal(err)
	}
	copy(source, "XXXXX")
	wantBlob(t, b, digest, "value")
}

func noBlob(t *testing.T, b store.Blobs) {
	for _, digest := range []string{store.Digest([]byte("none")), "", "..", "../x", strings.Repeat("A", 64)} {
		if _, err := b.Open(digest); !errors.Is(err, store.ErrNoBlob) {
			t.Errorf("Open %q: %v", digest, err)
		}
		if _, err := b.Path(digest); !errors.Is(err, store.ErrNoBlob) {
			t.Errorf("Path %q: %v", digest, err)
		}
	}
}

func readerFails(t *testing.T, b store.Blobs) {
	broken := errors.New("broken")
	if _, _, err := b.Put(t.Context(), io.MultiReader(strings.NewReader("part"), errorReader{broken})); !errors.Is(err, broken) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.Put(ctx, strings.NewReader("part")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, _, err := b.PutFile(t.Context(), filepath.Join(t.TempDir(), "none"), false); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := b.Open(store.Digest([]byte("part"))); !errors.Is(err, store.ErrNoBlob) {
		t.Errorf("a part is a blob: %v", err)
	}
}

type errorReader struct{ err error }

func (e errorReader) Read([]byte) (int, error) { return 0, e.err }

// collectAll removes all blobs but the one of a digest, and gives the number of the removed ones.
func collectAll(t *testing.T, b store.Blobs, but string) int {
	t.Helper()
	n, err := b.Collect(func(digest string) bool { return digest == but })
	if err != nil {
		t.Error(err)
	}
	return n
}

func collect(t *testing.T, b store.Blobs) {
	kept, dropped := putBlob(t, b, "kept"), putBlob(t, b, "dropped")
	<-time.After(store.BlobAge - time.Second)
	fresh := putBlob(t, b, "fresh")
	if n := collectAll(t, b, kept); n != 0 {
		t.Errorf("%d blobs were removed that were put less than %s before", n, store.BlobAge)
	}
	reading, err := b.Open(dropped)
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Close()
	<-time.After(time.Second)
	if n := collectAll(t, b, kept); n != 1 {
		t.Errorf("%d blobs were removed, want 1", n)
	}
	if got, err := io.ReadAll(reading); err != nil || string(got) != "dropped" {
		t.Errorf("a blob that is being read was collected: %q, %v", got, err)
	}
	wantBlob(t, b, kept, "kept")
	wantBlob(t, b, fresh, "fresh")
	if _, err := b.Open(dropped); !errors.Is(err, store.ErrNoBlob) {
		t.Error(err)
	}
	wantBlob(t, b, putBlob(t, b, "dropped"), "dropped")
}

// putAgain: two deploys of the same code, the second of which is under way while the first is deleted.
func putAgain(t *testing.T, b store.Blobs) {
	putBlob(t, b, "code")
	<-time.After(store.BlobAge)
	digest := putBlob(t, b, "code")
	if n := collectAll(t, b, ""); n != 0 {
		t.Error("the second deploy has lost its code")
	}
	wantBlob(t, b, digest, "code")
	<-time.After(store.BlobAge)
	if n := collectAll(t, b, ""); n != 1 {
		t.Errorf("%d were removed, want 1", n)
	}
}

func manyBlobs(t *testing.T, b store.Blobs) {
	contents := []string{"a", "b", strings.Repeat("c", 100_000)}
	var all sync.WaitGroup
	for range 4 {
		for _, content := range contents {
			all.Go(func() {
				if digest, _, err := b.Put(t.Context(), strings.NewReader(content)); err != nil || digest != store.Digest([]byte(content)) {
					t.Error(digest, err)
				}
			})
		}
		all.Go(func() { collectAll(t, b, "") })
	}
	all.Wait()
	for _, content := range contents {
		wantBlob(t, b, store.Digest([]byte(content)), content)
	}
}

func files(t *testing.T, b store.Blobs, hasFiles bool) {
	source := filepath.Join(t.TempDir(), "program")
	program := []byte("#!/bin/sh\necho it runs\n")
	if err := os.WriteFile(source, program, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, executable := range []bool{false, true, false} { // the second makes it executable, the third leaves it so
		digest, size, err := b.PutFile(t.Context(), source, executable)
		if err != nil || size != int64(len(program)) || digest != store.Digest(program) {
			t.Fatal(digest, size, err)
		}
	}
	if err := os.WriteFile(source, []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	digest := store.Digest(program)
	wantBlob(t, b, digest, string(program))
	path, err := b.Path(digest)
	if !hasFiles {
		if !errors.Is(err, store.ErrNoFile) {
			t.Error(path, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(content, program) {
		t.Errorf("%q, %v", content, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o500 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	plain, err := b.Path(putBlob(t, b, "plain"))
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(plain); err != nil || st.Mode().Perm() != 0o400 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}
