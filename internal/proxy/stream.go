package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/helve-serve/helve/internal/call"
)

var ndjson = []string{"application/x-ndjson"} //nolint:gochecknoglobals // a constant

// streaming is the response to one request whose ingress streams.
type streaming struct {
	w      http.ResponseWriter
	r      *http.Request
	rc     *http.ResponseController
	cancel context.CancelCauseFunc
	begun  bool       // the header is out
	as     call.Codec // of the body: Text, Raw, or JSON for lines of it
	memory *memory
	broken error  // why nothing more can be written
	buf    []byte // one line
}

// stream answers with the items of a stream as they come. A failure before the first is answered as any is; after it the
// connection is cut off, so that nobody takes what came for all there is.
func (p *Proxy) stream(w http.ResponseWriter, r *http.Request, route *Route, c *call.Call) {
	ctx, cancel := context.WithCancelCause(r.Context())
	s := &streaming{w: w, r: r, rc: http.NewResponseController(w), cancel: cancel, memory: &p.memory}
	returned := false
	defer func() {
		cancel(nil)
		switch {
		case returned:
		case s.begun: // the connection ends with the goroutine, and not the body
			p.logFailure(r, "stream failed", c, call.NewError(call.User, "the method ended its goroutine with runtime.Goexit").At(&c.Info))
		default:
			p.exited(w, r, c)
		}
	}()
	e := route.Stream(ctx, c, s.item)
	returned = true
	switch {
	case s.begun && r.Method == http.MethodHead:
	case e == nil && s.broken == nil:
		// Without an item it is an empty body, of which the type is not known.
	case !s.begun:
		p.fail(w, r, c, e)
	default:
		if e != nil && s.broken == nil {
			p.logFailure(r, "stream failed", c, e)
		}
		panic(http.ErrAbortHandler)
	}
}

var errUntaken = errors.New("the client does not take what is sent to it")

// item writes one item.
func (s *streaming) item(p call.Payload, more bool) bool {
	if !s.begun {
		s.begin(p.Codec)
		if s.r.Method == http.MethodHead { // all that it asks for is known
			s.cancel(context.Canceled)
			return false
		}
	}
	body := s.body(p)
	if n := int64(len(body)); n > small { // items are bounded by slots and windows; others must know of large ones
		s.memory.used.Add(n)
		defer s.memory.used.Add(-n)
	}
	_, err := s.w.Write(body)
	if err == nil && !more {
		err = s.rc.Flush()
	}
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		s.broken = err
		s.cancel(errUntaken)
		return false
	}
	return true
}

// begin sets the header by the first item.
func (s *streaming) begin(first call.Codec) {
	s.begun = true
	h := s.w.Header()
	switch {
	case first == call.Text && !onlyJSON(s.r):
		s.as, h["Content-Type"] = call.Text, textPlain
	case first == call.Raw:
		s.as, h["Content-Type"] = call.Raw, octetStream
	default:
		s.as, h["Content-Type"] = call.JSON, ndjson
	}
	s.w.WriteHeader(http.StatusOK)
}

// body is an item as the body has it: as it is, or a line of JSON. Only Python mixes kinds in one stream.
func (s *streaming) body(p call.Payload) []byte {
	if s.as != call.JSON {
		return p.Data
	}
	line := bytes.NewBuffer(s.buf[:0])
	switch p.Codec {
	case call.None:
		line.WriteString("null")
	case call.Text:
		b, _ := json.Marshal(string(p.Data))
		line.Write(b)
	case call.Raw:
		b, _ := json.Marshal(p.Data)
		line.Write(b)
	default:
		if bytes.IndexByte(p.Data, '\n') < 0 || json.Compact(line, p.Data) != nil {
			line.Reset()
			line.Write(p.Data)
		}
	}
	line.WriteByte('\n')
	s.buf = line.Bytes()
	return s.buf
}
