package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"

	"github.com/helve-serve/helve/internal/pack"
)

// Durable says that applications outlive the node. It keeps their code: see [Node.Keep].
func (n *Node) Durable() bool { return n.set.durable() }

// Keep packs a directory or file of a program, without the files that all of leave match, into the blobs of the node, and gives its digest. notice is a warning for the user;
// "" for none.
func (n *Node) Keep(ctx context.Context, path string, leave []pack.Excludes) (kept pack.Packed, notice string, err error) {
	return packed(path, leave, func(r io.Reader) (digest string, err error) {
		digest, _, err = n.set.Blobs.Put(ctx, r)
		return digest, err
	})
}

// WouldKeep is the answer of [Node.Keep] for a plan, which keeps nothing: it may be asked again and again for code that is never deployed.
func (n *Node) WouldKeep(ctx context.Context, path string, leave []pack.Excludes) (kept pack.Packed, notice string, err error) {
	return packed(path, leave, func(r io.Reader) (string, error) {
		sum := sha256.New()
		_, err := io.Copy(sum, r)
		return hex.EncodeToString(sum.Sum(nil)), errors.Join(err, ctx.Err())
	})
}

// packed writes the packed file of a path to put, which gives its digest.
func packed(path string, leave []pack.Excludes, put func(io.Reader) (digest string, err error)) (kept pack.Packed, notice string, err error) {
	tree, err := pack.Scan(path, pack.Default(), leave...)
	if err != nil {
		return kept, "", err
	}
	kept.Path = path
	r, w := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		content, err := tree.Write(w)
		kept.Content = content
		w.CloseWithError(err) //nolint:errcheck // it gives none
	}()
	kept.Digest, err = put(r)
	r.CloseWithError(err) //nolint:errcheck // it gives none
	<-written
	return kept, tree.Notice(), err
}

// blob reads the packed files of a durable node; nil for another node.
func (s Settings) blob() func(digest string) (io.ReadCloser, error) {
	if !s.durable() {
		return nil
	}
	return s.Blobs.Open
}

func (s Settings) durable() bool { return s.Durable && s.Blobs != nil }
