package http_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/helve-serve/helve"
)

// subject is the code of the cases. A host of another language answers the same paths. Cases and subject meet at events, because
// they may be in two processes: a request for /await/NAME is answered when the event has happened, and /happen/NAME makes it happen.
type subject struct {
	mux http.ServeMux

	mu     sync.Mutex
	events map[string]*event
	wrote  atomic.Int64 // bytes that /down has written
}

type event struct {
	done chan struct{}
	text string
}

func (s *subject) event(name string) *event {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.events[name]
	if e == nil {
		e = &event{done: make(chan struct{})}
		s.events[name] = e
	}
	return e
}

// happen makes an event happen, once, with a text.
func (s *subject) happen(name, text string) {
	e := s.event(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-e.done:
	default:
		e.text = text
		close(e.done)
	}
}

func (s *subject) await(ctx context.Context, name string) bool {
	select {
	case <-s.event(name).done:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *subject) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == "BREW" {
		fmt.Fprintf(w, "%s %s", r.Method, r.URL.Path)
		return
	}
	s.mux.ServeHTTP(w, r)
}

func newSubject() *subject {
	s := &subject{events: map[string]*event{}}
	s.mux.HandleFunc("/await/{name}", func(w http.ResponseWriter, r *http.Request) {
		if s.await(r.Context(), r.PathValue("name")) {
			io.WriteString(w, s.event(r.PathValue("name")).text)
		}
	})
	s.mux.HandleFunc("/happen/{name}", func(_ http.ResponseWriter, r *http.Request) { s.happen(r.PathValue("name"), "") })
	s.answers()
	s.bodies()
	s.ends()
	s.sockets()
	return s
}

// flush sends the part of the answer that was written.
func flush(w http.ResponseWriter) { http.NewResponseController(w).Flush() }

// answers are the paths of short answers.
func (s *subject) answers() {
	s.mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		w.Header().Set("Content-Encoding", r.Header.Get("Content-Encoding"))
		body, err := io.ReadAll(r.Body) // before the first write, after which a server of HTTP/1 gives no more of the body
		if err != nil {
			panic(err)
		}
		w.Write(body)
	})
	s.mux.HandleFunc("/request/", func(w http.ResponseWriter, r *http.Request) { // the request as it has arrived
		var fields []string
		for name, values := range r.Header {
			if strings.HasPrefix(name, "X-") {
				fields = append(fields, name+"="+strings.Join(values, "|"))
			}
		}
		slices.Sort(fields)
		fmt.Fprintf(w, "%s %s %s %s?%s %s %d %s %v", r.Method, r.Proto, r.URL.Path, r.URL.EscapedPath(), r.URL.RawQuery, r.Host, r.ContentLength,
			r.RequestURI, fields)
	})
	s.mux.HandleFunc("/flush", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "one")
		flush(w)
		s.await(r.Context(), r.FormValue("event"))
		io.WriteString(w, "two")
	})
	s.mux.HandleFunc("/trailers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "body")
		w.Header().Set("X-Sum", "7")
		w.Header().Set(http.TrailerPrefix+"X-Late", "8")
	})
	s.mux.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		io.WriteString(w, "body")
	})
	s.mux.HandleFunc("/status/{status}", func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.PathValue("status"))
		w.WriteHeader(status)
		if status != 204 && status != 304 {
			fmt.Fprintf(w, "status %d", status)
		} else if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrBodyNotAllowed) {
			s.happen("body of "+r.PathValue("status"), fmt.Sprint(err))
		}
	})
	s.mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		n, _ := strconv.Atoi(r.FormValue("bytes"))
		for i := range n / 1000 {
			w.Header().Set(fmt.Sprintf("X-Large-%d", i), strings.Repeat("x", 1000))
		}
		io.WriteString(w, "body")
	})
	s.mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/target", http.StatusFound) })
	s.mux.HandleFunc("/guess", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html><body>") })
	s.mux.HandleFunc("/short", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "short")
	})
	s.mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "3")
		_, err := io.WriteString(w, "long")
		s.happen("long", fmt.Sprint(err))
		io.WriteString(w, "a")
	})
}

// bodies are the paths with large bodies, and with bodies in both directions.
func (s *subject) bodies() {
	s.mux.HandleFunc("/ignore", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "too large for me", http.StatusRequestEntityTooLarge)
	})
	s.mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %v %v", n, err, r.Trailer)
	})
	s.mux.HandleFunc("/duplex", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		flush(w)
		buf := make([]byte, 1000)
		for {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			flush(w)
			if err != nil {
				return
			}
		}
	})
	s.mux.HandleFunc("/up", func(w http.ResponseWriter, r *http.Request) {
		peak, n := heapPeak(), int64(0)
		buf := make([]byte, 64<<10)
		for {
			m, err := r.Body.Read(buf)
			n += int64(m)
			peak.look(n)
			if err != nil {
				fmt.Fprintf(w, "%d %v %d", n, err, peak.growth())
				return
			}
		}
	})
	s.mux.HandleFunc("/down", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseInt(r.FormValue("bytes"), 10, 64)
		w.Header().Set("Trailer", "X-Growth")
		peak := heapPeak()
		buf := make([]byte, 64<<10)
		for done := int64(0); done < n; done += int64(len(buf)) {
			if _, err := w.Write(buf); err != nil {
				s.happen("down ended", "")
				return
			}
			s.wrote.Store(done)
			peak.look(done)
		}
		w.Header().Set("X-Growth", strconv.FormatInt(peak.growth(), 10))
	})
	s.mux.HandleFunc("/wrote", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, s.wrote.Load()) })
}

