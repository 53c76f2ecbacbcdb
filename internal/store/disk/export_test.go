package disk

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/store"
)

// full is a store with records of all kinds and their blobs.
func full(t *testing.T) *Store {
	t.Helper()
	s := openQuick(t, t.TempDir())
	if _, err := store.PutBlob(t.Context(), s.Blobs(), []byte("graph")); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Blobs().PutFile(t.Context(), program, true); err != nil {
		t.Fatal(err)
	}
	ops, _ := fixtures(t)
	txn(t, s, ops...)
	txn(t, s, put("nodes/n", "1"))
	return s
}

// wantFull compares a directory with the records and blobs of [full].
func wantFull(t *testing.T, dir string, want []store.KV) *Store {
	t.Helper()
	s := openQuick(t, dir)
	if got := list(t, s); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, r := range list(t, s) {
		if err := store.Check(r); err != nil {
			t.Error(err)
		}
	}
	for _, content := range []string{"graph", "#!/bin/sh\n"} {
		if b, err := store.ReadBlob(s.Blobs(), store.Digest([]byte(content))); err != nil || string(b) != content {
			t.Errorf("%q: %v", b, err)
		}
	}
	path, err := s.Blobs().Path(store.Digest([]byte("#!/bin/sh\n")))
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o500 {
		t.Errorf("%v, %v", st, err)
	}
	return s
}

// kept are the records that a store keeps.
func kept(t *testing.T, s *Store) (records []store.KV) {
	t.Helper()
	for _, r := range list(t, s) {
		if !store.Volatile(r.Key) {
			records = append(records, r)
		}
	}
	return records
}

// TestExport: an export of a store that is open is all of it, on another machine too.
func TestExport(t *testing.T) {
	t.Parallel()
	s := full(t)
	file := filepath.Join(t.TempDir(), "export.tar")
	sum, err := Export(t.Context(), s.dir, file)
	st, serr := os.Stat(file)
	if err := errors.Join(err, serr); err != nil {
		t.Fatal(err)
	}
	if want := (Summary{Applications: 1, Records: 5, Blobs: 2, Bytes: st.Size()}); sum != want || st.Mode().Perm() != 0o600 {
		t.Errorf("%+v, want %+v; mode %v", sum, want, st.Mode())
	}
	dir := t.TempDir()
	if got, err := Import(t.Context(), dir, file); err != nil || got != sum {
		t.Errorf("%+v, want %+v: %v", got, sum, err)
	}
	next := wantFull(t, dir, kept(t, s))
	if txn(t, next, put("apps/new", "1")) <= s.content.reserved {
		t.Error("a revision of the store is given out again")
	}
	if _, err := Import(t.Context(), dir, file); err == nil || !strings.Contains(err.Error(), dir+" has a store") {
		t.Error(err)
	}
	if _, err := Recover(t.Context(), dir, file); err == nil || err.Error() != next.path()+" is in use: stop the node first" {
		t.Error(err)
	}
	names, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".*"))
	if err != nil || len(names) > 0 {
		t.Errorf("%v is left: %v", names, err)
	}
}

