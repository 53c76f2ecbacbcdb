// Package client has the clients of the HTTP benchmarks. They do as little work per request as can be, so that a row measures the server: for
// example, [Load] writes the same bytes again and again on 64 connections, and reads of each answer the first line and the length.
package client

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Request is a request in the form in which it is sent, without the last Size bytes of its body, which are zeros.
type Request struct {
	Text string
	Size int
}

// Post is a POST with a body of 5 bytes.
func Post(path string) Request {
	return Request{Text: "POST " + path + " HTTP/1.1\r\nHost: bench\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nworld"}
}

// Upload is a POST with a body of zeros.
func Upload(path string, size int) Request {
	return Request{fmt.Sprintf("POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", path, size), size}
}

// Get is a GET.
func Get(path string) Request {
	return Request{Text: "GET " + path + " HTTP/1.1\r\nHost: bench\r\n\r\n"}
}

// Bytes is the whole request.
func (r Request) Bytes() []byte { return append([]byte(r.Text), make([]byte, r.Size)...) }

// Load sends a request on keep-alive connections for a time, one at a time on each, and gives the time of each. Another status than the wanted
// one, such as "200", is an error.
func Load(addr string, conns int, length time.Duration, request []byte, status string) (all []time.Duration, failed error) {
	status = "HTTP/1.1 " + status
	var mu sync.Mutex
	var wg sync.WaitGroup
	end := time.Now().Add(length)
	for range conns {
		wg.Go(func() {
			mine, err := one(addr, end, request, status)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
			if failed == nil {
				failed = err
			}
		})
	}
	wg.Wait()
	return all, failed
}

// one is one connection of Load.
func one(addr string, end time.Time, request []byte, status string) (all []time.Duration, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(end.Add(10 * time.Second)) // a server that hangs is an error
	r := bufio.NewReaderSize(c, 64<<10)
	for time.Now().Before(end) {
		t := time.Now()
		if _, err = c.Write(request); err != nil {
			return all, err
		}
		if err = readResponse(r, status); err != nil {
			return all, err
		}
		all = append(all, time.Since(t))
	}
	return all, nil
}

// readResponse reads a response whose first line begins with status. Its body has a Content-Length or comes in chunks.
func readResponse(r *bufio.Reader, status string) error {
	n, chunked := -1, false
	for i := 0; ; i++ {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		switch {
		case i == 0:
			if string(line[:min(len(line), len(status))]) != status {
				return fmt.Errorf("answer %q", line)
			}
		case len(line) == 2:
			if chunked {
				return readChunks(r)
			}
			if n < 0 {
				return errors.New("no Content-Length")
			}
			_, err := r.Discard(n)
			return err
		case len(line) > 16 && bytes.EqualFold(line[:16], []byte("Content-Length: ")):
			if n, err = strconv.Atoi(string(bytes.TrimSpace(line[16:]))); err != nil {
				return err
			}
		case bytes.EqualFold(bytes.TrimSpace(line), []byte("Transfer-Encoding: chunked")):
			chunked = true
		}
	}
}

// readChunks reads a body in chunks to its end. Trailers are an error: the servers of the benchmarks send none.
func readChunks(r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
		if err != nil {
			return fmt.Errorf("size of a chunk: %w", err)
		}
		end := make([]byte, 2)
		if _, err := r.Discard(int(size)); err != nil {
			return err
		}
		if _, err := io.ReadFull(r, end); err != nil {
			return err
		}
		if string(end) != "\r\n" {
			return fmt.Errorf("a chunk ends with %q", end)
		}
		if size == 0 {
			return nil
		}
	}
}

// Streams asks for a stream on each of many connections at the same time, and reads them to their ends. It gives the times to the first item,
// and the time of all.
func Streams(addr string, conns int, request []byte, items int) (first []time.Duration, took time.Duration, err error) {
	all := make([]net.Conn, conns)
	for i := range all {
		if all[i], err = net.Dial("tcp", addr); err != nil {
			return nil, 0, err
		}
		defer all[i].Close()
		all[i].SetDeadline(time.Now().Add(time.Minute)) // a server that hangs is an error
	}
	first, errs := make([]time.Duration, conns), make([]error, conns)
	var wg sync.WaitGroup
	start := time.Now()
	for i, c := range all {
		wg.Go(func() { first[i], errs[i] = readStream(c, request, items, start) })
	}
	wg.Wait()
	return first, time.Since(start), errors.Join(errs...)
}

// readStream asks for a stream and reads it to its end.
func readStream(c net.Conn, request []byte, items int, start time.Time) (first time.Duration, err error) {
	if _, err := c.Write(request); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	buf, have := make([]byte, 16<<10), 0
	for {
		n, err := resp.Body.Read(buf)
		if have == 0 && n > 0 {
			first = time.Since(start)
		}
		have += bytes.Count(buf[:n], []byte("\n"))
		if err == io.EOF {
			if have != items {
				return first, fmt.Errorf("%d items, %d were asked for", have, items)
			}
			return first, nil
		}
		if err != nil {
			return first, err
		}
	}
}

// Hold opens connections one after the other, each with a request to which the server answers in part: as far as the bytes until. The function
// end closes them.
func Hold(addr string, conns int, request, until []byte) (end func(), err error) {
	var all []net.Conn
	end = func() {
		for _, c := range all {
			c.Close()
		}
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	buf := make([]byte, 4<<10)
	for range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
		c.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Write(request); err != nil {
			return nil, err
		}
		for n := 0; !bytes.Contains(buf[:n], until); {
			m, err := c.Read(buf[n:])
			if n += m; err != nil {
				return nil, fmt.Errorf("%w after %q", err, buf[:n])
			}
		}
	}
	return end, nil
}