// heap watches the heap of the process while bytes pass.
type heap struct{ before, most, next int64 }

func heapPeak() *heap {
	h := &heap{}
	h.before = h.now()
	return h
}

func (*heap) now() int64 {
	runtime.GC() // a worker lets garbage lie, up to a floor
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func (h *heap) look(passed int64) {
	if passed >= h.next {
		h.next = passed + 16<<20
		h.most = max(h.most, h.now())
	}
}

func (h *heap) growth() int64 { return h.most - h.before }

// ends are the paths whose requests do not end well.
func (s *subject) ends() {
	s.mux.HandleFunc("/hold", func(w http.ResponseWriter, r *http.Request) { // until the client leaves, or the event
		s.happen("held "+r.FormValue("event"), "")
		if !s.await(r.Context(), r.FormValue("event")) {
			s.happen("left "+r.FormValue("event"), "")
		}
	})
	s.mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 5)
		io.ReadFull(r.Body, buf)
		s.happen("read", string(buf))
		_, err := io.Copy(io.Discard, r.Body)
		s.happen("read ended", strconv.FormatBool(err != nil))
	})
	s.mux.HandleFunc("/panic", func(w http.ResponseWriter, r *http.Request) { panic("a secret") })
	s.mux.HandleFunc("/late-panic", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun")
		flush(w)
		panic("a secret")
	})
	s.mux.HandleFunc("/abort", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun")
		flush(w)
		panic(http.ErrAbortHandler)
	})
	s.mux.HandleFunc("/goexit", func(w http.ResponseWriter, r *http.Request) { runtime.Goexit() })
	s.mux.HandleFunc("/late/{how}", func(w http.ResponseWriter, r *http.Request) { // returns at the end of its time, or when its client leaves
		how := r.PathValue("how")
		if how != "silent" {
			io.WriteString(w, "begun")
		}
		if how == "flushed" {
			flush(w)
		}
		s.happen("waits "+r.FormValue("event"), "")
		<-r.Context().Done()
		_, limited := r.Context().Deadline()
		s.happen("end "+r.FormValue("event"), fmt.Sprint(helve.HTTPStatus(r.Context().Err()), limited))
	})
	s.mux.HandleFunc("/die", func(w http.ResponseWriter, r *http.Request) {
		if n, _ := strconv.Atoi(r.FormValue("after")); n > 0 {
			w.Write(make([]byte, n))
			flush(w)
			s.await(r.Context(), "die")
		}
		p, _ := os.FindProcess(os.Getpid())
		p.Kill()
		<-r.Context().Done()
	})
	s.mux.HandleFunc("/deadline", func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.SetReadDeadline(time.Unix(1, 0))
		_, err := r.Body.Read(make([]byte, 1))
		rc.SetReadDeadline(time.Time{})
		fmt.Fprint(w, errors.Is(err, os.ErrDeadlineExceeded))
	})
}

// sockets are the paths that take the connection over, and WebSockets.
func (s *subject) sockets() {
	s.mux.HandleFunc("/hijack", func(w http.ResponseWriter, r *http.Request) {
		written := r.FormValue("head") != ""
		if written { // by the server, as some packages for WebSockets do
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "lines")
			w.WriteHeader(http.StatusSwitchingProtocols)
		}
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		talk := func() {
			defer conn.Close()
			if !written {
				io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n")
				rw.Flush()
			}
			for {
				line, err := rw.ReadString('\n')
				if err != nil {
					fmt.Fprintf(rw, "end: %v\n", err)
					rw.Flush()
					return
				}
				io.WriteString(rw, strings.ToUpper(line))
				rw.Flush()
			}
		}
		if r.FormValue("after") == "" {
			talk()
			return
		}
		go talk() // a connection outlives its handler
	})
	s.mux.HandleFunc("/ws/echo", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"b", "a"}})
		if err != nil {
			return
		}
		c.SetReadLimit(1 << 20)
		defer c.CloseNow()
		for {
			kind, data, err := c.Read(r.Context())
			if err != nil {
				s.happen("closed", fmt.Sprint(int(websocket.CloseStatus(err))))
				return
			}
			if c.Write(r.Context(), kind, data) != nil {
				return
			}
		}
	})
	s.mux.HandleFunc("/ws/close", func(w http.ResponseWriter, r *http.Request) {
		if c, err := websocket.Accept(w, r, nil); err == nil {
			c.Close(4001, "enough")
		}
	})
}
