package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Blobs keeps values that are too large for a record: executables, packed directories, pickles, large graphs. The key of a blob is the SHA-256 of
// its bytes in hex, its digest, and a record names its blobs by their digests. For example, the record revisions/hello/0000000003 has the digest
// of the executable that its replicas run, and two revisions of one executable share one blob.
//
// A blob is put before the record that names it is written, and is collected after the last record that names it has been deleted. Between the
// first two steps nothing names the blob: a collection leaves blobs alone that were put less than [BlobAge] before. Methods may be called from any
// goroutine.
type Blobs interface {
	// Put keeps the bytes of a reader, and gives their digest and number. An implementation on disk returns when they are durable. To put a blob
	// that is there already counts as a new put.
	Put(ctx context.Context, content io.Reader) (digest string, size int64, err error)

	// PutFile is Put for the content of a file. executable: the file that [Blobs.Path] names can be executed.
	PutFile(ctx context.Context, path string, executable bool) (digest string, size int64, err error)

	// Open reads a blob. The error is [ErrNoBlob] for a blob that is not there, and a [BlobError], from Open or from the last Read, for one whose
	// bytes are not those of its digest any more.
	Open(digest string) (io.ReadCloser, error)

	// Path is the file of a blob, which must not be written to. The error is [ErrNoBlob], a [BlobError], or [ErrNoFile] where blobs are no files.
	Path(digest string) (path string, err error)

	// Collect removes the blobs for whose digest wanted is false, unless they were put less than [BlobAge] before. wanted must not use the blobs.
	Collect(wanted func(digest string) bool) (removed int, err error)
}

// BlobAge is the time for which a blob stays although no record names it.
const BlobAge = 10 * time.Minute

// ErrNoBlob says that there is no blob of a digest.
var ErrNoBlob = errors.New("the blob is not there")

// ErrNoFile says that an implementation keeps no files.
var ErrNoFile = errors.New("blobs in memory have no files")

// BlobError says that a blob is damaged.
type BlobError struct{ Digest, Problem string }

func (e *BlobError) Error() string { return "blob " + e.Digest + ": " + e.Problem }

// PutBlob is [Blobs.Put] for bytes.
func PutBlob(ctx context.Context, b Blobs, content []byte) (digest string, err error) {
	digest, _, err = b.Put(ctx, bytes.NewReader(content))
	return digest, err
}

// ReadBlob is all of a blob. Its error names the blob.
func ReadBlob(b Blobs, digest string) ([]byte, error) {
	r, err := b.Open(digest)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", digest, err)
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Digest is the key of the blob that has these bytes.
func Digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// IsDigest says whether a text has the form of a digest: 64 hexadecimal digits, in lower case.
func IsDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && hex.EncodeToString(b) == s
}

// MemoryBlobs keeps blobs in the memory of this process. Its zero value is not ready: see [NewMemoryBlobs].
type MemoryBlobs struct {
	mu    sync.Mutex
	blobs map[string]memoryBlob
}

type memoryBlob struct {
	content []byte // never changed
	put     time.Time
}

// NewMemoryBlobs makes an empty set of blobs.
func NewMemoryBlobs() *MemoryBlobs { return &MemoryBlobs{blobs: map[string]memoryBlob{}} }

// Put implements [Blobs].
func (m *MemoryBlobs) Put(ctx context.Context, content io.Reader) (digest string, size int64, err error) {
	b, err := io.ReadAll(WithContext(ctx, content))
	if err != nil {
		return "", 0, err
	}
	digest = Digest(b)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[digest] = memoryBlob{b, time.Now()}
	return digest, int64(len(b)), nil
}

// PutFile implements [Blobs].
func (m *MemoryBlobs) PutFile(ctx context.Context, path string, _ bool) (digest string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	return m.Put(ctx, f)
}

// Open implements [Blobs].
func (m *MemoryBlobs) Open(digest string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.blobs[digest]
	if !ok {
		return nil, ErrNoBlob
	}
	return io.NopCloser(bytes.NewReader(b.content)), nil
}

// Path implements [Blobs]: there are no files.
func (m *MemoryBlobs) Path(digest string) (string, error) {
	if _, err := m.Open(digest); err != nil {
		return "", err
	}
	return "", ErrNoFile
}

// Collect implements [Blobs].
func (m *MemoryBlobs) Collect(wanted func(digest string) bool) (removed int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for digest, b := range m.blobs {
		if time.Since(b.put) >= BlobAge && !wanted(digest) {
			delete(m.blobs, digest)
			removed++
		}
	}
	return removed, nil
}

// WithContext is a reader that ends with the error of ctx when ctx has ended.
func WithContext(ctx context.Context, r io.Reader) io.Reader { return contextReader{ctx, r} }

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
