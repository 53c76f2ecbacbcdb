package disk

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"

	"github.com/helve-serve/helve/internal/store"
)

// format is the version of store.db. A file of each version is in testdata, and is read.
//
// Format 1: the bucket "helve" has the keys "format", a decimal number, and "header", a JSON object (type header); the bucket "records" has the
// records: the revisions that created and changed a record, 8 bytes each, and its value, under its key. The first of the two buckets stays in all
// formats, so that a program can say which format it cannot read.
const format = 1

const (
	bucketHelve   = "helve"
	bucketRecords = "records"
	keyFormat     = "format"
	keyHeader     = "header"
)

const (
	pageSize    = 4096 // of new files, also where the system's pages are larger
	createSyncs = 5    // of create: the empty file, its size, its pages, its meta page, the directory
	lockTime    = 2 * time.Second
	lockRetry   = 20 * time.Millisecond
)

// sum is a digest. The sums of several records are combined by XOR, so that the digest of all changes with one record while the others are not read.
type sum [sha256.Size]byte

func (s *sum) xor(other sum) {
	for i := range s {
		s[i] ^= other[i]
	}
}

// content describes the content of a file: a number that no revision is above (see reservation), the number of records, and their digest.
type content struct {
	reserved int64
	records  int
	all      sum
}

// header is the content as the file has it. Its digest is that of the records and of the other fields.
type header struct {
	Revision int64  `json:"revision"`
	Records  int    `json:"records"`
	Digest   string `json:"digest"`
}

func (c content) header() header {
	h := header{Revision: c.reserved, Records: c.records}
	all := sum(sha256.Sum256(fmt.Appendf(nil, "helve store: format %d, revision %d, %d records", format, h.Revision, h.Records)))
	all.xor(c.all)
	h.Digest = hex.EncodeToString(all[:])
	return h
}

// sumOf is the digest of a record.
func sumOf(key string, encoded []byte) (s sum) {
	h := sha256.New()
	fmt.Fprintf(h, "%d %s", len(key), key)
	h.Write(encoded) //nolint:errcheck // a hash takes all
	h.Sum(s[:0])
	return s
}

// encode is the value of a record in the file.
func encode(r store.KV) []byte {
	b := make([]byte, 0, 16+len(r.Value))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Created))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Modified))
	return append(b, r.Value...)
}

func decode(key string, b []byte) (store.KV, error) {
	if len(b) < 16 {
		return store.KV{}, fmt.Errorf("record %s has %d bytes", key, len(b))
	}
	return store.KV{Key: key, Created: int64(binary.BigEndian.Uint64(b)), Modified: int64(binary.BigEndian.Uint64(b[8:])), Value: append([]byte{}, b[16:]...)}, nil
}

// read reads a file without bbolt, and compares it with its digest. sums has the digest of each record. The error says what is wrong with the file,
// without its name.
func read(f *os.File) (records []store.KV, sums map[string]sum, c content, transaction uint64, err error) {
	st, err := f.Stat()
	if err != nil {
		return nil, nil, c, 0, &fileError{err}
	}
	buckets, transaction, err := readBuckets(f, st.Size())
	if err != nil {
		return nil, nil, c, 0, err
	}
	records, sums, c, err = readRecords(buckets)
	return records, sums, c, transaction, err
}

// readRecords compares the buckets of a file with its digest.
func readRecords(buckets map[string][]pair) (records []store.KV, sums map[string]sum, c content, err error) {
	h, err := readHeader(buckets[bucketHelve])
	if err != nil {
		return nil, nil, c, err
	}
	sums = make(map[string]sum, len(buckets[bucketRecords]))
	c.reserved = h.Revision
	for _, p := range buckets[bucketRecords] {
		key := string(p.key)
		r, err := decode(key, p.value)
		if err != nil {
			return nil, nil, c, err
		}
		s := sumOf(key, p.value)
		sums[key] = s
		c.all.xor(s)
		c.records++
		records = append(records, r)
	}
	if got := c.header(); got != h {
		return nil, nil, c, fmt.Errorf("its %d records are not those of its digest (of %d records)", got.Records, h.Records)
	}
	return records, sums, c, nil
}

// readHeader reads the bucket "helve".
func readHeader(pairs []pair) (h header, err error) {
	values := map[string][]byte{}
	for _, p := range pairs {
		values[string(p.key)] = p.value
	}
	f, err := strconv.Atoi(string(values[keyFormat]))
	switch {
	case err != nil || f < 1:
		return h, fmt.Errorf("its format is %q", values[keyFormat])
	case f > format:
		return h, &FormatError{Format: f, Reads: format}
	}
	if err := json.Unmarshal(values[keyHeader], &h); err != nil {
		return h, fmt.Errorf("its header is %q", values[keyHeader])
	}
	return h, nil
}

