// Package coding undoes the content encodings of HTTP bodies (gzip and deflate), within a limit of the decoded size. For example, a body with
// "Content-Encoding: gzip" is read through the [Decoder] that [Of] finds, from a reader of at most as many bytes as the decoded body may have.
package coding

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"strings"
)

// Decoder undoes a content encoding.
type Decoder func(io.Reader) (io.Reader, error)

// Names are the content encodings that are accepted. An answer that refuses another has them in its header.
const Names = "gzip, deflate"

// Of finds the decoder for the values of Content-Encoding; nil if there is no encoding. The result supported is false for an encoding that is not
// known, and for two of them, one after the other: they serve only to make a small body large.
func Of(header []string) (decode Decoder, supported bool) {
	for _, line := range header {
		for name := range strings.SplitSeq(line, ",") {
			var d Decoder
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "", "identity":
				continue
			case "gzip", "x-gzip":
				d = gunzip
			case "deflate":
				d = inflate
			}
			if d == nil || decode != nil {
				return nil, false
			}
			decode = d
		}
	}
	return decode, true
}

func gunzip(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }

// inflate reads the encoding deflate: a zlib stream, or the raw stream that some clients send under its name. A zlib
// stream begins with a byte whose low half is 8, and its first two bytes are a multiple of 31.
func inflate(r io.Reader) (io.Reader, error) {
	in := bufio.NewReader(r)
	head, err := in.Peek(2)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case err == nil && head[0]&0xf == 8 && (int(head[0])<<8|int(head[1]))%31 == 0:
		z, err := zlib.NewReader(in)
		return &exactBody{z, in}, err
	}
	return &exactBody{flate.NewReader(in), in}, nil
}

// exactBody is a decoder that fails if bytes follow the encoded stream.
type exactBody struct {
	io.Reader
	in *bufio.Reader
}

var errMore = errors.New("more follows it")

func (a *exactBody) Read(b []byte) (int, error) {
	n, err := a.Reader.Read(b)
	if errors.Is(err, io.EOF) {
		if _, more := a.in.ReadByte(); more == nil {
			return n, errMore
		}
	}
	return n, err
}

// Capped is r, and fails with [ErrCapped] after more than limit bytes.
func Capped(r io.Reader, limit int64) io.Reader { return &capped{r, limit} }

type capped struct {
	r    io.Reader
	left int64
}

// ErrCapped is the failure of a reader that had too many bytes.
var ErrCapped = errors.New("too many bytes")

func (c *capped) Read(b []byte) (int, error) {
	if c.left < 0 {
		return 0, ErrCapped
	}
	n, err := c.r.Read(b[:min(int64(len(b)), c.left+1)])
	if c.left -= int64(n); c.left < 0 {
		return n, ErrCapped
	}
	return n, err
}
