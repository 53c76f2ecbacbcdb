package exchange

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/wire"
)

// server is the worker's end of one exchange: it runs an http.Handler without a server of HTTP. The handler gets a Request that is made of
// the head, and a ResponseWriter that sends parts.
type server struct {
	inbox    // of the parts of the request
	in       *wire.Incoming
	instance *instance.Instance
	handler  http.Handler
	ctx      *call.Context
	source   call.Source // asks for parts
	asked    bool        // parts were asked for; of the goroutine that reads
	context  call.Context
	writer   writer
}

// Serve starts to serve an exchange with i, on a goroutine of its own, and completes in when the handler has returned. The result cancels it;
// nil if it has ended already. The arguments of in are used after Serve returns ([wire.Incoming.Keep]).
func Serve(b *call.Batch, in *wire.Incoming, i *instance.Instance) call.Canceler {
	handler, ok := i.Value.(http.Handler)
	if !ok || in.Exchange.Kind != Request {
		in.Complete(b, call.Result{Err: call.NewError(helvetype.ReasonNoMethod, "replica "+i.ID+" is no http.Handler")})
		return nil
	}
	s := &server{in: in, instance: i, handler: handler}
	s.inbox.init()
	s.source = in.Parts(s)
	w := &s.writer
	w.s, w.length = s, -1
	s.context.Init(&w.values, &in.Info, in.Deadline)
	s.ctx = &s.context
	var err error
	if w.req, err = w.request(); err != nil {
		s.ctx.End()
		in.Complete(b, call.Result{Err: call.NewError(helvetype.ReasonBadInput, err.Error())})
		return nil
	}
	go s.run(w)
	return s
}

// Cancel implements call.Canceler.
func (s *server) Cancel(_ *call.Batch, cause error) { s.ctx.Cancel(cause) }

// growStack gives a new goroutine a stack on which handlers of HTTP have room, while nothing is on it yet. The runtime would double it three times
// otherwise, and copy the frames of the handler each time: that was a sixth of the processor time of a worker with short requests.
//
//go:noinline
func growStack(i uint8) byte {
	var room [6 << 10]byte
	return room[i]
}

// run runs the handler, and ends the exchange.
func (s *server) run(w *writer) {
	growStack(0)
	x := instance.Execution{Of: s.instance, Call: &s.in.Info}
	defer func() {
		w.returned()
		var r call.Result
		switch {
		case x.Failure == nil:
			r.Err = w.finish()
		case isAbort(x.Panic):
			s.in.Part(s.ctx, call.Codec(Broken), AppendBroken(nil, 0, ""), true) //nolint:errcheck // the node is gone then
		default:
			r.Err = x.Failure
		}
		s.ctx.End()
		s.in.Complete(nil, r)
	}()
	x.Run(func() error {
		s.handler.ServeHTTP(w, w.req)
		return nil
	})
}

func isAbort(v any) bool {
	err, ok := v.(error)
	return ok && call.Is(err, http.ErrAbortHandler)
}

// values are the values of a request's context, as the servers of net/http have them.
type values struct {
	context.Context
	host, port string // of the address at which the proxy has taken the request
}

// Value implements context.Context.
func (v *values) Value(key any) any {
	if key == http.LocalAddrContextKey {
		return v.local()
	}
	return v.Context.Value(key)
}

func (v *values) local() address { return addressFrom(v.host, v.port) }

// address is an address of a client or of the proxy, as a net.Addr.
type address string

// Network implements net.Addr.
func (address) Network() string { return "tcp" }

// String implements net.Addr.
func (a address) String() string { return string(a) }

func addressFrom(host, port string) address {
	if host == "" && port == "" {
		return ""
	}
	return address(net.JoinHostPort(host, port))
}

