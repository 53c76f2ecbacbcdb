package proxy

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/clients"
)

var ndjson = []string{"application/x-ndjson"} //nolint:gochecknoglobals // a constant

// streaming is the response to one request whose ingress streams.
type streaming struct {
	w       http.ResponseWriter
	r       *http.Request
	rc      *http.ResponseController
	cancel  context.CancelCauseFunc
	begun   bool       // the header was sent
	as      call.Codec // the kind of the body: Text, Raw, or JSON for lines of it
	head    *call.Answer
	memory  *clients.Memory
	failure *call.Error // of a head that is none
	broken  error       // the reason why writing has ended
	buf     []byte      // one line
}

// stream answers with the items of a stream as they come. A failure before the first item is answered as any failure
// is. After it the connection is cut off, so that no client takes a part for the whole.
func (p *Proxy) stream(w http.ResponseWriter, r *http.Request, route *Route, x *exchange) {
	c := &x.call
	ctx, cancel := context.WithCancelCause(x)
	s := &streaming{w: w, r: r, head: &x.head, rc: http.NewResponseController(w), cancel: cancel, memory: p.memory}
	returned := false
	defer func() {
		cancel(nil)
		switch {
		case returned:
		case s.begun: // the connection ends with the goroutine, and the body stays incomplete
			p.logFailure(r, slog.LevelError, "stream failed", c, goexit(c))
		default:
			p.answerExit(w, r, x)
		}
	}()
	e := route.Stream(ctx, c, s.item)
	if s.failure != nil { // which has stopped the stream
		e = s.failure
	}
	returned = true
	switch {
	case s.begun && r.Method == http.MethodHead:
	case e == nil && s.broken == nil:
		if !s.begun { // a stream without items has an empty body, whose type is not known
			status, own := s.head.Take()
			setHead(w.Header(), status, own)
			if status != 0 {
				w.WriteHeader(status)
			}
		}
	case !s.begun:
		p.fail(w, r, x, e)
	default:
		if e != nil && s.broken == nil {
			x.failure.Store(e)
			p.logFailure(r, slog.LevelError, "stream failed", c, e)
		}
		x.answer.untaken = s.broken != nil
		panic(http.ErrAbortHandler)
	}
}

var errUntaken = errors.New("the client does not take what is sent to it")

// item writes one item.
func (s *streaming) item(p call.Payload, more bool) bool {
	if p.Codec == call.Head {
		s.failure = decodeHead(s.head, p.Data)
		return s.failure == nil
	}
	if !s.begun {
		s.begin(p.Codec)
		if s.r.Method == http.MethodHead { // the client asks for the header only
			s.cancel(context.Canceled)
			return false
		}
	}
	body := s.body(p)
	if n := int64(len(body)); n > clients.Small { // slots and windows bound the number of items; only large ones need to be counted
		s.memory.Add(n)
		defer s.memory.Add(-n)
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

// begin sets the header, by the kind of the first item.
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
	status, own := s.head.Take()
	setHead(h, status, own)
	s.w.WriteHeader(cmp.Or(status, http.StatusOK))
}

// body is the form of an item in the body: unchanged, or a line of JSON. Only Python mixes kinds in one stream.
func (s *streaming) body(p call.Payload) []byte {
	if s.as != call.JSON {
		return p.Data
	}
	line := bytes.NewBuffer(s.buf[:0])
	switch p.Codec {
	case call.None:
		line.WriteString("null")
	case call.Text:
		line.Write(jsonText(nil, p.Data))
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
