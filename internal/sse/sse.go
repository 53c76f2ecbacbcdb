// Package sse writes the items of a stream as server-sent events, as the EventSource of a browser reads them. For example, the items 1 and
// "a\nb" are the events
//
//	data: 1
//
//	data: a
//	data: b
package sse

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/helve-serve/helve/internal/call"
)

// Header values of a stream of server-sent events. Caches must not keep it, and nginx must not gather it.
var (
	ContentType = []string{"text/event-stream; charset=utf-8"}
	NoCache     = []string{"no-cache"}
	NoBuffering = []string{"no"}
)

// Wanted reports whether the client asks for server-sent events, as an EventSource of a browser does.
func Wanted(r *http.Request) bool {
	for _, line := range r.Header["Accept"] {
		for part := range strings.SplitSeq(line, ",") {
			if t, _, _ := strings.Cut(part, ";"); strings.EqualFold(strings.TrimSpace(t), "text/event-stream") {
				return true
			}
		}
	}
	return false
}

// item is an item of the codec Event (docs/wire.md).
type item struct {
	ID    string          `json:"id"`
	Event string          `json:"event"`
	Retry int64           `json:"retry"` // milliseconds
	Data  json.RawMessage `json:"data"`
}

// Append appends an item in the form of a server-sent event.
func Append(b []byte, p call.Payload) ([]byte, error) {
	data := p.Data
	switch p.Codec {
	case call.Text:
	case call.Raw:
		data = base64.StdEncoding.AppendEncode(nil, data)
	case call.None:
		data = []byte("null")
	case call.Event:
		var e item
		if err := json.Unmarshal(p.Data, &e); err != nil {
			return b, err
		}
		for _, field := range []struct{ name, value string }{{"id", e.ID}, {"event", e.Event}} {
			if strings.ContainsAny(field.value, "\r\n\x00") {
				return b, errors.New("its " + field.name + " has a line break or a zero byte")
			}
			if field.value != "" {
				b = append(append(append(append(b, field.name...), ": "...), field.value...), '\n')
			}
		}
		if e.Retry > 0 {
			b = append(strconv.AppendInt(append(b, "retry: "...), e.Retry, 10), '\n')
		}
		if len(e.Data) == 0 {
			return append(b, '\n'), nil
		}
		var text string
		if data = e.Data; data[0] == '"' && json.Unmarshal(data, &text) == nil {
			data = []byte(text)
		} else {
			data = oneLine(data)
		}
	default:
		data = oneLine(data)
	}
	return append(AppendData(b, data), '\n'), nil
}

// oneLine is JSON without white space if it has line breaks.
func oneLine(data []byte) []byte {
	var line bytes.Buffer
	if bytes.IndexByte(data, '\n') < 0 || json.Compact(&line, data) != nil {
		return data
	}
	return line.Bytes()
}

// AppendData appends a text as the data of an event: a line for each of its lines. The client joins them with "\n".
func AppendData(b, text []byte) []byte {
	for {
		b = append(b, "data: "...)
		i := bytes.IndexAny(text, "\r\n")
		if i < 0 {
			return append(append(b, text...), '\n')
		}
		b = append(append(b, text[:i]...), '\n')
		if text[i] == '\r' && i+1 < len(text) && text[i+1] == '\n' {
			i++
		}
		text = text[i+1:]
	}
}
