package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/helve-serve/helve/internal/store"
)

// sample makes a directory whose store has a tree of two levels, records of several pages and free pages, and gives the records and the file.
func sample(t *testing.T) (dir string, records []store.KV, file []byte) {
	t.Helper()
	s := openQuick(t, t.TempDir())
	for i := range 40 {
		txn(t, s, put(fmt.Sprintf("apps/%d", i), strings.Repeat("x", 20*i)))
	}
	txn(t, s, put("revisions/large", strings.Repeat("y", 9000)), store.Delete("apps/3"))
	records = list(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(s.path())
	if err != nil {
		t.Fatal(err)
	}
	return s.dir, records, file
}

// openBytes opens a store whose file has these bytes. A store that opens is written to and opened once more: bbolt must not find harm that the reader
// has not seen.
func openBytes(t *testing.T, file []byte) ([]store.KV, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, storeName), file, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := open(dir, slog.New(slog.DiscardHandler), true)
	if err != nil {
		now, rerr := os.ReadFile(filepath.Join(dir, storeName))
		if rerr != nil || !bytes.Equal(now, file) {
			t.Errorf("a file that was refused has changed: %v", rerr)
		}
		return nil, err
	}
	records := list(t, s)
	for i := range 5 {
		txn(t, s, put(fmt.Sprintf("apps/%d", i*9), strings.Repeat("z", 100)))
	}
	want := list(t, s)
	if got := list(t, again(t, s)); !reflect.DeepEqual(got, want) {
		t.Error("a file that was opened loses a write")
	}
	return records, nil
}

// TestDamage: a changed byte is an error that says what to do, or is in a place that has no meaning.
func TestDamage(t *testing.T) {
	t.Parallel()
	_, want, file := sample(t)
	if records, err := openBytes(t, file); err != nil || !reflect.DeepEqual(records, want) {
		t.Fatalf("the file itself: %v", err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	refused, harmless := 0, 0
	for page := 0; page < len(file); page += pageSize {
		at := make([]int, 0, 200)
		for i := range 60 { // the headers, and the first elements
			at = append(at, i)
		}
		for range 30 {
			at = append(at, random.IntN(pageSize))
		}
		for n, i := range at {
			changed := bytes.Clone(file)
			changed[page+i] ^= byte(1 << random.IntN(8))
			records, _, _, err := readBytes(changed)
			if err != nil {
				if refused++; refused%200 == 0 { // as above, by the way of a node
					if _, err := openBytes(t, changed); !isDamage(err) {
						t.Errorf("seed %d, byte %d of page %d: %v", seed, i, page/pageSize, err)
					}
				}
				continue
			}
			if !reflect.DeepEqual(records, want) {
				t.Fatalf("seed %d, byte %d of page %d: it is not seen, and changes the records", seed, i, page/pageSize)
			}
			if harmless++; n%40 == 0 {
				if records, err := openBytes(t, changed); err != nil || !reflect.DeepEqual(records, want) {
					t.Errorf("seed %d, byte %d of page %d: %v", seed, i, page/pageSize, err)
				}
			}
		}
	}
	if refused == 0 || harmless == 0 {
		t.Errorf("%d changes were refused, %d were harmless", refused, harmless)
	}
}

func readBytes(file []byte) ([]store.KV, map[string]sum, content, error) {
	buckets, _, err := readBuckets(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return nil, nil, content{}, err
	}
	return readRecords(buckets)
}

func isDamage(err error) bool {
	d, ok := errors.AsType[*DamageError](err)
	return ok && strings.HasSuffix(d.Path, storeName) && strings.Contains(err.Error(), "start with --recover FILE")
}

// TestOtherFiles: a file that is cut, empty, missing or another's is an error, and never an empty start.
func TestOtherFiles(t *testing.T) {
	t.Parallel()
	dir, want, file := sample(t)
	for size := 0; size < len(file); size += pageSize / 2 {
		records, err := openBytes(t, file[:size])
		if err == nil && !reflect.DeepEqual(records, want) || err != nil && !isDamage(err) { // the last pages may be free
			t.Errorf("%d of %d bytes: %d records: %v", size, len(file), len(records), err)
		}
	}
	for name, content := range map[string][]byte{"text": []byte("hello\n"), "zeros": make([]byte, 64<<10), "noise": bytes.Repeat([]byte{0xa5}, 64<<10)} {
		if _, err := openBytes(t, content); !isDamage(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := openQuick(t, dir)
	if _, err := store.PutBlob(t.Context(), s.Blobs(), []byte("code")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), os.Remove(s.path())); err != nil {
		t.Fatal(err)
	}
	if _, err := open(dir, slog.New(slog.DiscardHandler), true); !isDamage(err) || !strings.Contains(err.Error(), "it is missing, and "+dir) {
		t.Error(err)
	}
	if err := os.Mkdir(s.path(), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := open(dir, slog.New(slog.DiscardHandler), true); err == nil || !strings.Contains(err.Error(), s.path()) {
		t.Errorf("a directory: %v", err)
	}
}

// TestNewerFormat: a file of a newer program is refused by name.
func TestNewerFormat(t *testing.T) {
	t.Parallel()
	dir, _, _ := sample(t)
	path := filepath.Join(dir, storeName)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return errors.Join(tx.Bucket([]byte(bucketHelve)).Put([]byte(keyFormat), []byte("2")), tx.DeleteBucket([]byte(bucketRecords)))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = open(dir, slog.New(slog.DiscardHandler), true)
	if newer, ok := errors.AsType[*FormatError](err); !ok || *newer != (FormatError{path, 2, 1}) || !strings.HasPrefix(err.Error(), path+" has format 2, which a newer version of Helve has written") {
		t.Error(err)
	}
}

func FuzzReadBuckets(f *testing.F) {
	dir := f.TempDir()
	c := content{}
	for _, records := range [][]store.Op{nil, {put("a", "1"), put("b", strings.Repeat("x", 5000))}} {
		db, err := create(dir, c, records, true)
		if err != nil {
			f.Fatal(err)
		}
		file, err := os.ReadFile(filepath.Join(dir, storeName))
		if err := errors.Join(err, db.Close()); err != nil {
			f.Fatal(err)
		}
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if records, _, c, err := readBytes(file); err == nil && c.records != len(records) {
			t.Errorf("%d records, and %d are said", len(records), c.records)
		}
		// Most inputs fail at a checksum. The test makes the checksums of the meta pages right, so that the trees are read too.
		if len(file) < 2*pageSize {
			return
		}
		file = bytes.Clone(file)
		for _, at := range []int{pageHeader, pageSize + pageHeader} {
			sum := fnv.New64a()
			sum.Write(file[at : at+metaSummed])
			binary.LittleEndian.PutUint64(file[at+metaSummed:], sum.Sum64())
		}
		readBytes(file) //nolint:errcheck // it must return
	})
}
