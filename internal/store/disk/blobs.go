package disk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/store"
)

// putPrefix begins the names of blobs that are being written.
const putPrefix = "put-"

// Blobs keeps each blob in a file whose name is the digest. It implements [store.Blobs]; [Store.Blobs] gives it.
//
// The times of puts are in memory: no other process puts blobs, so a blob that a record does not name when the node starts is named by none. They are
// compared by the monotonic clock. For example, a clock that is set an hour ahead lets no blob be collected that was put a minute before.
type Blobs struct {
	dir   string
	quick bool // see Store

	mu    sync.Mutex
	put   map[string]time.Time // the blobs of the last BlobAge
	whole map[string]bool      // the blobs that this process has put, or has read and compared with their digests

	puts, syncs atomic.Int64
}

// openBlobs opens the blobs of a state directory, and removes files of puts that were not finished.
func openBlobs(state string, quick bool) (*Blobs, error) {
	dir := filepath.Join(state, blobsName)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), putPrefix) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return &Blobs{dir: dir, quick: quick, put: map[string]time.Time{}, whole: map[string]bool{}}, nil
}

// hasBlobs says whether a state directory has blobs.
func hasBlobs(state string) (bool, error) {
	entries, err := os.ReadDir(filepath.Join(state, blobsName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	for _, e := range entries {
		if store.IsDigest(e.Name()) {
			return true, nil
		}
	}
	return false, err
}

// Put implements [store.Blobs].
func (b *Blobs) Put(ctx context.Context, content io.Reader) (digest string, size int64, err error) {
	return b.write(ctx, content, false)
}

// PutFile implements [store.Blobs]. A file whose blob is there is read, and not written again.
func (b *Blobs) PutFile(ctx context.Context, path string, executable bool) (digest string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(h, store.WithContext(ctx, f)); err != nil {
		return "", 0, err
	}
	digest = hex.EncodeToString(h.Sum(nil))
	if there, err := b.again(digest, executable); err != nil || there {
		return digest, size, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", 0, err
	}
	return b.write(ctx, f, executable)
}

// again counts a put of a blob that is there and whole.
func (b *Blobs) again(digest string, executable bool) (there bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.againLocked(digest, executable)
}

func (b *Blobs) againLocked(digest string, executable bool) (there bool, err error) {
	if !b.whole[digest] {
		return false, nil
	}
	st, err := os.Lstat(b.path(digest))
	if err == nil && executable && st.Mode().Perm() != modeOf(true) {
		err = os.Chmod(b.path(digest), modeOf(true))
	}
	if errors.Is(err, fs.ErrNotExist) { // removed by another hand
		delete(b.whole, digest)
		return false, nil
	}
	if err == nil {
		b.put[digest] = time.Now()
	}
	return err == nil, err
}

// write puts the bytes of a reader: into a file of another name, which gets its own when all of it is on disk.
func (b *Blobs) write(ctx context.Context, content io.Reader, executable bool) (digest string, size int64, err error) {
	f, err := os.CreateTemp(b.dir, putPrefix)
	if err != nil {
		return "", 0, fmt.Errorf("a blob was not written: %w", err)
	}
	defer os.Remove(f.Name()) // there is none after the rename
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(io.MultiWriter(f, h), store.WithContext(ctx, content)); err != nil {
		return "", 0, fmt.Errorf("a blob was not written: %w", err)
	}
	digest = hex.EncodeToString(h.Sum(nil))
	if there, err := b.again(digest, executable); err != nil || there {
		return digest, size, err
	}
	if err := b.finish(f, digest, executable); err != nil {
		return "", 0, fmt.Errorf("a blob was not written: %w", err)
	}
	return digest, size, nil
}

// finish gives a written file its name. It replaces a file of that name, which may be damaged, but not one that another put has written meanwhile: workers may have started from
// that, and are known by its inode. For example, two applications of one executable are deployed at once. An executable stays one.
func (b *Blobs) finish(f *os.File, digest string, executable bool) error {
	if err := f.Chmod(modeOf(executable)); err != nil {
		return err
	}
	if !b.quick {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if there, err := b.againLocked(digest, executable); err != nil || there {
		return err
	}
	if st, err := os.Lstat(b.path(digest)); err == nil && st.Mode().Perm() == modeOf(true) {
		if err := f.Chmod(modeOf(true)); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil { // an executable must not be open for writing
		return err
	}
	if err := os.Rename(f.Name(), b.path(digest)); err != nil {
		return err
	}
	if err := syncDir(b.dir, b.quick); err != nil {
		return err
	}
	b.syncs.Add(2) // the file, the directory
	b.puts.Add(1)
	b.put[digest], b.whole[digest] = time.Now(), true
	return nil
}

func modeOf(executable bool) fs.FileMode {
	if executable {
		return 0o500
	}
	return 0o400
}

func (b *Blobs) path(digest string) string { return filepath.Join(b.dir, digest) }

// Open implements [store.Blobs].
func (b *Blobs) Open(digest string) (io.ReadCloser, error) {
	f, err := b.open(digest)
	if err != nil {
		return nil, err
	}
	return &blobReader{File: f, digest: digest, sum: sha256.New()}, nil
}

func (b *Blobs) open(digest string) (*os.File, error) {
	if !store.IsDigest(digest) { // and no path
		return nil, store.ErrNoBlob
	}
	f, err := os.OpenFile(b.path(digest), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, store.ErrNoBlob
	}
	return f, err
}

// blobReader compares a blob with its digest when all of it was read.
type blobReader struct {
	*os.File
	digest string
	sum    hash.Hash
}

func (r *blobReader) Read(p []byte) (n int, err error) {
	n, err = r.File.Read(p)
	r.sum.Write(p[:n])                                                   //nolint:errcheck // a hash takes all
	if err == io.EOF && hex.EncodeToString(r.sum.Sum(nil)) != r.digest { //nolint:errorlint // of a file it is io.EOF itself
		return n, &store.BlobError{Digest: r.digest, Problem: "its file is damaged: " + r.Name()}
	}
	return n, err
}

// WriteTo has io.Copy read by Read.
func (r *blobReader) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{r})
}

// Path implements [store.Blobs]. The file is compared with its digest the first time.
func (b *Blobs) Path(digest string) (string, error) {
	b.mu.Lock()
	whole := b.whole[digest]
	b.mu.Unlock()
	if whole {
		if _, err := os.Lstat(b.path(digest)); err == nil {
			return b.path(digest), nil
		}
	}
	r, err := b.Open(digest)
	if err != nil {
		return "", err
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return "", err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.whole[digest] = true
	return b.path(digest), nil
}

// Collect implements [store.Blobs].
func (b *Blobs) Collect(wanted func(digest string) bool) (removed int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for digest, at := range b.put {
		if time.Since(at) >= store.BlobAge {
			delete(b.put, digest)
		}
	}
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		digest := e.Name()
		if _, young := b.put[digest]; young || !store.IsDigest(digest) || wanted(digest) {
			continue
		}
		delete(b.whole, digest)
		if rerr := os.Remove(b.path(digest)); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
			continue
		}
		removed++
	}
	return removed, err
}
