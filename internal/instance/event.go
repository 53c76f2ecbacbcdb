package instance

import (
	"encoding/json"
	"reflect"
	"strconv"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
)

// event has the fields of helve.Event, a server-sent event, which is defined above this package.
type event struct {
	ID    string
	Event string
	Data  any
	Retry time.Duration
}

var eventType = reflect.TypeFor[event]()

// isEvent reports whether t is helve.Event.
func isEvent(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.Name() == "Event" && t.ConvertibleTo(eventType)
}

// appendResult appends a result or an item in the codec as.
func appendResult(b []byte, cd *codec.Codec, as call.Codec, v any) ([]byte, error) {
	if as != call.Event {
		return cd.Append(b, as, v)
	}
	e := reflect.ValueOf(v).Convert(eventType).Interface().(event) //nolint:forcetypeassert // see isEvent
	b = append(b, '{')
	for _, field := range []struct{ name, value string }{{`"id":`, e.ID}, {`"event":`, e.Event}} {
		if field.value != "" {
			text, _ := json.Marshal(field.value) // a string always encodes
			b = append(append(append(b, field.name...), text...), ',')
		}
	}
	if e.Retry > 0 {
		b = append(strconv.AppendInt(append(b, `"retry":`...), max(e.Retry.Milliseconds(), 1), 10), ',')
	}
	if e.Data != nil {
		data, err := cd.Append(nil, call.JSON, e.Data)
		if err != nil {
			return b, err
		}
		b = append(append(b, `"data":`...), data...)
	} else if b[len(b)-1] == ',' {
		b = b[:len(b)-1]
	}
	return append(b, '}'), nil
}
