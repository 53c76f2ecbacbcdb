package codec

import (
	"encoding/binary"
	"errors"
	"strconv"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// AppendError writes e as the error envelope of docs/wire.md behind b. Long texts lose their middle.
func AppendError(b []byte, e *call.Error) []byte {
	b = appendEntry(b, "reason", string(e.Reason))
	if e.Code != call.RowOf(e.Reason).Code {
		b = appendEntry(b, "code", strconv.FormatUint(uint64(e.Code), 10))
	}
	b = appendEntry(b, "message", call.Cut(e.Message))
	for _, kv := range [...]struct{ key, value string }{
		{"app", e.App}, {"deployment", e.Deployment}, {"method", call.Cut(e.Method)}, {"replica", e.Replica}, {"request", e.RequestID},
		{"public", call.Cut(e.Public)}, {"type", call.Cut(e.Type)}, {"traceback", call.Cut(e.Traceback)}, {"pickle", string(e.Pickle)},
	} {
		if kv.value != "" {
			b = appendEntry(b, kv.key, kv.value)
		}
	}
	if e.HTTP != 0 {
		b = appendEntry(b, "http", strconv.Itoa(e.HTTP))
		b = appendEntry(b, "retry", strconv.Itoa(e.Retry))
	}
	if len(e.Known) > 0 { // peers of an older version read only the first error, from these two entries
		b = AppendCauses(b, e.Known[:1])
	}
	if len(e.Known) > 1 {
		b = appendEntry(b, "causes", string(AppendCauses(nil, e.Known)))
	}
	return b
}

// AppendCauses writes a list of errors in the form that [ParseCauses] reads.
func AppendCauses(b []byte, known []call.KnownError) []byte {
	for _, k := range known {
		b = appendEntry(b, "known", k.Name)
		if len(k.Value) > 0 {
			b = appendEntry(b, "value", string(k.Value))
		}
	}
	return b
}

// ParseCauses reads the value of the envelope's entry "causes". It is a list of entries "known", each followed by its
// entry "value" if it has one.
func ParseCauses(data []byte) (known []call.KnownError, err error) {
	last := -1 // index of the error that the next entry "value" belongs to; -1 if there is none
	err = entries(data, func(key, value string) {
		switch {
		case key == "known" && value != "" && len(known) < maxKnown:
			last, known = len(known), append(known, call.KnownError{Name: value})
		case key == "value" && value != "" && last >= 0:
			known[last].Value = []byte(value)
		case key == "known":
			last = -1
		}
	})
	return known, err
}

func appendEntry(b []byte, key, value string) []byte {
	b = append(b, byte(len(key)))
	b = append(b, key...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

var errEnvelope = errors.New("malformed error envelope")

// entries calls each for every entry of an envelope, in order.
func entries(data []byte, each func(key, value string)) error {
	for len(data) > 0 {
		k := int(data[0])
		if len(data) < 1+k+4 {
			return errEnvelope
		}
		key := string(data[1 : 1+k])
		n := uint64(binary.LittleEndian.Uint32(data[1+k:]))
		data = data[1+k+4:]
		if uint64(len(data)) < n {
			return errEnvelope
		}
		each(key, string(data[:n]))
		data = data[n:]
	}
	return nil
}

// ParseError reads an envelope. Unknown keys are ignored; reason and message are required.
func ParseError(data []byte) (*call.Error, error) {
	e := &call.Error{Remote: true}
	code, message, causes := "", false, ""
	var one call.KnownError
	err := entries(data, func(key, value string) {
		switch key {
		case "reason":
			e.Reason = helvetype.Reason(value)
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
		case "http":
			if value == "503" || value == "429" {
				e.HTTP, _ = strconv.Atoi(value)
			}
		case "retry":
			if n, err := strconv.ParseUint(value, 10, 31); err == nil {
				e.Retry = int(n)
			}
		case "known":
			one.Name = value
		case "value":
			if value != "" {
				one.Value = []byte(value)
			}
		case "causes":
			causes = value
		}
	})
	if err != nil || e.Reason == "" || !message {
		return nil, errEnvelope
	}
	switch {
	case causes != "":
		if e.Known, err = ParseCauses([]byte(causes)); err != nil {
			return nil, err
		}
	case one.Name != "":
		e.Known = []call.KnownError{one}
	}
	e.Code = call.RowOf(e.Reason).Code
	if code != "" {
		c, err := strconv.ParseUint(code, 10, 32)
		if err != nil {
			return nil, errEnvelope
		}
		e.Code = helvetype.Code(c)
	}
	return e, nil
}