// TestRecover: a damaged store is replaced, and kept beside the new one.
func TestRecover(t *testing.T) {
	t.Parallel()
	s := full(t)
	want := kept(t, s)
	file := filepath.Join(t.TempDir(), "export.tar")
	if _, err := Export(t.Context(), s.dir, file); err != nil {
		t.Fatal(err)
	}
	txn(t, s, put("apps/later", "1"))
	if err := errors.Join(s.Close(), os.WriteFile(s.path(), []byte("damaged"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Export(t.Context(), s.dir, filepath.Join(t.TempDir(), "x")); !isDamage(err) {
		t.Errorf("an export of a damaged store: %v", err)
	}
	sum, err := Recover(t.Context(), s.dir, file)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(sum.Before); err != nil || string(b) != "damaged" || filepath.Dir(sum.Before) != s.dir {
		t.Errorf("%s: %q, %v", sum.Before, b, err)
	}
	wantFull(t, s.dir, want)
	empty := t.TempDir()
	if sum, err := Recover(t.Context(), empty, file); err != nil || sum.Before != "" {
		t.Errorf("%+v, %v", sum, err)
	}
	wantFull(t, empty, want)
	if _, err := Export(t.Context(), t.TempDir(), file); err == nil || !strings.Contains(err.Error(), "is not the state directory of a node") {
		t.Error(err)
	}
}

// TestExportOfARunningNode: an export is of one moment, also while the store is written. Each transaction writes one number to three records.
func TestExportOfARunningNode(t *testing.T) {
	t.Parallel()
	s := openQuick(t, t.TempDir())
	number := func(n int) (ops []store.Op) {
		for _, name := range []string{"a", "b", "c"} {
			op, err := store.Encode(store.AppKey(name), store.App{Revision: uint64(n)})
			if err != nil {
				t.Error(err)
			}
			ops = append(ops, op)
		}
		return ops
	}
	txn(t, s, number(1)...)
	var writer sync.WaitGroup
	stop := make(chan struct{})
	writer.Go(func() {
		for n := 2; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				if _, err := s.Txn(t.Context(), store.Txn{Then: number(n)}); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for i := range 5 {
		file := filepath.Join(t.TempDir(), "export.tar")
		if _, err := Export(t.Context(), s.dir, file); err != nil {
			t.Error(i, err)
			continue
		}
		dir := t.TempDir()
		if _, err := Import(t.Context(), dir, file); err != nil {
			t.Error(i, err)
			continue
		}
		apps, _, err := store.List(t.Context(), openQuick(t, dir), store.Apps())
		if err != nil || len(apps) != 3 || apps[0].Record.Revision != apps[1].Record.Revision || apps[1].Record.Revision != apps[2].Record.Revision {
			t.Errorf("%+v, %v", apps, err)
		}
	}
	close(stop)
	writer.Wait()
}

// exported is a small export, and its parts.
func exported(t testing.TB, header exportHeader, records []store.KV, blobs map[string]string) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, blobsName), 0o700); err != nil {
		t.Fatal(err)
	}
	var digests []string
	for digest, content := range blobs {
		digests = append(digests, digest)
		if err := os.WriteFile(filepath.Join(dir, blobsName, digest), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := writeExport(&b, header, records, dir, digests); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestDamagedExport: an export with any changed byte, or a part of one, is refused, and the directory stays as it is.
func TestDamagedExport(t *testing.T) {
	t.Parallel()
	s := full(t)
	name := filepath.Join(t.TempDir(), "export.tar")
	if _, err := Export(t.Context(), s.dir, name); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(what string, content []byte) error {
		dir, name := t.TempDir(), filepath.Join(t.TempDir(), "damaged.tar")
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Recover(t.Context(), dir, name)
		if d, ok := errors.AsType[*DamageError](err); !ok || d.Path != name {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Stat(filepath.Join(dir, storeName)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
		return err
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	for at := random.IntN(50); at < len(file); at += 1 + random.IntN(100) {
		changed := bytes.Clone(file)
		changed[at] ^= byte(1 << random.IntN(8))
		refuse(fmt.Sprintf("seed %d, byte %d", seed, at), changed) //nolint:errcheck // it is checked
	}
	for size := 0; size < len(file); size += 512 {
		refuse(fmt.Sprint("the first bytes: ", size), file[:size]) //nolint:errcheck // as above
	}
	// A whole file whose content is wrong.
	app, err := store.Encode(store.AppKey("a"), store.App{Revision: 1})
	if err != nil {
		t.Fatal(err)
	}
	record := store.KV{Key: app.Key, Value: app.Value, Created: 1, Modified: 2}
	with := func(change func(*store.KV)) []store.KV {
		r := record
		change(&r)
		return []store.KV{r}
	}
	h := exportHeader{Format: 1, Revision: 2, Records: 1}
	for what, x := range map[string]struct {
		h       exportHeader
		records []store.KV
		want    string
	}{
		"a newer record": {h, with(func(r *store.KV) { r.Value = []byte(`{"format":9,"record":{}}`) }), "record apps/a: field \"format\": is 9, this program reads 1 to 3"},
		"no record":      {h, nil, "it has 0 records and should have 1"},
		"a revision":     {h, with(func(r *store.KV) { r.Modified = 3 }), "record apps/a is none that a store keeps"},
		"another kind":   {h, with(func(r *store.KV) { r.Key = "models/a" }), "there are no records of the kind"},
		"twice":          {exportHeader{Format: 1, Revision: 2, Records: 2}, []store.KV{record, record}, "record apps/a is not behind apps/a"},
		"a missing blob": {exportHeader{Format: 1, Revision: 2, Records: 1, Blobs: 1}, []store.KV{record}, "after 0 of 1 blobs"},
		"no format":      {exportHeader{Revision: 2, Records: 1}, []store.KV{record}, "in format 0"},
	} {
		if err := refuse(what, exported(t, x.h, x.records, nil)); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %s", what, err, x.want)
		}
	}
	newer := filepath.Join(t.TempDir(), "newer.tar")
	h.Format = 2
	if err := os.WriteFile(newer, exported(t, h, []store.KV{record}, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Recover(t.Context(), t.TempDir(), newer)
	if f, ok := errors.AsType[*FormatError](err); !ok || *f != (FormatError{newer, 2, 1}) {
		t.Error(err)
	}
}

func FuzzReadExport(f *testing.F) {
	app, err := store.Encode(store.AppKey("a"), store.App{Revision: 1})
	if err != nil {
		f.Fatal(err)
	}
	record := store.KV{Key: app.Key, Value: app.Value, Created: 1, Modified: 2}
	f.Add(exported(f, exportHeader{Format: 1, Revision: 2, Records: 1, Blobs: 1}, []store.KV{record}, map[string]string{store.Digest([]byte("x")): "x"}))
	f.Add(exported(f, exportHeader{Format: 1}, nil, nil))
	f.Fuzz(func(t *testing.T, file []byte) {
		blobs := 0
		h, records, err := readExport(bytes.NewReader(file), func(digest string, _ bool, content io.Reader) error {
			blobs++
			_, err := io.Copy(io.Discard, content)
			return err
		})
		if err == nil && (len(records) != h.Records || blobs != h.Blobs) {
			t.Errorf("%+v: %d records, %d blobs", h, len(records), blobs)
		}
		if checkSum(bytes.NewReader(file), int64(len(file))) == nil {
			sum := sha256.Sum256(file[:len(file)-exportTail])
			if a := tar.NewReader(bytes.NewReader(file[len(file)-exportTail:])); !endsIn(a, hex.EncodeToString(sum[:])) {
				t.Error("the sum was taken for another's")
			}
		}
	})
}

// endsIn says whether an archive is the end of an export with a digest.
func endsIn(a *tar.Reader, digest string) bool {
	e, err := a.Next()
	if err != nil || e.Name != sumName {
		return false
	}
	b, err := io.ReadAll(a)
	return err == nil && string(b) == digest
}

// TestMissingFile: an export that is not there is an error of the file system.
func TestMissingFile(t *testing.T) {
	t.Parallel()
	if _, err := Recover(t.Context(), t.TempDir(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), slog.New(slog.DiscardHandler)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
