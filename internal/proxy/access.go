package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// accessLog writes a line per request when its answer is complete, for example
//
//	2026-05-04T10:15:02.031Z 127.0.0.1:51234 POST / 200 1.3ms 5f0c4f0e-8f6a-4d1e-9f0b-2f6f8a1f7c55
//
// with the time, client, method, route, status, duration and request id. The route is the prefix of the application, and "-" where no application
// has the path: the path itself is the client's text. Status 0 is an answer that never began, 101 a connection that the handler took over.
type accessLog struct {
	mu sync.Mutex
	to io.Writer
}

// serve answers the request by h, and writes its line, also if h panics to cut the answer off.
func (l *accessLog) serve(p *Proxy, w http.ResponseWriter, r *http.Request, h http.HandlerFunc) {
	begun := time.Now()
	a := &accessed{ResponseWriter: w}
	w = a
	if _, ok := a.ResponseWriter.(http.Hijacker); ok {
		w = accessedHijacker{a}
	}
	method, route := r.Method, "-"
	if found := p.find(r.URL.Path); found != nil {
		route = found.Prefix
	}
	defer func() {
		id := "-"
		if ids := a.Header()["X-Request-Id"]; len(ids) == 1 {
			id = ids[0]
		}
		took := float64(time.Since(begun).Microseconds()) / 1000
		l.mu.Lock()
		defer l.mu.Unlock()
		fmt.Fprintf(l.to, "%s %s %s %s %d %.1fms %s\n", begun.UTC().Format("2006-01-02T15:04:05.000Z"), r.RemoteAddr, method, route, a.status, took, id) //nolint:errcheck // a log that cannot be written is not the client's trouble
	}()
	h(w, r)
	if a.status == 0 {
		a.status = http.StatusOK // the server's answer when the handler has written nothing
	}
}

// accessed notes the status of an answer.
type accessed struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (a *accessed) WriteHeader(status int) {
	if a.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *accessed) Write(b []byte) (int, error) {
	a.begin()
	return a.ResponseWriter.Write(b)
}

// ReadFrom implements io.ReaderFrom, by which files are sent without being read.
func (a *accessed) ReadFrom(r io.Reader) (int64, error) {
	a.begin()
	return io.Copy(a.ResponseWriter, r)
}

// FlushError is for http.ResponseController.
func (a *accessed) FlushError() error {
	a.begin()
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (a *accessed) Flush() { a.FlushError() } //nolint:errcheck // http.Flusher has no error

func (a *accessed) begin() {
	if a.status == 0 {
		a.status = http.StatusOK
	}
}

// Unwrap is for http.ResponseController.
func (a *accessed) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// accessedHijacker is accessed for a connection that handlers can take over.
type accessedHijacker struct{ *accessed }

// Hijack implements http.Hijacker.
func (a accessedHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err == nil && a.status == 0 {
		a.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}
