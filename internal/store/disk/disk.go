// Package disk keeps the records of the target and the blobs of one node in its state directory.
//
// The store is a [store.Memory] whose changes are in a bbolt file, store.db, before they have an effect. Reads and watches use the memory alone.
// A transaction is written as one transaction of bbolt, and is acknowledged after the file system has it: after kill -9 and after a loss of power
// it is there as a whole, or was not acknowledged. Records of processes that live (store.Volatile, and all with a lease) are in memory only.
//
// The file is compared with its own digest when it is opened, by a reader that checks each pointer (reader.go). A damaged file is a [DamageError], and
// the file of a newer program a [FormatError]: the directory stays as it is, and no start begins empty.
//
// Files of the directory:
//
//	store.db       the records
//	blobs/DIGEST   a blob; mode 0400, or 0500 for an executable
package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"go.etcd.io/bbolt"

	"github.com/helve-serve/helve/internal/store"
)

// The names in a state directory.
const (
	storeName = "store.db"
	newPrefix = "store.db.new-" // a file that is being made; a leftover is of a process that was killed
	blobsName = "blobs"
)

// reservation is the number of revisions that are given out before the file has to say so. The file has an upper bound of the revisions in place of
// the last one, because changes that are not written raise the revision too. For example, a store whose file says 100000 has given out no higher
// revision, and goes on at 100000 after a restart: a watch of any revision that was ever seen gets store.ErrCompacted.
const reservation = 100_000

// Store is a store on disk. Its methods may be called from any goroutine.
type Store struct {
	*store.Memory
	dir   string
	log   *slog.Logger
	blobs *Blobs
	quick bool // for tests: without syncs

	// The memory gives one change its turn at a time, and these are the turn's.
	db      *bbolt.DB // nil: the next write makes the file anew
	content content
	sums    map[string]sum // of the records in the file, by key
	closed  bool

	writes, syncs atomic.Int64
	mu            sync.Mutex
	failing       error // of the last write; nil if it was made
}

// Open opens the store of a state directory, which the caller has claimed. A directory without a store gets an empty one, unless it has blobs: those
// belong to a store that is missing.
func Open(dir string, log *slog.Logger) (*Store, error) { return open(dir, log, false) }

func open(dir string, log *slog.Logger, quick bool) (*Store, error) {
	s := &Store{dir: dir, log: log, quick: quick}
	if err := removeLeftovers(dir); err != nil {
		return nil, err
	}
	path := s.path()
	_, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if has, err := hasBlobs(dir); err != nil || has {
			return nil, errors.Join(err, &DamageError{Path: path, Problem: "it is missing, and " + filepath.Join(dir, blobsName) + " has blobs of it"})
		}
		s.sums = map[string]sum{}
		if s.db, err = create(dir, s.content, nil, quick); err != nil {
			return nil, fmt.Errorf("the store was not made in %s: %w", dir, err)
		}
	case err != nil:
		return nil, err
	}
	var records []store.KV
	if s.db == nil {
		if s.db, records, s.sums, s.content, err = load(path, quick); err != nil {
			return nil, err
		}
	}
	if s.blobs, err = openBlobs(dir, quick); err != nil {
		s.db.Close()
		return nil, err
	}
	s.Memory = store.RestoreMemory(s.content.reserved, records, s.commit)
	return s, nil
}

func (s *Store) path() string { return filepath.Join(s.dir, storeName) }

// Blobs are the blobs of the directory.
func (s *Store) Blobs() *Blobs { return s.blobs }

// Close ends the store: writes fail from now on. Another process can open it then.
func (s *Store) Close() error {
	var err error
	s.Memory.Exclusive(func() { // no write is under way
		s.closed = true
		if s.db != nil {
			err = s.db.Close()
			s.db = nil
		}
	})
	return err
}

