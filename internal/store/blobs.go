package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
)

// Blobs keeps values that are too large for a record, in the memory of this process. A record names its blob by the digest. For example,
// the user configs of revision 3 of application "hello" have 2 MB: the record revisions/hello/0000000003 has the digest of its graph, and
// the graph is the blob of that key. The zero Blobs is not ready: see [NewBlobs].
type Blobs struct {
	mu   sync.Mutex
	blob map[string][]byte // by the key of the record
}

// NewBlobs makes an empty set of blobs.
func NewBlobs() *Blobs { return &Blobs{blob: map[string][]byte{}} }

// Put keeps a blob for the record of a key, and gives the blob's digest: SHA-256 in hex.
func (b *Blobs) Put(key string, blob []byte) (digest string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.blob[key] = bytes.Clone(blob)
	return digestOf(blob)
}

// Get gives the blob of the record of a key. A blob that is not there, or that has another digest, is an error.
func (b *Blobs) Get(key, digest string) ([]byte, error) {
	b.mu.Lock()
	blob, ok := b.blob[key]
	b.mu.Unlock()
	switch {
	case !ok:
		return nil, fmt.Errorf("the blob of record %s is not there", key)
	case digestOf(blob) != digest:
		return nil, fmt.Errorf("the blob of record %s has another digest", key)
	}
	return bytes.Clone(blob), nil
}

// Delete drops the blob of the record of a key, if there is one.
func (b *Blobs) Delete(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.blob, key)
}

func digestOf(blob []byte) string {
	sum := sha256.Sum256(blob)
	return hex.EncodeToString(sum[:])
}
