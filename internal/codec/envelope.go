package codec

import (
	"encoding/binary"
	"errors"
	"strconv"

	"github.com/helve-serve/helve/internal/call"
)

// AppendError writes the error envelope of docs/wire.md.
func AppendError(b []byte, e *call.Error) []byte {
	b = appendEntry(b, "reason", string(e.Reason))
	if e.Code != call.RowOf(e.Reason).Code {
		b = appendEntry(b, "code", strconv.FormatUint(uint64(e.Code), 10))
	}
	b = appendEntry(b, "message", e.Message)
	for _, kv := range [...]struct{ key, value string }{
		{"app", e.App}, {"deployment", e.Deployment}, {"method", e.Method}, {"replica", e.Replica}, {"request", e.RequestID},
		{"public", e.Public}, {"type", e.Type}, {"traceback", e.Traceback}, {"pickle", string(e.Pickle)},
		{"known", e.Known}, {"value", string(e.Value)},
	} {
		if kv.value != "" {
			b = appendEntry(b, kv.key, kv.value)
		}
	}
	return b
}

func appendEntry(b []byte, key, value string) []byte {
	b = append(b, byte(len(key)))
	b = append(b, key...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

var errEnvelope = errors.New("malformed error envelope")

// ParseError reads an envelope. Keys that are not known are ignored; reason and message are required.
func ParseError(data []byte) (*call.Error, error) {
	e := &call.Error{Remote: true}
	code, message := "", false
	for len(data) > 0 {
		k := int(data[0])
		if len(data) < 1+k+4 {
			return nil, errEnvelope
		}
		key := string(data[1 : 1+k])
		n := uint64(binary.LittleEndian.Uint32(data[1+k:]))
		data = data[1+k+4:]
		if uint64(len(data)) < n {
			return nil, errEnvelope
		}
		value := string(data[:n])
		data = data[n:]
		switch key {
		case "reason":
			e.Reason = call.Reason(value)
		case "code":
			code = value
		case "message":
			e.Message, message = value, true
		case "app":
			e.App = value
		case "deployment":
			e.Deployment = value
		case "method":
			e.Method = value
		case "replica":
			e.Replica = value
		case "request":
			e.RequestID = value
		case "public":
			e.Public = value
		case "type":
			e.Type = value
		case "traceback":
			e.Traceback = value
		case "pickle":
			e.Pickle = []byte(value)
		case "known":
			e.Known = value
		case "value":
			e.Value = []byte(value)
		}
	}
	if e.Reason == "" || !message {
		return nil, errEnvelope
	}
	e.Code = call.RowOf(e.Reason).Code
	if code != "" {
		c, err := strconv.ParseUint(code, 10, 32)
		if err != nil {
			return nil, errEnvelope
		}
		e.Code = call.Code(c)
	}
	return e, nil
}