// load opens a file: it takes its lock, reads it, and gives it to bbolt. The content is that of the file.
func load(path string, quick bool) (db *bbolt.DB, records []store.KV, sums map[string]sum, c content, err error) {
	var problem error
	opened, err := openBolt(path, quick, func(path string, flag int, mode fs.FileMode) (*os.File, error) {
		f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
		if err != nil {
			return nil, err
		}
		if err = lock(f); err == nil {
			records, sums, c, _, err = read(f)
			problem = err
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	})
	switch {
	case problem != nil:
		return nil, nil, nil, c, named(path, problem)
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, nil, nil, c, fmt.Errorf("%s is in use: another process has opened it", path)
	case err != nil:
		return nil, nil, nil, c, fmt.Errorf("%s cannot be opened: %w", path, err)
	}
	return opened, records, sums, c, nil
}

// lock takes the lock of a file that bbolt takes: bbolt has it then, because the descriptor is the same. The lock of a process that was killed may
// be held for a moment, by a child that it was starting.
func lock(f *os.File) error {
	for begin := time.Now(); ; time.Sleep(lockRetry) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Since(begin) > lockTime {
			return err
		}
	}
}

// openBolt has bbolt open a file. The list of free pages is not in the file: bbolt finds it by a walk through the tree, and the file has one thing
// less that can be damaged.
func openBolt(path string, quick bool, openFile func(string, int, fs.FileMode) (*os.File, error)) (*bbolt.DB, error) {
	var db *bbolt.DB
	_, err := guard(func() (err error) {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: lockTime, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, PageSize: pageSize, OpenFile: openFile, NoSync: quick, NoGrowSync: quick,
		})
		return err
	})
	return db, err
}

// create makes store.db with records, in place of a file that may be there. The file has its name when all of it is on disk: a process that is killed in
// between leaves the one before.
func create(dir string, c content, ops []store.Op, quick bool) (*bbolt.DB, error) {
	f, err := os.CreateTemp(dir, newPrefix)
	if err != nil {
		return nil, err
	}
	temporary := f.Name()
	f.Close()
	db, err := openBolt(temporary, quick, nil)
	if err == nil {
		_, err = guard(func() error { return update(db, ops, c) })
	}
	if err == nil {
		err = os.Rename(temporary, filepath.Join(dir, storeName))
	}
	if err == nil {
		err = syncDir(dir, quick)
	}
	if err != nil {
		if db != nil {
			db.Close()
		}
		os.Remove(temporary)
		return nil, err
	}
	return db, nil
}

// update is one transaction of bbolt. It has no rollback for a panic, as bbolt's Update has: that reads the file once more, on another goroutine.
func update(db *bbolt.DB, ops []store.Op, next content) error {
	tx, err := db.Begin(true)
	if err != nil {
		return err
	}
	if err := change(tx, ops, next); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func change(tx *bbolt.Tx, ops []store.Op, next content) error {
	text, err := json.Marshal(next.header())
	if err != nil {
		return err
	}
	helve, err := tx.CreateBucketIfNotExists([]byte(bucketHelve))
	if err != nil {
		return err
	}
	records, err := tx.CreateBucketIfNotExists([]byte(bucketRecords))
	if err != nil {
		return err
	}
	for _, op := range ops {
		if op.Delete {
			err = records.Delete([]byte(op.Key))
		} else {
			err = records.Put([]byte(op.Key), op.Value)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(helve.Put([]byte(keyFormat), []byte(strconv.Itoa(format))), helve.Put([]byte(keyHeader), text))
}

// guard calls a function of bbolt. A panic of it, or a fault of the file that it has in memory, is an error; after one safe is false: bbolt's locks are
// as the panic has left them. A disk that does not give a page makes such a fault.
func guard(f func() error) (safe bool, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			safe, err = false, fmt.Errorf("bbolt: %v", p)
		}
	}()
	return true, f()
}

// fileSize is the size of the file of a database; -1 if it is not known.
func fileSize(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return -1
	}
	return st.Size()
}

// syncDir makes the names in a directory durable.
func syncDir(dir string, quick bool) error {
	if quick {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// removeLeftovers removes files that a killed process was making.
func removeLeftovers(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), newPrefix) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
