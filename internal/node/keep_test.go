package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/pack"
	"github.com/helve-serve/helve/internal/store"
)

// failing blobs read a little, and fail.
type failing struct{ store.Blobs }

var errFull = errors.New("no space left on device")

func (failing) Put(_ context.Context, r io.Reader) (string, int64, error) {
	io.ReadFull(r, make([]byte, 10)) //nolint:errcheck // it fails anyway
	return "", 0, errFull
}

// TestKeep: a directory is a blob, whose digest gives it back.
func TestKeep(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "shop")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	code := bytes.Repeat([]byte("print()\n"), 1<<16)
	if err := os.WriteFile(filepath.Join(dir, "app.py"), code, 0o600); err != nil {
		t.Fatal(err)
	}
	blobs := store.NewMemoryBlobs()
	n := &Node{set: Settings{Durable: true, Blobs: blobs}}
	kept, _, err := n.Keep(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	at, err := pack.NewTrees(filepath.Join(t.TempDir(), "code"), blobs.Open).Directory(kept.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(at, "shop", "app.py")); err != nil || !bytes.Equal(b, code) {
		t.Errorf("app.py has %d bytes, %v", len(b), err)
	}
	t.Run("for a plan", func(t *testing.T) {
		t.Parallel()
		empty := store.NewMemoryBlobs()
		would, _, err := (&Node{set: Settings{Durable: true, Blobs: empty}}).WouldKeep(t.Context(), dir, nil)
		if err != nil || would != kept {
			t.Errorf("%+v, %v, want %+v", would, err, kept)
		}
		if _, err := empty.Open(kept.Digest); !errors.Is(err, store.ErrNoBlob) {
			t.Errorf("the blob is there, %v", err)
		}
	})
	t.Run("a full disk", func(t *testing.T) {
		t.Parallel()
		n := &Node{set: Settings{Durable: true, Blobs: failing{blobs}}}
		if _, _, err := n.Keep(t.Context(), dir, nil); !errors.Is(err, errFull) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no directory", func(t *testing.T) {
		t.Parallel()
		if _, _, err := n.Keep(t.Context(), dir+"-none", nil); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
}

// TestCollect: blobs are collected at once and each hour, also after an error.
func TestCollect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*collectEvery+time.Second)
		defer cancel()
		begun, at := time.Now(), []time.Duration{}
		collect(ctx, func(context.Context) error {
			at = append(at, time.Since(begun))
			return errFull
		}, slog.New(slog.DiscardHandler))
		if want := []time.Duration{0, collectEvery, 2 * collectEvery, 3 * collectEvery}; !slices.Equal(at, want) {
			t.Errorf("collected after %v", at)
		}
	})
}
