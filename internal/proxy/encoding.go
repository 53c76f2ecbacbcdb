package proxy

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// decoder undoes a content encoding.
type decoder func(io.Reader) (io.Reader, error)

// codings are the content encodings that are accepted. An answer that refuses another has them in its header.
const codings = "gzip, deflate"

var errCoding = errors.New("content encoding")

// codingOf finds the decoder for the values of Content-Encoding; nil if there is no encoding.
func codingOf(header []string) (decoder, *call.Error) {
	var decode decoder
	for _, line := range header {
		for name := range strings.SplitSeq(line, ",") {
			var d decoder
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "", "identity":
				continue
			case "gzip", "x-gzip":
				d = gunzip
			case "deflate":
				d = inflate
			}
			if d == nil || decode != nil { // two encodings, one after the other, are refused: they serve only to make a small body large
				e := call.NewError(helvetype.ReasonUnsupportedMedia, fmt.Sprintf("Content-Encoding %q is not supported; send one of %s, or none", strings.Join(header, ", "), codings))
				e.Cause = errCoding
				return nil, e
			}
			decode = d
		}
	}
	return decode, nil
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

// capped is a reader that fails after too many bytes.
type capped struct {
	r    io.Reader
	left int64
}

var errCapped = errors.New("too many bytes")

func (c *capped) Read(b []byte) (int, error) {
	if c.left < 0 {
		return 0, errCapped
	}
	n, err := c.r.Read(b[:min(int64(len(b)), c.left+1)])
	if c.left -= int64(n); c.left < 0 {
		return n, errCapped
	}
	return n, err
}

// encodedBody is the error of a body that could not be read and decoded.
func encodedBody(r *http.Request, err error) *call.Error {
	switch {
	case errors.Is(err, errCapped):
		return call.NewError(helvetype.ReasonTooLarge, "the encoded body is larger than a decoded one may be")
	case errors.Is(err, os.ErrDeadlineExceeded), r.Context().Err() != nil, errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return brokenBody(r, err)
	}
	return call.NewError(helvetype.ReasonBadInput, "the body is not what its Content-Encoding says: "+err.Error())
}
