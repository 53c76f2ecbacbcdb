package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/clients"
	"github.com/helve-serve/helve/internal/coding"
	"github.com/helve-serve/helve/internal/sse"
)

// setRequestID gives an answer that is about no call the id of its request. An id that is not valid is replaced: the node's health has no mistakes.
func setRequestID(w http.ResponseWriter, r *http.Request) {
	ids := r.Header["X-Request-Id"]
	if len(ids) == 0 || !call.ValidID(ids[len(ids)-1]) {
		ids = []string{call.NewID().String()}
	}
	w.Header()["X-Request-Id"] = ids[len(ids)-1:]
}

// info sets the fields that come from headers. An id that is not valid is an error: if the request were logged under
// another id, its client could not find it. Of two ids the last one holds, as in Ray Serve.
func (p *Proxy) info(r *http.Request, i *call.Info) *call.Error {
	i.Request, i.Call = call.NewID(), rand.Uint64()
	if ids := r.Header["X-Request-Id"]; len(ids) > 0 {
		id := ids[len(ids)-1]
		if !call.ValidID(id) {
			return call.NewError(helvetype.ReasonBadInput, "X-Request-ID must be 1 to 256 printable ASCII characters")
		}
		i.Request = call.IDFrom(id)
	}
	if tp := r.Header["Traceparent"]; len(tp) == 1 {
		traceparent(tp[0], i)
	}
	id := ""
	for _, header := range modelHeaders {
		for _, v := range r.Header[header] {
			switch {
			case v == "":
			case !call.ValidID(v):
				return call.NewError(helvetype.ReasonBadInput, modelHeader+" must be 1 to 256 printable ASCII characters")
			case id != "" && v != id:
				return call.NewError(helvetype.ReasonBadInput, "two headers name two models: "+modelHeader+" must be one")
			default:
				id = v
			}
		}
	}
	if id != "" {
		i.Affinity = &call.Affinity{Model: id}
	}
	return nil
}

const modelHeader = "serve_multiplexed_model_id"

// modelHeaders are the keys of the header that names a model. Ray Serve's name has underscores; proxies on the way
// drop or rewrite such names, so clients may write hyphens.
var modelHeaders = [...]string{"Serve_multiplexed_model_id", "Serve-Multiplexed-Model-Id"} //nolint:gochecknoglobals // a constant

// traceparent reads the trace context of a client. One that is wrong has no effect.
func traceparent(s string, i *call.Info) {
	if trace, span, sampled, ok := call.ParseTraceparent(s); ok {
		i.Trace, i.Span, i.Sampled = trace, span, sampled
	}
}

func allowed(in InKind) string {
	if in == InNone {
		return "GET, HEAD, POST, PUT, PATCH"
	}
	return "POST, PUT, PATCH"
}

// taken are the methods of HTTP that a route takes; nil for those that its handler decides.
func taken(route *Route) []string {
	if route.Starting || route.Handle != nil {
		return nil
	}
	methods := strings.Split(allowed(route.In), ", ")
	if route.Stream != nil && route.In != InNone {
		methods = append(methods, http.MethodGet, http.MethodHead)
	}
	return methods
}

// input reads the body and makes the argument. A request that can be refused without its body is refused before the
// body is read: then it takes no memory, and a client that waits for "100 Continue" does not send it.
func (p *Proxy) input(r *http.Request, route *served, c *call.Call, held *clients.Hold) *call.Error {
	byQuery := false
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	case http.MethodGet, http.MethodHead:
		if route.In != InNone && (route.Stream == nil || !sse.Wanted(r)) {
			return notAllowed(r, &route.Route)
		}
		byQuery = route.In != InNone
	default:
		return notAllowed(r, &route.Route)
	}
	if route.In == InUnsupported {
		e := call.NewError(helvetype.ReasonNoMethod, "the signature of the ingress method is not served over HTTP; give it one parameter, the request, or annotate that as str or bytes for the body alone")
		e.Public = e.Message // the message is about the program, and helps a developer who tries it
		return e
	}
	if route.In == InNone {
		return refuseBody(r)
	}
	if byQuery {
		e := refuseBody(r)
		if e == nil {
			var slot call.Slot
			if slot, e = inputOfQuery(route.In, r); e == nil {
				c.SetOne(slot)
			}
		}
		return e
	}
	m, e := mediaOf(route.In, r.Header["Content-Type"])
	if e != nil {
		return e
	}
	decode, e := codingOf(r.Header["Content-Encoding"])
	if e != nil {
		return e
	}
	if r.ContentLength > route.maxBody {
		return tooLarge(route.maxBody)
	}
	if route.Refuses != nil {
		if e := route.Refuses(c); e != nil {
			return e
		}
	}
	body, e := p.body(r, decode, route.maxBody, held)
	if e != nil {
		return e
	}
	slot, e := argument(route.In, m, body)
	if e == nil {
		c.SetOne(slot)
	}
	return e
}

