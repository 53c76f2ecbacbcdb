package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/helve-serve/helve/internal/store"
)

// TestFull: a write that has no room is an error, reads go on, and the next write that has room is made. The limit is that of the size of files of a
// process, which needs no file system of its own.
func TestFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out, err := childOf(t, "full", dir).Output(); err != nil || string(out) != "done\n" {
		t.Errorf("%s: %v", out, err)
	}
}

func writeUntilFull(dir string) error {
	signal.Ignore(syscall.SIGXFSZ) // the write fails instead
	ctx := context.Background()
	s, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	write := func(ops ...store.Op) error {
		_, err := s.Txn(ctx, store.Txn{Then: ops})
		return err
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 256 << 10, Max: limit.Max}); err != nil {
		return err
	}
	written := 0
	for err == nil && written < 1000 {
		if err = write(put(fmt.Sprintf("apps/%d", written), strings.Repeat("x", 8000))); err == nil {
			written++
		}
	}
	if failed, ok := errors.AsType[*WriteError](err); !ok || failed.Path != filepath.Join(dir, storeName) || !strings.Contains(err.Error(), "file too large") {
		return fmt.Errorf("after %d records: %w", written, err)
	}
	if err := write(put("nodes/n", "1")); err != nil {
		return fmt.Errorf("a record that is not kept on disk: %w", err)
	}
	records, _, err := s.List(ctx, "apps/")
	if err != nil || len(records) != written || s.Failing() == nil {
		return fmt.Errorf("%d of %d records, failing %w: %w", len(records), written, s.Failing(), err)
	}
	if _, err := store.PutBlob(ctx, s.Blobs(), make([]byte, 300<<10)); !errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("a blob without room: %w", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, blobsName)); err != nil || len(left) > 0 {
		return fmt.Errorf("%v are left of a blob: %w", left, err)
	}
	for range 3 { // in the room that is left inside the file
		if err := write(store.Delete("apps/0"), store.Delete("apps/1")); err != nil {
			return fmt.Errorf("a delete without more room: %w", err)
		}
	}
	if s.Failing() != nil {
		return s.Failing()
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	for i := range written {
		if err := write(put(fmt.Sprintf("more/%d", i), strings.Repeat("y", 8000))); err != nil {
			return fmt.Errorf("with room again: %w", err)
		}
	}
	if records, _, err = s.List(ctx, ""); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	next, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	kept, _, err := next.List(ctx, "")
	if err != nil || len(kept) != len(records)-1 { // nodes/n
		return fmt.Errorf("%d of %d records are kept: %w", len(kept), len(records), err)
	}
	fmt.Println("done")
	return next.Close()
}

// TestReadOnly: a directory that cannot be written to is an error with its name.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	dir, _, _ := sample(t)
	if err := errors.Join(os.Chmod(filepath.Join(dir, storeName), 0o444), os.Chmod(dir, 0o555), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) }) //nolint:errcheck // TempDir says it
	out, err := childOf(t, "readonly", dir).Output()
	if want := filepath.Join(dir, storeName) + ": permission denied\n"; err != nil || !strings.HasSuffix(string(out), want) {
		t.Errorf("%q, want %q: %v", out, want, err)
	}
}

// openReadOnly prints the error of a directory that this process must not write to. The root user may write everywhere, and becomes another.
func openReadOnly(dir string) error {
	if os.Geteuid() == 0 {
		if err := errors.Join(syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
			return err
		}
	}
	_, err := Open(dir, slog.New(slog.DiscardHandler))
	fmt.Println(err)
	return nil
}
