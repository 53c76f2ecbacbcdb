package proxy

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/helve-serve/helve/internal/call"
)

// info fills in what headers say. An id that cannot be taken is an error, because a request that is logged under
// another id than its client's is lost to the client.
func (p *Proxy) info(r *http.Request, i *call.Info) *call.Error {
	i.Request = call.NewID()
	if ids := r.Header["X-Request-Id"]; len(ids) > 0 {
		if len(ids) > 1 || !call.ValidID(ids[0]) {
			return call.NewError(call.BadInput, "X-Request-ID must be 1 to 256 printable ASCII characters")
		}
		i.Request = call.IDFrom(ids[0])
	}
	if tp := r.Header["Traceparent"]; len(tp) == 1 {
		traceparent(tp[0], i)
	}
	if id := r.Header.Get("Serve_multiplexed_model_id"); id != "" {
		if !call.ValidID(id) {
			return call.NewError(call.BadInput, "serve_multiplexed_model_id must be 1 to 256 printable ASCII characters")
		}
		i.Affinity = &call.Affinity{Model: id}
	}
	return nil
}

// traceparent reads a W3C trace context header, version 00 and what later ones share with it; others are ignored.
func traceparent(s string, i *call.Info) {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" || len(s) > 55 && (s[:2] == "00" || s[55] != '-') {
		return
	}
	for _, c := range []byte(s[:55]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && c != '-' { // upper case is not allowed either
			return
		}
	}
	var trace [16]byte
	var span [8]byte
	var flags [1]byte
	if _, err := hex.Decode(trace[:], []byte(s[3:35])); err != nil || trace == [16]byte{} {
		return
	}
	if _, err := hex.Decode(span[:], []byte(s[36:52])); err != nil || span == [8]byte{} {
		return
	}
	if _, err := hex.Decode(flags[:], []byte(s[53:55])); err != nil {
		return
	}
	i.Trace, i.Span, i.Sampled = trace, span, flags[0]&1 != 0
}

func allowed(in InKind) string {
	if in == InNone {
		return "GET, HEAD, POST, PUT, PATCH"
	}
	return "POST, PUT, PATCH"
}

// input reads the body and makes the argument.
func (p *Proxy) input(r *http.Request, route *Route, c *call.Call) *call.Error {
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	case http.MethodGet, http.MethodHead:
		if route.In != InNone {
			return notAllowed(r, route)
		}
	default:
		return notAllowed(r, route)
	}
	if route.In == InUnsupported {
		e := call.NewError(call.NoMethod, "the signature of the ingress method is not served over HTTP; annotate its one parameter as str or bytes")
		e.Public = e.Message // about the program, and of use to whoever is trying it
		return e
	}
	body, e := p.body(r)
	if e != nil {
		return e
	}
	slot, ok, e := argument(route.In, r.Header.Get("Content-Type"), body)
	if e == nil && ok {
		c.SetOne(slot)
	}
	return e
}

func notAllowed(r *http.Request, route *Route) *call.Error {
	return call.NewError(call.MethodNotAllowed, fmt.Sprintf("%s is not allowed here, only %s", r.Method, allowed(route.In)))
}

func (p *Proxy) body(r *http.Request) ([]byte, *call.Error) {
	if r.ContentLength > p.maxBody {
		return nil, tooLarge(p.maxBody)
	}
	if r.ContentLength == 0 {
		return nil, nil
	}
	var body []byte
	var err error
	if n := r.ContentLength; n > 0 && n <= 64<<10 { // a claim that is cheap to believe
		body = make([]byte, n)
		_, err = io.ReadFull(r.Body, body)
	} else {
		body, err = io.ReadAll(io.LimitReader(r.Body, p.maxBody+1))
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		e := call.NewError(call.Deadline, "the body did not arrive in time")
		e.Public = e.Message
		return nil, e
	case err != nil && r.Context().Err() != nil:
		return nil, call.FromContext(r.Context())
	case err != nil:
		return nil, call.NewError(call.BadInput, "the body ends too early")
	case int64(len(body)) > p.maxBody:
		return nil, tooLarge(p.maxBody)
	}
	return body, nil
}

