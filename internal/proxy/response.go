package proxy

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/timed"
)

// Header values that are always the same, so that setting them allocates nothing. They are never written to.
var (
	textPlain       = []string{"text/plain; charset=utf-8"}
	octetStream     = []string{"application/octet-stream"}
	applicationJSON = []string{"application/json"}
)

// netHTTPBuffer is the number of bytes that net/http gathers before it writes; for a body that fits it sets the
// length itself.
const netHTTPBuffer = 2048

// jsonText appends a text as a JSON string. The characters <, > and & stay as they are, as in every JSON that package codec writes.
func jsonText(to, text []byte) []byte {
	b := bytes.NewBuffer(to)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	e.Encode(string(text)) //nolint:errcheck // a string always encodes
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// answer writes a result. A string is sent as text, unless the client accepts JSON and no type of text.
func (p *Proxy) answer(w http.ResponseWriter, r *http.Request, x *exchange, out call.Payload) {
	status, own := x.head.Take()
	h, body := w.Header(), out.Data
	switch out.Codec {
	case call.Text:
		h["Content-Type"] = textPlain
		if onlyJSON(r) {
			h["Content-Type"] = applicationJSON
			body = jsonText(nil, out.Data)
		}
	case call.Raw:
		h["Content-Type"] = octetStream
	case call.JSON, call.Event:
		h["Content-Type"] = applicationJSON
	case call.None:
		if onlyJSON(r) {
			h["Content-Type"] = applicationJSON
			body = []byte("null")
		}
	}
	if status != 0 || own != nil {
		if own["Content-Type"] != nil {
			body = out.Data
		}
		if !setHead(h, status, own) {
			body = nil
		}
	}
	if len(body) > netHTTPBuffer {
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	if status != 0 {
		w.WriteHeader(status)
	}
	w.Write(body) //nolint:errcheck // the client may be gone
}

// setHead puts the header that a method has chosen into that of an answer. It returns false if an answer with this status has no body.
func setHead(h http.Header, status int, own map[string][]string) (body bool) {
	body = status != http.StatusNoContent && status != http.StatusNotModified
	if !body {
		h.Del("Content-Type")
	}
	maps.Copy(h, own)
	return body
}

// decodeHead takes the head of an answer as a worker has sent it.
func decodeHead(to *call.Answer, head []byte) *call.Error {
	if err := to.Decode(head); err != nil {
		return call.NewError(helvetype.ReasonInternal, "the worker has sent a wrong head of the answer: "+err.Error())
	}
	return nil
}

func onlyJSON(r *http.Request) bool {
	accept := r.Header["Accept"]
	if len(accept) == 0 {
		return false
	}
	json := false
	for _, line := range accept {
		for part := range strings.SplitSeq(line, ",") {
			t, _, _ := strings.Cut(part, ";")
			switch t = strings.TrimSpace(t); {
			case t == "*/*" || strings.HasPrefix(t, "text/"):
				return false
			case t == "application/json":
				json = true
			}
		}
	}
	return json
}

// httpOf is the usual HTTP status of a gRPC code, for codes that users chose.
var httpOf = map[helvetype.Code]int{
	helvetype.CodeInvalidArgument: 400, helvetype.CodeNotFound: 404, helvetype.CodeAlreadyExists: 409, helvetype.CodePermissionDenied: 403,
	helvetype.CodeResourceExhausted: 429, helvetype.CodeFailedPrecondition: 400, helvetype.CodeAborted: 409, helvetype.CodeOutOfRange: 400,
	helvetype.CodeUnimplemented: 501, helvetype.CodeUnavailable: 503, helvetype.CodeUnauthenticated: 401, helvetype.CodeDeadlineExceeded: 504, helvetype.CodeCanceled: 499,
}

// StatusOf is the HTTP status that the ingress gives to an error: 200 for nil, that of the first [call.Error] in its tree, 408 and 499 for the errors
// of a context, 500 for others.
func StatusOf(err error) int {
	switch e := call.ErrorIn(err); {
	case err == nil:
		return http.StatusOK
	case e != nil:
		return statusOf(e)
	case call.Is(err, context.DeadlineExceeded), call.Is(err, context.Canceled):
		return statusOf(call.FromCause(err))
	}
	return http.StatusInternalServerError
}

func statusOf(e *call.Error) int {
	if e.Reason == helvetype.ReasonUser {
		if s := httpOf[e.Code]; s != 0 {
			return s
		}
		return http.StatusInternalServerError
	}
	return cmp.Or(e.HTTP, call.RowOf(e.Reason).HTTP)
}

const withheld = "the request failed; the server's log says why, under this request id"

// publicMessage is the message that a client may read. It is the message that the user's code made public, or the
// text of an error about the request whose text is Helve's; for all others it is the code only.
func publicMessage(r *http.Request, x *exchange, e *call.Error) string {
	if e.Public != "" {
		return e.Public
	}
	switch e.Reason {
	case helvetype.ReasonBadInput, helvetype.ReasonUnsupportedMedia, helvetype.ReasonMethodNotAllowed, helvetype.ReasonTooLarge:
		return e.Message
	case helvetype.ReasonBackpressure:
		return refused(&x.call, e)
	case helvetype.ReasonDeadline:
		return timedOut(r, x)
	}
	return withheld
}

// refused is the message of a call that found a full queue: the words of Ray Serve, and behind them the deployment, if it is not the one that the request went to. For
// example, Shop calls Stock, and Stock calls Ledger, whose queue is full.
func refused(c *call.Call, e *call.Error) string {
	if e.Deployment == "" || c.Info.Place == nil || e.App == c.Info.App && e.Deployment == c.Info.Deployment {
		return e.Message
	}
	return e.Message + " It is the queue of " + e.App + "/" + e.Deployment + "."
}

// timedOut is the message of a request that took too long, in the words of Ray Serve. The limit is in it if it was the request's own, and not,
// for example, the time limit of a call that the method has made.
func timedOut(r *http.Request, x *exchange) string {
	message := "Request " + x.call.Info.Request.String() + " timed out"
	if x.limit > 0 && timed.Late(r.Context()) {
		limit := strconv.FormatFloat(x.limit.Seconds(), 'f', -1, 64)
		if !strings.Contains(limit, ".") {
			limit += ".0"
		}
		message += " after " + limit + "s"
	}
	return message + "."
}

// textOf is an error in text: the code and the message, or the words of Ray Serve, which programs compare, where it has any. For example, the
// answer to a method that has failed is "Internal Server Error". The log has the cause under the id that is in the header X-Request-Id.
func textOf(x *exchange, e *call.Error, status int, message string) string {
	switch {
	case message == withheld && status == http.StatusInternalServerError:
		return http.StatusText(status)
	case message == withheld:
		return e.Code.String() + ": " + withheld + " " + x.call.Info.Request.String()
	case e.Public == "" && (e.Reason == helvetype.ReasonBackpressure || e.Reason == helvetype.ReasonDeadline):
		return message
	}
	return e.Code.String() + ": " + message
}

// aboutRequest reports whether an error is about the client's data: an error that the proxy or the ingress method's
// decoding found. The same reasons from a call deeper in the composition are a fault of the program, not of the
// client.
func aboutRequest(c *call.Call, e *call.Error) bool {
	if e.Reason == helvetype.ReasonTooLarge && e.Remote { // the other side has the arguments already, so the result is too large
		return false
	}
	return e.Deployment == "" || c.Info.Place != nil && e.Deployment == c.Info.Deployment && e.Method == c.Info.Method
}

// logFailure logs why a request failed. A client that went away cancelled its call, which is no failure. A replica in Python logs its exceptions
// itself, with lines for the frames.
func (p *Proxy) logFailure(r *http.Request, level slog.Level, what string, c *call.Call, e *call.Error) {
	if e.Logged || r.Context().Err() != nil && e.Reason == helvetype.ReasonCancelled {
		return
	}
	message := e.Message
	if e.Reason == helvetype.ReasonDeadline && message == context.DeadlineExceeded.Error() {
		message = "the request took longer than it may"
	}
	p.log.LogAttrs(r.Context(), level, what, slog.String("request_id", c.Info.Request.String()), slog.String("app", e.App),
		slog.String("deployment", e.Deployment), slog.String("method", e.Method), slog.String("replica", e.Replica),
		slog.String("reason", string(e.Reason)), slog.String("error", message), slog.String("traceback", e.Traceback))
}

// clientError is e as the client sees it: a mistake in the data of a call deeper in the composition is a fault of the program.
func clientError(c *call.Call, e *call.Error) *call.Error {
	switch e.Reason {
	case helvetype.ReasonBadInput, helvetype.ReasonUnsupportedMedia, helvetype.ReasonMethodNotAllowed, helvetype.ReasonTooLarge:
		if !aboutRequest(c, e) {
			inner := *e
			inner.Code, inner.Reason, inner.Public = helvetype.CodeInternal, helvetype.ReasonInternal, ""
			e = &inner
		}
	}
	return e
}

// errorBody is an error in JSON.
type errorBody struct {
	Code      string           `json:"code"`
	Reason    helvetype.Reason `json:"reason,omitempty"`
	Message   string           `json:"message"`
	RequestID string           `json:"request_id,omitempty"`
}

func errorBodyOf(r *http.Request, x *exchange, e *call.Error) errorBody {
	return errorBody{e.Code.String(), e.Reason, publicMessage(r, x, e), x.call.Info.Request.String()}
}

func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, x *exchange, e *call.Error) {
	c := &x.call
	x.failure.Store(e)
	e = clientError(c, e)
	status, id := statusOf(e), c.Info.Request.String()
	message := publicMessage(r, x, e)
	switch { // a text that the client does not get has to be in the log; that of a public error is the text of the errors that wrap it
	case message == withheld, e.Public != "" && status >= http.StatusInternalServerError:
		p.logFailure(r, slog.LevelError, "request failed", c, e)
	case e.Reason == helvetype.ReasonDeadline:
		p.logFailure(r, slog.LevelWarn, "request failed", c, e)
	case e.Public != "":
		p.logFailure(r, slog.LevelDebug, "request failed", c, e)
	}
	h := w.Header()
	h["X-Request-Id"] = []string{id}
	h.Del("Location") // set by a handler that failed
	if e.Reason == helvetype.ReasonBackpressure {
		if e.HTTP == 0 {
			h.Set("Retry-After", "1")
		} else if e.Retry > 0 {
			h.Set("Retry-After", strconv.Itoa(e.Retry))
		}
	}
	for _, of := range []string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified", "Cache-Control"} {
		h.Del(of) // a handler set it for an answer that did not come
	}
	switch {
	case p.cut.Load() || e.Reason == helvetype.ReasonCancelled && context.Cause(r.Context()) == context.Canceled: //nolint:errorlint // as the server has it
		w.WriteHeader(status) // for the access log: the client is gone
	case acceptsJSON(r):
		writeError(w, status, errorBodyOf(r, x, e))
	default:
		writeText(w, status, textOf(x, e, status, message))
	}
}