// refuseBody is an error if the request has a body. It reads at most one byte.
func refuseBody(r *http.Request) *call.Error {
	if r.ContentLength == 0 {
		return nil
	}
	if r.ContentLength < 0 {
		switch _, err := io.ReadFull(r.Body, make([]byte, 1)); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return brokenBody(r, err)
		}
	}
	return call.NewError(helvetype.ReasonBadInput, "this method takes no input, the body must be empty")
}

func notAllowed(r *http.Request, route *Route) *call.Error {
	events := ""
	if route.Stream != nil && route.In != InNone {
		events = ", and GET with Accept: text/event-stream"
	}
	return call.NewError(helvetype.ReasonMethodNotAllowed, fmt.Sprintf("%s is not allowed here, only %s%s", r.Method, allowed(route.In), events))
}

// firstRead is the size of the first buffer of a body without a length, or with a long one.
const firstRead = 64 << 10

// largestPart is the largest size of one part of a long body.
const largestPart = 4 << 20

// body reads a body. Its bytes are counted before memory is allocated, and only as far as bytes have come: a client
// that announces 64 MiB has at most 64 KiB until it sends more.
func (p *Proxy) body(r *http.Request, decode coding.Decoder, limit int64, held *clients.Hold) ([]byte, *call.Error) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	var in io.Reader = r.Body
	length := r.ContentLength // -1 if unknown
	if decode != nil {
		// The encoded bytes have the limit of the decoded ones: otherwise an endless row of empty parts would be
		// within it.
		d, err := decode(coding.Capped(r.Body, limit))
		if err != nil {
			return nil, encodedBody(r, err)
		}
		in, length = d, -1
	}
	if length > 0 && length <= firstRead { // most bodies
		if !held.Grow(length) {
			return nil, clients.NoRoom()
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(in, body); err != nil {
			return nil, brokenBody(r, err)
		}
		return body, nil
	}
	parts, size, e := p.parts(r, in, length, limit, decode != nil, held)
	if e != nil {
		return nil, e
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	if !held.Grow(size) {
		return nil, clients.NoRoom()
	}
	body := slices.Concat(parts...)
	room := int64(0)
	for _, part := range parts {
		room += int64(cap(part))
	}
	held.Shrink(room)
	return body, nil
}

// parts reads a body of length bytes, or of unknown length, with at most limit bytes, if length is -1. It is read into parts, which are joined
// when all have come. A growing slice would leave as much garbage as it has bytes.
func (p *Proxy) parts(r *http.Request, in io.Reader, length, limit int64, encoded bool, held *clients.Hold) (parts [][]byte, size int64, _ *call.Error) {
	for room := int64(firstRead); size != length; room = min(2*room, largestPart) {
		if length >= 0 {
			room = min(room, length-size)
		}
		if !held.Grow(room) {
			return nil, 0, clients.NoRoom()
		}
		part := make([]byte, 0, room)
		for len(part) < cap(part) {
			n, err := in.Read(part[len(part):cap(part)])
			part, size = part[:len(part)+n], size+int64(n)
			switch {
			case size > limit:
				return nil, 0, tooLarge(limit)
			case errors.Is(err, io.EOF) && (length < 0 || size == length):
				return append(parts, part), size, nil
			case err == nil:
			case encoded:
				return nil, 0, encodedBody(r, err)
			default:
				return nil, 0, brokenBody(r, err)
			}
		}
		parts = append(parts, part)
	}
	return parts, size, nil
}

// brokenBody is the error of a body that could not be read.
func brokenBody(r *http.Request, err error) *call.Error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		e := call.NewError(helvetype.ReasonDeadline, "the body did not arrive in time")
		e.Public = e.Message
		return e
	case r.Context().Err() != nil:
		return call.FromContext(r.Context())
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return call.NewError(helvetype.ReasonBadInput, "the body ends too early")
	}
	return call.NewError(helvetype.ReasonBadInput, "the body cannot be read: "+err.Error()) // a malformed chunk or trailer
}

func tooLarge(limit int64) *call.Error {
	return call.NewError(helvetype.ReasonTooLarge, fmt.Sprintf("the body is larger than %d bytes", limit))
}

type media uint8

const (
	mediaNone media = iota // no type, or a default type of clients (curl's form type, octet-stream)
	mediaJSON
	mediaText
)

func mediaOf(in InKind, header []string) (media, *call.Error) {
	m, e := parseMedia(in, header)
	if e == nil && m == mediaText && in == InJSON {
		e = call.NewError(helvetype.ReasonUnsupportedMedia, "this method takes JSON, not text; send application/json")
	}
	return m, e
}

