package helve

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/helve-serve/helve/internal/call"
)

// Request is the head of the HTTP request that an ingress method or stream answers.
type Request struct {
	// Method is the method of the request, such as POST.
	Method string
	// Path is the decoded path below the prefix of the application. It begins with a slash.
	Path string
	// Prefix is the [App.RoutePrefix] of the application.
	Prefix string
	// RawQuery is the query, without the question mark.
	RawQuery string
	// Host is the host that the client has asked for.
	Host string
	// ClientAddr is the address and port of the client, or of the proxy in front of this one.
	ClientAddr string
	// Header has the header fields. It is a copy.
	Header http.Header
}

// Query returns the parameters of the query. Parameters that cannot be read are left out.
func (r Request) Query() url.Values {
	query, _ := url.ParseQuery(r.RawQuery)
	return query
}

// RequestFrom is the head of the HTTP request that the method which received ctx answers: a method or stream that is the ingress of its
// application, in the node or in a worker. It is false for calls by handles, also for those that an ingress makes: what they need of the
// request is given to them as input. A handler ([HTTP]) has the request itself.
func RequestFrom(ctx context.Context) (Request, bool) {
	h := call.HTTPFrom(ctx)
	if h == nil {
		return Request{}, false
	}
	r := h.HTTPRequest()
	return Request{Method: r.Method, Path: r.Path, Prefix: r.Prefix, RawQuery: r.RawQuery, Host: r.Host, ClientAddr: r.Client, Header: r.Header}, true
}

// ResponseHead is the head of the answer to an HTTP request. [ResponseFrom] gives it to an ingress method. Its methods may be called from any
// goroutine.
//
// The head is sent when the method returns, and for a stream with the first item (with server-sent events also by the first heartbeat, 15
// seconds after the request). From then on all methods return an error. A method that returns an error is answered by the error's own
// status, without this head.
type ResponseHead struct{ answer *call.Answer }

// ResponseFrom is the head of the answer to the HTTP request that the method which received ctx answers. It is false where [RequestFrom] is.
func ResponseFrom(ctx context.Context) (ResponseHead, bool) {
	h := call.HTTPFrom(ctx)
	if h == nil {
		return ResponseHead{}, false
	}
	return ResponseHead{h.HTTPAnswer()}, true
}

var errNoResponse = errors.New("the zero ResponseHead belongs to no request")

// SetStatus sets the status of the answer, 200 to 599, instead of 200. An answer with 204 or 304 has no body.
func (h ResponseHead) SetStatus(status int) error {
	if h.answer == nil {
		return errNoResponse
	}
	return h.answer.SetStatus(status)
}

// Set sets a header field, also Content-Type. The error says if the name or value is malformed, if the proxy alone may set the field
// (such as Content-Length and X-Request-ID), or if the fields have more than 32 KiB together.
func (h ResponseHead) Set(name, value string) error {
	if h.answer == nil {
		return errNoResponse
	}
	return h.answer.Set(name, value)
}

// Add adds a header field to those that were set under its name, such as a second Set-Cookie.
func (h ResponseHead) Add(name, value string) error {
	if h.answer == nil {
		return errNoResponse
	}
	return h.answer.Add(name, value)
}