// writeText is http.Error with a length: the goroutine of a request may end before the server has seen the end of the answer. There is no line feed
// at the end, because programs compare the text with that of Ray Serve.
func writeText(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h["Content-Type"], h["Content-Length"] = textPlain, []string{strconv.Itoa(len(text))}
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	io.WriteString(w, text) //nolint:errcheck // the client may be gone
}

func acceptsJSON(r *http.Request) bool {
	return strings.Contains(strings.Join(r.Header["Accept"], ","), "application/json")
}

func writeError(w http.ResponseWriter, status int, of errorBody) {
	b, _ := json.Marshal(map[string]errorBody{"error": of})
	h := w.Header()
	h["Content-Type"], h["Content-Length"] = applicationJSON, []string{strconv.Itoa(len(b))}
	w.WriteHeader(status)
	w.Write(b) //nolint:errcheck // the client may be gone
}

// plainError answers with an error that is about no call.
func plainError(w http.ResponseWriter, r *http.Request, status int, code helvetype.Code, message string) {
	if !acceptsJSON(r) {
		writeText(w, status, message)
		return
	}
	id := ""
	if ids := w.Header()["X-Request-Id"]; len(ids) > 0 {
		id = ids[0]
	}
	reason := helvetype.ReasonDeploymentUnavailable // the node, the application or the path is not there
	switch status {
	case http.StatusBadRequest:
		reason = helvetype.ReasonBadInput
	case http.StatusMethodNotAllowed:
		reason = helvetype.ReasonMethodNotAllowed
	}
	writeError(w, status, errorBody{code.String(), reason, message, id})
}
