package call

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// HTTP is the HTTP request behind a call of an ingress method, and the head of its answer. It is a value of the context that the method
// gets. In the node the proxy has it; in a worker it is a [RemoteHTTP].
type HTTP interface {
	// HTTPRequest makes a copy of the request's head.
	HTTPRequest() HTTPRequest
	// HTTPAnswer is the part of the answer's head that the method chooses.
	HTTPAnswer() *Answer
}

// HTTPRequest is the head of an HTTP request.
type HTTPRequest struct {
	Method   string
	Path     string // decoded, below the prefix
	Prefix   string // of the application
	RawQuery string
	Host     string
	Client   string // address and port
	Header   map[string][]string
}

// HTTPKey is the key of the [HTTP] in a context.
type HTTPKey struct{}

// HTTPFrom is the HTTP request behind the call whose method got ctx, nil if there is none. It is nil for the calls that an ingress method
// makes, also if they run in this process with a context that has it.
func HTTPFrom(ctx context.Context) HTTP {
	i := InfoFrom(ctx)
	if i == nil || i.Place == nil || i.Prefix == "" {
		return nil
	}
	h, _ := ctx.Value(HTTPKey{}).(HTTP)
	return h
}

// HTTPOf is the HTTP request that a call carries to another process, nil if there is none. A call that did not come from the proxy pays a
// comparison.
func HTTPOf(c *Call) HTTP {
	if c.Values == nil || c.Info.Place == nil || c.Info.Prefix == "" {
		return nil
	}
	h, _ := c.Values.Value(HTTPKey{}).(HTTP)
	return h
}

// Answer is the part of an answer's head that a method chooses: the status and header fields. It can be changed until the first byte of the
// answer. The zero value is ready.
type Answer struct{ head atomic.Pointer[answerHead] }

type answerHead struct {
	mu     sync.Mutex
	taken  bool
	status int
	size   int
	header map[string][]string
}

// takenHead is the head of an answer to which nothing was set before it began.
var takenHead = &answerHead{taken: true} //nolint:gochecknoglobals // a constant

// answerHeader is the number of bytes that the fields of a method may have together: they fit into the meta of a frame.
const answerHeader = 32 << 10

var errAnswered = errors.New("the answer has begun: its status and header were sent")