func parseMedia(in InKind, header []string) (media, *call.Error) {
	contentType := ""
	if len(header) > 0 {
		contentType = header[0]
	}
	for _, other := range header {
		if other != contentType { // a client and a proxy on the way could each believe another one
			return 0, call.NewError(helvetype.ReasonBadInput, "two Content-Type headers differ")
		}
	}
	switch contentType { // the types of nearly all clients, without a parse
	case "", "application/x-www-form-urlencoded", "application/octet-stream":
		return mediaNone, nil
	case "application/json":
		return mediaJSON, nil
	case "text/plain", "text/plain; charset=utf-8":
		return mediaText, nil
	}
	mt, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return 0, call.NewError(helvetype.ReasonUnsupportedMedia, fmt.Sprintf("Content-Type %q does not parse", contentType))
	}
	if cs := params["charset"]; cs != "" && !strings.EqualFold(cs, "utf-8") && !strings.EqualFold(cs, "us-ascii") {
		return 0, call.NewError(helvetype.ReasonUnsupportedMedia, fmt.Sprintf("charset %q is not supported, only UTF-8", cs))
	}
	switch {
	case mt == "application/json" || strings.HasSuffix(mt, "+json"):
		return mediaJSON, nil
	case strings.HasPrefix(mt, "text/"):
		return mediaText, nil
	case mt == "application/x-www-form-urlencoded" || mt == "application/octet-stream":
		return mediaNone, nil
	}
	takes := "application/json"
	if in != InJSON {
		takes += " or text/plain"
	}
	return 0, call.NewError(helvetype.ReasonUnsupportedMedia, fmt.Sprintf("Content-Type %q is not supported; send %s", mt, takes))
}

// argument makes the argument from a body.
func argument(in InKind, m media, body []byte) (slot call.Slot, e *call.Error) {
	slot = call.Slot{Kind: call.Positional}
	if in == InJSON {
		if !json.Valid(body) {
			return slot, notJSON("JSON", body)
		}
		slot.Codec, slot.Data = call.JSON, body
		return slot, nil
	}
	if in == InString && !utf8.Valid(body) { // before JSON, which would replace bytes that are not UTF-8
		return slot, call.NewError(helvetype.ReasonBadInput, "the body is not UTF-8 text")
	}
	if m != mediaText {
		data, err := decodeJSON(in, body)
		switch {
		case err == nil:
			body = data
		case m == mediaJSON:
			return slot, notJSON("a JSON "+map[InKind]string{InString: "string", InBytes: "string in base64"}[in], body)
		}
	}
	slot.Codec, slot.Data = call.Raw, body
	if in == InString {
		slot.Codec = call.Text
	}
	return slot, nil
}

// notJSON is the error of a body that is not the wanted JSON. It says where the JSON ends, or of which kind it is.
func notJSON(wanted string, body []byte) *call.Error {
	if len(bytes.TrimSpace(body)) == 0 {
		return call.NewError(helvetype.ReasonBadInput, "the body is empty; this method takes "+wanted)
	}
	var raw json.RawMessage // raw text, because a tree of it may be many times as large
	if syntax, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(body, &raw)); ok {
		return call.NewError(helvetype.ReasonBadInput, fmt.Sprintf("the body is not valid JSON: byte %d: %s", syntax.Offset, syntax))
	}
	kind := "a number"
	switch bytes.TrimSpace(body)[0] {
	case '"':
		kind = "a string"
	case 't', 'f':
		kind = "a boolean"
	case '[':
		kind = "an array"
	case '{':
		kind = "an object"
	case 'n':
		kind = "null"
	}
	return call.NewError(helvetype.ReasonBadInput, "the body is "+kind+"; this method takes "+wanted)
}

var errNotJSON = errors.New("not a JSON string")

func decodeJSON(in InKind, body []byte) ([]byte, error) {
	// The first byte tells most bodies that are not JSON, without a parse.
	trimmed := strings.TrimLeft(string(body[:min(len(body), 16)]), " \t\r\n")
	if trimmed == "" || trimmed[0] != '"' {
		return nil, errNotJSON
	}
	if in == InString {
		var s string
		err := json.Unmarshal(body, &s)
		return []byte(s), err
	}
	var b []byte
	err := json.Unmarshal(body, &b)
	return b, err
}

// errCoding is the cause of the failure of a request whose content encoding is refused.
var errCoding = errors.New("content encoding")

// codingOf finds the decoder for the values of Content-Encoding; nil if there is no encoding.
func codingOf(header []string) (coding.Decoder, *call.Error) {
	decode, supported := coding.Of(header)
	if !supported {
		e := call.NewError(helvetype.ReasonUnsupportedMedia, fmt.Sprintf("Content-Encoding %q is not supported; send one of %s, or none", strings.Join(header, ", "), coding.Names))
		e.Cause = errCoding
		return nil, e
	}
	return decode, nil
}

// encodedBody is the error of a body that could not be read and decoded.
func encodedBody(r *http.Request, err error) *call.Error {
	switch {
	case errors.Is(err, coding.ErrCapped):
		return call.NewError(helvetype.ReasonTooLarge, "the encoded body is larger than a decoded one may be")
	case errors.Is(err, os.ErrDeadlineExceeded), r.Context().Err() != nil, errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return brokenBody(r, err)
	}
	return call.NewError(helvetype.ReasonBadInput, "the body is not what its Content-Encoding says: "+err.Error())
}