// commit writes an update before the memory has it. An update without a record to keep is never refused.
func (s *Store) commit(u store.Update) error {
	next := s.content
	var ops []store.Op
	for _, c := range u.Changes {
		old, there := s.sums[c.Key]
		keep := !c.Deleted && c.Lease == 0 && !store.Volatile(c.Key)
		if there {
			next.all.xor(old)
			next.records--
		}
		if keep {
			op := store.Put(c.Key, encode(c.KV))
			next.all.xor(sumOf(op.Key, op.Value))
			next.records++
			ops = append(ops, op)
		} else if there {
			ops = append(ops, store.Delete(c.Key))
		}
	}
	if u.Revision > s.content.reserved {
		next.reserved = u.Revision + reservation
	} else if len(ops) == 0 {
		return nil
	}
	if s.closed {
		if len(ops) == 0 {
			return nil
		}
		return &WriteError{s.path(), errors.New("the store is closed")}
	}
	err := s.write(ops, next)
	if failed, ok := errors.AsType[*fs.PathError](err); ok { // bbolt knows the file by the name under which it was made
		err = failed.Err
	}
	s.note(err)
	if err != nil && len(ops) > 0 {
		return &WriteError{s.path(), err}
	}
	if err != nil {
		return nil
	}
	s.content = next
	for _, op := range ops {
		if op.Delete {
			delete(s.sums, op.Key)
		} else {
			s.sums[op.Key] = sumOf(op.Key, op.Value)
		}
	}
	return nil
}

// write writes operations and the header of the content that is there then. After a failure that may have left the file otherwise than bbolt
// knows it, the next write makes a new file of the records in memory.
func (s *Store) write(ops []store.Op, next content) (err error) {
	if s.db == nil {
		return s.renew(ops, next)
	}
	size := fileSize(s.path())
	safe, err := guard(func() error { return update(s.db, ops, next) })
	if err == nil {
		s.writes.Add(1)
		s.syncs.Add(2) // the pages, then the meta page
		if fileSize(s.path()) > size {
			s.syncs.Add(1)
		}
		return nil
	}
	if !safe || !noSpace(err) {
		// After a failed fsync the content of the disk is not known, also after the next one. After a panic bbolt's locks are held, and it is left as it is.
		if safe {
			s.db.Close()
		}
		s.db = nil
	}
	return err
}

// noSpace says whether a transaction failed for want of space before its meta page was written. The file is then as before, and bbolt goes on: on a disk
// that is full the next transaction may fit, for example the delete of an application.
func noSpace(err error) bool {
	if strings.HasPrefix(err.Error(), "file resize error: ") { // bbolt has put the cause into text
		return true
	}
	failed, ok := errors.AsType[*fs.PathError](err)
	return ok && failed.Op == "write" && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG))
}

// renew makes a new file of the records in memory, with operations on top, in place of the file that failed.
func (s *Store) renew(ops []store.Op, next content) error {
	records, _, err := s.List(context.Background(), "")
	if err != nil {
		return err
	}
	var kept []store.Op
	for _, r := range records {
		if _, ok := s.sums[r.Key]; ok {
			kept = append(kept, store.Put(r.Key, encode(r)))
		}
	}
	db, err := create(s.dir, next, append(kept, ops...), s.quick)
	if err != nil {
		return err
	}
	s.log.Info("the store was written anew, after a write that failed", "file", s.path())
	s.db = db
	s.writes.Add(1)
	s.syncs.Add(createSyncs)
	return nil
}

// note keeps whether the last write failed, and logs a change.
func (s *Store) note(err error) {
	s.mu.Lock()
	before := s.failing
	s.failing = err
	s.mu.Unlock()
	if (before == nil) == (err == nil) {
		return
	}
	if err != nil {
		s.log.Error("the state of the node cannot be written; what runs goes on", "file", s.path(), "error", err)
	} else {
		s.log.Warn("the state of the node can be written again", "file", s.path())
	}
}

// Failing is the error of the last write; nil if it was made.
func (s *Store) Failing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing
}

// Size is the number of bytes of the file with the records; 0 if it is not known.
func (s *Store) Size() int64 { return max(fileSize(s.path()), 0) }

// Stats are counts since the store was opened.
type Stats struct {
	Writes    int64 // transactions that were written
	Syncs     int64 // calls of fsync and fdatasync for them
	BlobsPut  int64 // blobs that were written
	BlobSyncs int64 // calls of fsync for them
}

// Stats are the counts now. For example, a deploy whose records fit into one transaction has one write and two syncs.
func (s *Store) Stats() Stats {
	return Stats{s.writes.Load(), s.syncs.Load(), s.blobs.puts.Load(), s.blobs.syncs.Load()}
}