// change runs f on the head, unless the answer has begun.
func (a *Answer) change(f func(h *answerHead) error) error {
	h := a.head.Load()
	if h == nil {
		h = &answerHead{header: map[string][]string{}}
		if !a.head.CompareAndSwap(nil, h) {
			h = a.head.Load()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.taken {
		return errAnswered
	}
	return f(h)
}

// SetStatus sets the status of an answer without an error.
func (a *Answer) SetStatus(status int) error {
	return a.change(func(h *answerHead) error {
		if status < 200 || status > 599 {
			return fmt.Errorf("%d is no status of an answer: it is 200 to 599", status)
		}
		h.status = status
		return nil
	})
}

// Set sets a header field, and Add adds one.
func (a *Answer) Set(name, value string) error { return a.field(name, value, false) }

// Add adds a header field to those of the same name.
func (a *Answer) Add(name, value string) error { return a.field(name, value, true) }

func (a *Answer) field(name, value string, add bool) error {
	return a.change(func(h *answerHead) error { return h.field(name, value, add) })
}

func (h *answerHead) field(name, value string, add bool) error {
	if !isToken(name) {
		return fmt.Errorf("%s is no name of a header field", Quoted(name))
	}
	if i := strings.IndexFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("the value of the header field %s has a control character at byte %d", name, i)
	}
	name = textproto.CanonicalMIMEHeaderKey(name)
	if slices.Contains(proxyFields, name) {
		return fmt.Errorf("the header field %s is set by the proxy alone", name)
	}
	size := h.size + len(name) + len(value) + 2
	if !add {
		for _, v := range h.header[name] {
			size -= len(name) + len(v) + 2
		}
	}
	if size > answerHeader {
		return fmt.Errorf("the header fields have more than %d bytes together", answerHeader)
	}
	h.size = size
	if add {
		h.header[name] = append(h.header[name], value)
	} else {
		h.header[name] = []string{value}
	}
	return nil
}

// proxyFields are the fields that frame a message, and the id of the request.
var proxyFields = []string{"Connection", "Content-Length", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "X-Request-Id"} //nolint:gochecknoglobals // a constant

func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// Take ends the changes, and gives the status (0 if none was set) and the header, which may be nil.
func (a *Answer) Take() (status int, header map[string][]string) {
	h := a.head.Swap(takenHead)
	if h == nil || h == takenHead {
		return 0, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taken = true
	return h.status, h.header
}

// Encode is Take for another process: status u16, then names and values joined by zero bytes. It is nil if nothing was set.
func (a *Answer) Encode() []byte {
	status, header := a.Take()
	if status == 0 && len(header) == 0 {
		return nil
	}
	b := binary.LittleEndian.AppendUint16(nil, uint16(status))
	return appendFields(b, header, false)
}

// Decode sets the head to one that Encode has made.
func (a *Answer) Decode(b []byte) error {
	if len(b) < 2 {
		return errHead
	}
	if status := binary.LittleEndian.Uint16(b); status != 0 {
		if err := a.SetStatus(int(status)); err != nil {
			return err
		}
	}
	if len(b) == 2 {
		return nil
	}
	fields := strings.Split(string(b[2:]), "\x00")
	if len(fields)%2 != 0 {
		return errHead
	}
	for i := 0; i < len(fields); i += 2 {
		if err := a.Add(fields[i], fields[i+1]); err != nil {
			return err
		}
	}
	return nil
}

var errHead = errors.New("malformed head of an HTTP message")

// appendFields appends the names and values of a header, joined by zero bytes. more says that fields precede them.
func appendFields(b []byte, header map[string][]string, more bool) []byte {
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, value := range header[name] {
			if more {
				b = append(b, 0)
			}
			more = true
			b = append(append(append(b, name...), 0), value...)
		}
	}
	return b
}

// requestFields is the number of fields of a request before its header.
const requestFields = 6

// AppendHTTPRequest appends a request as it travels to a worker: method, path, prefix, query, host and client, then the names and values of
// the header, joined by zero bytes. Path and prefix are percent-encoded, because a path may have a zero byte; a server refuses one in the
// other fields.
func AppendHTTPRequest(b []byte, r HTTPRequest) []byte {
	for i, field := range [requestFields]string{r.Method, escaped(r.Path), escaped(r.Prefix), r.RawQuery, r.Host, r.Client} {
		if i > 0 {
			b = append(b, 0)
		}
		b = append(b, field...)
	}
	return appendFields(b, r.Header, true)
}

func escaped(path string) string { return (&url.URL{Path: path}).EscapedPath() }

// ValidHTTPRequest reports whether b has the number of fields that a request has.
func ValidHTTPRequest(b []byte) bool {
	n := bytes.Count(b, []byte{0}) + 1
	return n >= requestFields && n%2 == 0
}

// ParseHTTPRequest is the inverse of [AppendHTTPRequest].
func ParseHTTPRequest(b []byte) (r HTTPRequest, err error) {
	if !ValidHTTPRequest(b) {
		return r, errHead
	}
	fields := strings.Split(string(b), "\x00")
	r = HTTPRequest{Method: fields[0], RawQuery: fields[3], Host: fields[4], Client: fields[5], Header: map[string][]string{}}
	for _, path := range []struct {
		to   *string
		from string
	}{{&r.Path, fields[1]}, {&r.Prefix, fields[2]}} {
		if *path.to, err = url.PathUnescape(path.from); err != nil {
			return r, errHead
		}
	}
	for i := requestFields; i < len(fields); i += 2 {
		r.Header[fields[i]] = append(r.Header[fields[i]], fields[i+1])
	}
	return r, nil
}

// RemoteHTTP is the HTTP request behind a call that a node has sent to this worker. It is the values of the call's context.
type RemoteHTTP struct {
	context.Context
	head   []byte
	answer Answer
}

// NewRemoteHTTP makes one of the head that came with the call. The head is checked when a method asks for it.
func NewRemoteHTTP(head []byte) *RemoteHTTP {
	return &RemoteHTTP{Context: context.Background(), head: slices.Clone(head)}
}

// Value gives r for [HTTPKey].
func (r *RemoteHTTP) Value(key any) any {
	if key == (HTTPKey{}) {
		return r
	}
	return nil
}

// Prefix is the prefix of the application.
func (r *RemoteHTTP) Prefix() string {
	rest := r.head
	for range 2 {
		_, rest, _ = bytes.Cut(rest, []byte{0})
	}
	prefix, _, _ := bytes.Cut(rest, []byte{0})
	decoded, _ := url.PathUnescape(string(prefix))
	return decoded
}

// HTTPRequest decodes the head.
func (r *RemoteHTTP) HTTPRequest() HTTPRequest {
	head, _ := ParseHTTPRequest(r.head) // the connection has looked through it
	return head
}

// HTTPAnswer is the head that travels with the answer.
func (r *RemoteHTTP) HTTPAnswer() *Answer { return &r.answer }

// RemoteHTTPOf is the request behind a call that a node has sent, nil if there is none.
func RemoteHTTPOf(c *Call) *RemoteHTTP {
	r, _ := c.Values.(*RemoteHTTP)
	return r
}
