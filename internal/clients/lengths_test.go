package clients

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLengthScan: every header is counted once, however the bytes are cut into reads.
func TestLengthScan(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n":                         1,
		"POST / HTTP/1.1\nHost: x\ncOnTeNt-LeNgTh: 4\n\n":                                 1,
		"POST / HTTP/1.1\r\nHost: x\r\nX-Content-Length: 4\r\nContent-Lengt: 1\r\n\r\n":   0,
		"POST /Content-Length HTTP/1.1\r\nHost: Content-Length: 1\r\n\r\n":                0,
		"POST / HTTP/1.1\r\n\n\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n":           2,
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n": 1,
		"\nContent\ncontent-length\n\rcontent-length\ncontent\rlength":                    1,
	} {
		for step := 1; step <= len(text); step++ {
			for first := range step {
				var l lengthScan
				l.scan([]byte(text[:first]))
				for rest := text[first:]; rest != ""; {
					n := min(step, len(rest))
					l.scan([]byte(rest[:n]))
					rest = rest[n:]
				}
				if l.seen.Load() != want {
					t.Fatalf("%q in steps of %d after %d: %d", text, step, first, l.seen.Load())
				}
			}
		}
	}
}

// requests of the tests below.
const (
	get     = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	length  = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
	chunks  = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
	both    = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
	hidden  = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\ncontent-LENGTH:3\r\n\r\n0\r\n\r\n"
	trailed = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n"
)

// large is a request with a length whose end has a line like the header, and so has not ended when the next request comes.
var large = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 5000) + strings.Repeat("\ncontent-length: 1\n", 5000)

// plain is a request with a length and no such lines.
var plain = large[:len(large)-100000] + strings.Repeat("x", 100000)

// TestMixedBodies: a connection may have bodies with a length and in chunks, one after the other, and ends after a request that has both, also if
// requests come early.
func TestMixedBodies(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		requests []string
		early    bool // all are sent at once
		last     int  // the index of the request after which the connection ends; -1 for none
	}{
		"mixed":                          {[]string{get, length, chunks, length, chunks, get, chunks}, false, -1},
		"both":                           {[]string{get, both, get}, false, 1},
		"hidden after mixed ones":        {[]string{length, chunks, length, hidden, get}, false, 3},
		"early, only chunks":             {[]string{chunks, chunks, chunks}, true, -1},
		"early, only lengths":            {[]string{length, length, length}, true, -1},
		"early, the second has both":     {[]string{length, both, get}, true, 1},
		"early, the first has both":      {[]string{both, length, get}, true, 0},
		"early, a chunk before a length": {[]string{chunks, length, get}, true, 0}, // its header may be of either
		"both after a body like headers": {[]string{large, get, both, get}, false, 2},
		"both after a large body":        {[]string{plain, both, get}, false, 1},
		"chunks after a large body":      {[]string{plain, chunks, get}, false, -1},
		"a length in a trailer":          {[]string{trailed, both, get}, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				connect := serve(t, NewSet(10, time.Minute), func(w http.ResponseWriter, r *http.Request) {
					if Of(r).BeginRequest(r) {
						w.Header().Set("Connection", "close")
					}
					io.Copy(io.Discard, r.Body) //nolint:errcheck // the client tells
				})
				conn := connect()
				if got := answers(conn, test.requests, test.early); test.last >= 0 && got != test.last+1 || test.last < 0 && got != len(test.requests) {
					t.Errorf("%d answers", got)
				}
			})
		})
	}
}

// answers sends requests, and gives the number of answers before the connection has ended.
func answers(conn net.Conn, requests []string, early bool) (n int) {
	in := make(chan []byte)
	go func() {
		defer close(in)
		for {
			b := make([]byte, 4096)
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			in <- b[:n]
		}
	}()
	send := func(text string) { go io.WriteString(conn, text) } //nolint:errcheck // the answers tell
	if early {
		send(strings.Join(requests, ""))
	}
	var got []byte
	for i := range requests {
		if !early {
			send(requests[i])
		}
		for bytes.Count(got, []byte("\r\n\r\n")) <= i {
			b, ok := <-in
			if !ok {
				return bytes.Count(got, []byte("\r\n\r\n"))
			}
			got = append(got, b...)
		}
		synctest.Wait() // the end of the connection
	}
	return bytes.Count(got, []byte("\r\n\r\n"))
}