// request makes the request of the arguments of the call.
func (w *writer) request() (*http.Request, error) {
	slots := wire.Slots(w.s.in.Encoded)
	if len(slots) == 0 || len(slots) > 2 {
		return nil, errHead
	}
	h, err := ParseRequestHead(slots[0].Data)
	if err != nil {
		return nil, err
	}
	w.values = values{context.Background(), h.ServerHost, h.ServerPort}
	r := (&http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(w.s.ctx) // the only way to set a context
	r.Method, r.RemoteAddr = h.Method, string(addressFrom(h.ClientHost, h.ClientPort))
	switch h.Version {
	case "2":
		r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	case "1.0":
		r.Proto, r.ProtoMinor = "HTTP/1.0", 0
	}
	if r.URL, err = targetOf(&h); err != nil {
		return nil, err
	}
	r.RequestURI = escapedRoot(h.Root) + h.RawPath
	if h.Query != "" {
		r.RequestURI += "?" + h.Query
	}
	if h.Scheme == "https" {
		r.TLS = &tls.ConnectionState{HandshakeComplete: true} // the proxy has spoken TLS: the rest of the state stays there
	}
	w.place(h.Root)
	r.Header = make(http.Header, len(h.Fields)/2)
	setRequestFields(r, h.Fields)
	more := w.s.in.Exchange.More
	switch {
	case len(slots) == 2 || more:
		w.body = body{w: w, more: more}
		if len(slots) == 2 {
			w.body.first = slots[1].Data
		}
		r.Body = &w.body
		r.ContentLength = -1
		if v, err := strconv.ParseInt(r.Header.Get("Content-Length"), 10, 64); err == nil {
			r.ContentLength = v
		} else if !more {
			r.ContentLength = int64(len(w.body.first))
		}
	default:
		r.Body = http.NoBody
	}
	return r, nil
}

// place notes the prefix of the application, which a route of the connection does not have.
func (w *writer) place(root string) {
	i := &w.s.in.Info
	if root == "" {
		root = "/"
	}
	if i.Place != nil && i.Place.Prefix != root {
		p := *i.Place
		p.Prefix = root
		i.Place = &p
	}
}

// targetOf is the URL of a request, as net/http makes it.
func targetOf(h *RequestHead) (*url.URL, error) {
	path, err := url.PathUnescape(h.RawPath)
	if err != nil {
		return nil, err
	}
	u := &url.URL{Path: path, RawQuery: h.Query}
	if u.EscapedPath() != h.RawPath {
		u.RawPath = h.RawPath
	}
	return u, nil
}

// escapedRoot is a prefix as it stands in the target of a request.
func escapedRoot(root string) string {
	if root == "" {
		return ""
	}
	return (&url.URL{Path: root}).EscapedPath()
}

// setRequestFields gives a request its header, with the fields that net/http keeps elsewhere at their places.
func setRequestFields(r *http.Request, fields []string) {
	values := make([]string, 0, len(fields)/2) // one array for the values of all fields that occur once
	for i := 0; i+1 < len(fields); i += 2 {
		name, value := fields[i], fields[i+1]
		switch {
		case i == 0 && name == "host":
			r.Host = value
			continue
		case name == "transfer-encoding":
			r.TransferEncoding = append(r.TransferEncoding, value)
			continue
		case name == "trailer":
			if r.Trailer == nil {
				r.Trailer = http.Header{}
			}
			r.Trailer[textproto.CanonicalMIMEHeaderKey(value)] = nil
			continue
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		if before := r.Header[name]; before != nil {
			r.Header[name] = append(before, value)
			continue
		}
		values = append(values, value)
		r.Header[name] = values[len(values)-1 : len(values) : len(values)]
	}
}

// receive waits for the next part of the request. The first time it asks the node for parts.
func (s *server) receive(ctx context.Context) (kind Kind, data []byte, err error) {
	if !s.asked {
		s.asked = true
		s.source.Credit(nil, call.Room)
	}
	kind, data, _, err = s.Receive(ctx)
	return kind, data, err
}

// body is the body of a request. One goroutine reads it at a time.
type body struct {
	w      *writer
	first  []byte // came with the call
	more   bool   // parts follow
	rest   []byte // of the part that came last
	limit  limit  // of reads
	err    error  // of the end, once that was read
	closed atomic.Bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (n int, err error) {
	switch {
	case b.closed.Load():
		return 0, http.ErrBodyReadAfterClose
	case len(p) == 0:
		return 0, nil
	case len(b.first) > 0:
		n = copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	for len(b.rest) == 0 {
		if b.err == nil && !b.more {
			b.err = io.EOF
		}
		if b.err != nil {
			return 0, b.err
		}
		if err := b.next(); err != nil {
			return 0, err
		}
	}
	n = copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: io.Copy writes the parts as they came, without a copy of its own.
func (b *body) WriteTo(w io.Writer) (n int64, err error) {
	for {
		data := &b.first
		if len(b.first) == 0 {
			data = &b.rest
		}
		switch {
		case b.closed.Load():
			return n, http.ErrBodyReadAfterClose
		case len(*data) > 0:
			m, err := w.Write(*data)
			*data = (*data)[m:]
			n += int64(m)
			if err == nil && len(*data) > 0 {
				err = io.ErrShortWrite
			}
			if err != nil {
				return n, err
			}
		case b.err == io.EOF || b.err == nil && !b.more: //nolint:errorlint // set by next
			return n, nil
		case b.err != nil:
			return n, b.err
		default:
			if err := b.next(); err != nil {
				return n, err
			}
		}
	}
}

// next takes the next part.
func (b *body) next() error {
	ctx := b.limit.context(b.w.s.ctx)
	kind, data, err := b.w.s.receive(ctx)
	if err != nil {
		return failure(ctx, err)
	}
	switch kind {
	case Body:
		b.rest = data
	case Trailers:
		b.trailers(data)
	case Last:
		b.err = io.EOF
	case Broken:
		b.err = brokenError(data)
	default:
		b.err = fault("the node has sent a part of the kind %d as the body of a request", kind)
	}
	return nil
}

func (b *body) trailers(data []byte) {
	if CheckFields(data) != nil {
		return
	}
	r := b.w.req
	if r.Trailer == nil {
		r.Trailer = http.Header{}
	}
	for name, value := range Fields(string(data)) {
		r.Trailer.Add(name, value)
	}
}

// brokenError is the error of a body that has no end.
func brokenError(data []byte) error {
	status, text, err := ParseBroken(data)
	switch {
	case err != nil:
		return err
	case status == http.StatusRequestEntityTooLarge:
		return &http.MaxBytesError{}
	case status == http.StatusBadRequest && strings.HasSuffix(text, io.ErrUnexpectedEOF.Error()):
		return io.ErrUnexpectedEOF
	}
	return fault("%s", text)
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.closed.Store(true)
	return nil
}
