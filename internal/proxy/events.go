package proxy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/clients"
	"github.com/helve-serve/helve/internal/sse"
)

// heartbeat is the time without an item after which a comment is sent. Proxies on the way cut connections on which nothing moves, often
// after a minute.
const heartbeat = 15 * time.Second

// queryInput is the query parameter that has the input of a GET request for server-sent events. An EventSource of a browser sends neither a
// body nor another method.
const queryInput = "input"

// inputOfQuery makes the argument from the query parameter [queryInput], by the rules of a body without a content type. For example,
// ?input=world is the string world, and ?input={"n":3} (percent-encoded) is JSON. One field of a JSON object per parameter was considered:
// in ?n=3 nothing says whether n is a number or a text.
func inputOfQuery(in InKind, r *http.Request) (call.Slot, *call.Error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return call.Slot{}, call.NewError(helvetype.ReasonBadInput, "the query cannot be read: "+err.Error())
	}
	if len(query[queryInput]) != 1 {
		return call.Slot{}, call.NewError(helvetype.ReasonBadInput, "a GET request for events needs the query parameter "+queryInput+" once; it has what a POST request has in its body")
	}
	slot, e := argument(in, mediaNone, []byte(query[queryInput][0]))
	if e != nil {
		e.Message = strings.Replace(e.Message, "the body", "the query parameter "+queryInput, 1)
	}
	return slot, e
}

// eventStream is the response to a request for server-sent events: each item of a stream is an event. Heartbeats are written on the
// goroutine of a timer, so a mutex guards the writer.
//
// The first item or heartbeat begins the answer. So a failure that comes at once is answered with its status, as any failure is; one that
// comes later is the last event, "error". An "end" is the last event of a complete stream: an EventSource makes the request again after
// every end of a connection, so its page has to know when to close it.
type eventStream struct {
	w      http.ResponseWriter
	r      *http.Request
	rc     *http.ResponseController
	cancel context.CancelCauseFunc
	head   *call.Answer
	memory *clients.Memory

	mu       sync.Mutex
	timer    *time.Timer
	wrote    int64       // when something was written last, by call.Now
	begun    bool        // the header was sent
	bodyless bool        // the answer has a status without a body
	over     bool        // no heartbeat may be written any more
	broken   error       // the reason why writing has ended
	failure  *call.Error // of an item that cannot be sent
	buf      []byte
}

// events answers with the items of a stream as server-sent events.
func (p *Proxy) events(w http.ResponseWriter, r *http.Request, route *Route, x *exchange) {
	c := &x.call
	ctx, cancel := context.WithCancelCause(x)
	s := &eventStream{w: w, r: r, head: &x.head, rc: http.NewResponseController(w), cancel: cancel, memory: p.memory, wrote: call.Now()}
	s.mu.Lock() // the timer may fire before it is assigned
	s.timer = time.AfterFunc(heartbeat, s.beat)
	s.mu.Unlock()
	returned := false
	defer func() {
		cancel(nil)
		if !returned { // the connection ends with the goroutine
			s.end()
			p.endEvents(s, x, goexit(c))
			s.rc.Flush() //nolint:errcheck // the client may be gone
		}
	}()
	e := route.Stream(ctx, c, s.item)
	s.end()
	returned = true
	if s.failure != nil { // which has stopped the stream
		e = s.failure
	}
	p.endEvents(s, x, e)
}

// endEvents writes the end of a stream, whose failure is e.
func (p *Proxy) endEvents(s *eventStream, x *exchange, e *call.Error) {
	c := &x.call
	switch {
	case s.begun && s.r.Method == http.MethodHead:
	case s.broken != nil || s.begun && errors.Is(s.r.Context().Err(), context.Canceled): // the client has gone
		x.answer.untaken = s.broken != nil
		panic(http.ErrAbortHandler)
	case e != nil && !s.begun:
		p.fail(s.w, s.r, x, e)
	case e != nil:
		x.failure.Store(e)
		e = clientError(c, e)
		p.logFailure(s.r, slog.LevelError, "stream failed", c, e)
		x.answer.failed = true
		b, _ := json.Marshal(errorBodyOf(s.r, x, e))
		s.write(append(sse.AppendData([]byte("event: error\n"), b), '\n'))
	default:
		if !s.begun {
			s.begin()
		}
		if s.r.Method != http.MethodHead && !s.bodyless {
			s.write([]byte("event: end\ndata:\n\n"))
		}
	}
}

// item writes one item.
func (s *eventStream) item(p call.Payload, more bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return false
	}
	if p.Codec == call.Head {
		s.failure = decodeHead(s.head, p.Data)
		return s.failure == nil
	}
	if !s.begun {
		s.begin()
		if s.r.Method == http.MethodHead { // the client asks for the header only
			s.cancel(context.Canceled)
			return false
		}
	}
	b, err := sse.Append(s.buf[:0], p)
	if err != nil {
		s.failure = call.NewError(helvetype.ReasonInternal, "an event cannot be sent: "+err.Error())
		return false
	}
	s.buf = b
	if n := int64(len(b)); n > clients.Small { // as in streaming.item
		s.memory.Add(n)
		defer s.memory.Add(-n)
		s.buf = nil
	}
	s.write(b)
	if s.broken == nil && !more {
		s.flush()
	}
	return s.broken == nil
}

// beat sends a comment if nothing was sent for a while.
func (s *eventStream) beat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.broken != nil {
		return
	}
	if idle := time.Duration(call.Now() - s.wrote); idle < heartbeat {
		s.timer.Reset(heartbeat - idle)
		return
	}
	if !s.begun {
		s.begin()
		if s.r.Method == http.MethodHead {
			s.cancel(context.Canceled)
			return
		}
	}
	s.write([]byte(":\n\n"))
	s.flush()
	s.timer.Reset(heartbeat)
}

// end waits for a heartbeat that is being written, and forbids the next: the server takes the writer back.
func (s *eventStream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.timer.Stop()
}

// begin sends the header. mu is held, or the stream is over.
func (s *eventStream) begin() {
	s.begun = true
	h := s.w.Header()
	h["Cache-Control"], h["X-Accel-Buffering"] = sse.NoCache, sse.NoBuffering
	status, own := s.head.Take()
	s.bodyless = !setHead(h, status, own)
	h["Content-Type"] = sse.ContentType
	s.w.WriteHeader(cmp.Or(status, http.StatusOK))
}

// write writes b. mu is held, or the stream is over.
func (s *eventStream) write(b []byte) {
	s.wrote = call.Now()
	if _, err := s.w.Write(b); err != nil {
		s.fail(err)
	}
}

func (s *eventStream) flush() {
	if err := s.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		s.fail(err)
	}
}

func (s *eventStream) fail(err error) {
	s.broken = err
	s.cancel(errUntaken)
}
