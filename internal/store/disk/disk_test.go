package disk

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/store"
	"github.com/helve-serve/helve/internal/store/storetest"
)

// TestConformance: the tests of every implementation, without the waits for the disk.
func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Subject{
		Open:      func(t *testing.T) store.Store { return openQuick(t, t.TempDir()) },
		Compact:   func(_ *testing.T, s store.Store, revision int64) { s.(*Store).Compact(revision) },
		Lease:     10 * time.Second,
		FakeClock: true,
	})
}

func TestBlobs(t *testing.T) {
	t.Parallel()
	storetest.RunBlobs(t, storetest.BlobSubject{Open: func(t *testing.T) store.Blobs { return openQuick(t, t.TempDir()).Blobs() }, Files: true})
}

// openQuick opens a store whose writes do not wait for the disk.
func openQuick(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := open(dir, slog.New(slog.DiscardHandler), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// again closes a store and opens it again, as a restart of the node does.
func again(t *testing.T, s *Store) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return openQuick(t, s.dir)
}

func txn(t *testing.T, s *Store, ops ...store.Op) (revision int64) {
	t.Helper()
	revision, err := s.Txn(t.Context(), store.Txn{Then: ops})
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

func put(key, value string) store.Op { return store.Put(key, []byte(value)) }

func list(t *testing.T, s store.Store) []store.KV {
	t.Helper()
	records, _, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// TestRestart: records come back with their revisions, and records of processes do not.
func TestRestart(t *testing.T) {
	t.Parallel()
	s := openQuick(t, t.TempDir())
	first := txn(t, s, put("apps/a", "1"), put("apps/gone", "1"), put("apps/leased", "1"))
	l, err := s.Lease(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	txn(t, s, put("nodes/n", "1"), put("replicas/n/1", "1"), put("assign/n/1", "1"), store.Delete("apps/gone"), store.Op{Key: "apps/leased", Lease: l.ID()})
	second := txn(t, s, put("apps/a", "2"), put("empty", ""))
	for range 5 {
		second = txn(t, s, put("nodes/n", "2")) // raises the revision, and is not written
	}
	next := again(t, s)
	want := []store.KV{
		{Key: "apps/a", Value: []byte("2"), Created: first, Modified: first + 2}, {Key: "empty", Value: []byte{}, Created: first + 2, Modified: first + 2},
	}
	if got := list(t, next); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, err := range next.Watch(t.Context(), "", second+1) {
		if !errors.Is(err, store.ErrCompacted) {
			t.Errorf("a watch from before the restart: %v", err)
		}
	}
	if _, err := next.Txn(t.Context(), store.Txn{If: []store.Condition{{Key: "apps/a", Modified: first}}}); err == nil {
		t.Error("a condition on a revision before the last holds")
	}
	revision, err := next.Txn(t.Context(), store.Txn{If: []store.Condition{{Key: "apps/a", Modified: first + 2}}, Then: []store.Op{put("apps/a", "3")}})
	if err != nil || revision <= second {
		t.Errorf("revision %d after %d: %v", revision, second, err)
	}
	if _, err := s.Txn(t.Context(), store.Txn{Then: []store.Op{put("apps/b", "1")}}); err == nil || !strings.Contains(err.Error(), "the store is closed") {
		t.Errorf("a write to a closed store: %v", err)
	}
	txn(t, s, put("nodes/n", "3")) // it is not kept, and goes on
}

// TestReservation: no revision is given out twice, also of changes that are not written.
func TestReservation(t *testing.T) {
	t.Parallel()
	s := openQuick(t, t.TempDir())
	txn(t, s, put("apps/a", "1"))
	s.Exclusive(func() { s.content.reserved = 3 })
	last := int64(0)
	for range 5 {
		last = txn(t, s, put("nodes/n", "1"))
	}
	if next := again(t, s); txn(t, next, put("apps/a", "2")) <= last {
		t.Error("a revision was given out twice")
	}
}

// TestStats: a transaction is two syncs. A transaction without a record to keep is none.
func TestStats(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	txn(t, s, put("apps/a", "1"))
	before := s.Stats()
	txn(t, s, put("apps/a", "2"), put("scale/a/D", "2"), put("revisions/a/0000000001", "2"))
	txn(t, s, put("nodes/n", "1"))
	if _, err := store.PutBlob(t.Context(), s.Blobs(), []byte("code")); err != nil {
		t.Fatal(err)
	}
	if now := s.Stats(); now.Writes != before.Writes+1 || now.Syncs != before.Syncs+2 || now.BlobsPut != 1 || now.BlobSyncs != 2 {
		t.Errorf("%+v after %+v", now, before)
	}
}

// TestInUse: one process has a store.
func TestInUse(t *testing.T) {
	t.Parallel()
	s := openQuick(t, t.TempDir())
	if _, err := Open(s.dir, s.log); err == nil || err.Error() != s.path()+" is in use: another process has opened it" {
		t.Error(err)
	}
}

// TestAfterFailure: after a write of which bbolt cannot say what it has left, the next write makes the file anew.
func TestAfterFailure(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(*testing.T, *Store){
		"the file of bbolt is closed": func(t *testing.T, s *Store) {
			t.Helper()
			if err := s.db.Close(); err != nil {
				t.Error(err)
			}
		},
		"the file is cut": func(t *testing.T, s *Store) { // the pages that bbolt has in memory are no more
			t.Helper()
			if err := os.Truncate(s.path(), pageSize); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openQuick(t, t.TempDir())
			for i := range 20 {
				txn(t, s, put(fmt.Sprint("apps/", i), strings.Repeat("x", 1000)))
			}
			want := list(t, s)
			harm(t, s)
			_, err := s.Txn(t.Context(), store.Txn{Then: []store.Op{store.Delete("apps/0"), put("apps/a", "1")}})
			if failed, ok := errors.AsType[*WriteError](err); !ok || failed.Path != s.path() || s.Failing() == nil {
				t.Errorf("%v; failing: %v", err, s.Failing())
			}
			if got := list(t, s); !reflect.DeepEqual(got, want) {
				t.Error("a write that failed has changed the records")
			}
			txn(t, s, store.Delete("apps/1"), put("apps/a", "2"))
			if s.Failing() != nil {
				t.Errorf("failing: %v", s.Failing())
			}
			want = list(t, s)
			if got := list(t, again(t, s)); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// TestRandom: many transactions of all sizes, among them records of several pages. The reader of this package agrees with bbolt about each file.
func TestRandom(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	s := openQuick(t, t.TempDir())
	for round := range 30 {
		for range 20 {
			var ops []store.Op
			for range 1 + random.IntN(5) {
				key := fmt.Sprintf("apps/%0*d", 1+random.IntN(30), random.IntN(200))
				op := store.Put(key, bytes.Repeat([]byte{byte(random.IntN(256))}, random.IntN(1<<random.IntN(15))))
				if random.IntN(3) == 0 {
					op = store.Delete(key)
				}
				ops = append(ops, op)
			}
			slices.SortFunc(ops, func(a, b store.Op) int { return cmp.Compare(a.Key, b.Key) })
			ops = slices.CompactFunc(ops, func(a, b store.Op) bool { return a.Key == b.Key })
			txn(t, s, ops...)
		}
		records, _, _, err := readPath(s.path())
		if err != nil || !reflect.DeepEqual(records, list(t, s)) {
			t.Fatalf("seed %d, round %d: the file has %d records, and should have %d: %v", seed, round, len(records), len(list(t, s)), err)
		}
		if round%5 == 0 {
			want := list(t, s)
			if s = again(t, s); !reflect.DeepEqual(list(t, s), want) {
				t.Fatalf("seed %d, round %d: a restart has changed the records", seed, round)
			}
		}
	}
}

// TestLeftovers: files of a process that was killed while it made them are removed.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	s := openQuick(t, t.TempDir())
	left := []string{filepath.Join(s.dir, newPrefix+"1"), filepath.Join(s.dir, blobsName, putPrefix+"1")}
	for _, path := range left {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again(t, s)
	for _, path := range left {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestDamagedBlob: a blob with a changed byte is an error, and a put heals it.
func TestDamagedBlob(t *testing.T) {
	t.Parallel()
	s := openQuick(t, t.TempDir())
	digest, err := store.PutBlob(t.Context(), s.Blobs(), []byte("code"))
	if err != nil {
		t.Fatal(err)
	}
	path, err := s.Blobs().Path(digest)
	if err != nil {
		t.Fatal(err)
	}
	s = again(t, s)
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("c0de"), 0o600)); err != nil {
		t.Fatal(err)
	}
	damaged := func(err error) bool {
		_, ok := errors.AsType[*store.BlobError](err)
		return ok
	}
	if _, err := store.ReadBlob(s.Blobs(), digest); !damaged(err) {
		t.Error(err)
	}
	if _, err := s.Blobs().Path(digest); !damaged(err) {
		t.Error(err)
	}
	if _, err := store.PutBlob(t.Context(), s.Blobs(), []byte("code")); err != nil {
		t.Fatal(err)
	}
	if b, err := store.ReadBlob(s.Blobs(), digest); err != nil || string(b) != "code" {
		t.Errorf("%q, %v", b, err)
	}
}