func tooLarge(limit int64) *call.Error {
	return call.NewError(call.TooLarge, fmt.Sprintf("the body is larger than %d bytes", limit))
}

type media uint8

const (
	mediaNone media = iota // no type, or one that clients send without thinking (curl's form type, octet-stream)
	mediaJSON
	mediaText
)

func mediaOf(in InKind, contentType string) (media, *call.Error) {
	switch contentType { // what nearly all clients send, without a parse
	case "", "application/x-www-form-urlencoded", "application/octet-stream":
		return mediaNone, nil
	case "application/json":
		return mediaJSON, nil
	case "text/plain", "text/plain; charset=utf-8":
		return mediaText, nil
	}
	mt, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return 0, call.NewError(call.UnsupportedMedia, fmt.Sprintf("Content-Type %q does not parse", contentType))
	}
	if cs := params["charset"]; cs != "" && !strings.EqualFold(cs, "utf-8") && !strings.EqualFold(cs, "us-ascii") {
		return 0, call.NewError(call.UnsupportedMedia, fmt.Sprintf("charset %q is not supported, only UTF-8", cs))
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
	return 0, call.NewError(call.UnsupportedMedia, fmt.Sprintf("Content-Type %q is not supported; send %s", mt, takes))
}

// argument decides what the body is. ok is false for a method without an input.
func argument(in InKind, contentType string, body []byte) (slot call.Slot, ok bool, e *call.Error) {
	slot = call.Slot{Kind: call.Positional}
	if in == InNone {
		if len(body) > 0 {
			return slot, false, call.NewError(call.BadInput, "this method takes no input, the body must be empty")
		}
		return slot, false, nil
	}
	m, e := mediaOf(in, contentType)
	if e != nil {
		return slot, false, e
	}
	if in == InJSON {
		if m == mediaText {
			return slot, false, call.NewError(call.UnsupportedMedia, "this method takes JSON, not text; send application/json")
		}
		if !json.Valid(body) {
			return slot, false, notJSON("JSON", body)
		}
		slot.Codec, slot.Data = call.JSON, body
		return slot, true, nil
	}
	if in == InString && !utf8.Valid(body) { // before JSON, which would replace what is not
		return slot, false, call.NewError(call.BadInput, "the body is not UTF-8 text")
	}
	if m != mediaText {
		data, err := decodeJSON(in, body)
		switch {
		case err == nil:
			body = data
		case m == mediaJSON:
			return slot, false, notJSON("a JSON "+map[InKind]string{InString: "string", InBytes: "string in base64"}[in], body)
		}
	}
	slot.Codec, slot.Data = call.Raw, body
	if in == InString {
		slot.Codec = call.Text
	}
	return slot, true, nil
}

// notJSON says where a body stops being JSON, or what JSON it is.
func notJSON(wanted string, body []byte) *call.Error {
	if len(bytes.TrimSpace(body)) == 0 {
		return call.NewError(call.BadInput, "the body is empty; this method takes "+wanted)
	}
	var v any
	err := json.Unmarshal(body, &v)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return call.NewError(call.BadInput, fmt.Sprintf("the body is not valid JSON: byte %d: %s", syntax.Offset, syntax))
	}
	kind := "null"
	switch v.(type) {
	case string:
		kind = "a string"
	case bool:
		kind = "a boolean"
	case float64:
		kind = "a number"
	case []any:
		kind = "an array"
	case map[string]any:
		kind = "an object"
	}
	return call.NewError(call.BadInput, "the body is "+kind+"; this method takes "+wanted)
}

var errNotJSON = errors.New("not a JSON string")

func decodeJSON(in InKind, body []byte) ([]byte, error) {
	// Most bodies that are not JSON are told by their first byte, without a parse.
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
