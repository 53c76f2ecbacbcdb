package call

import "strings"

// Codec is the serialization of a payload. The numbers are wire format (docs/wire.md).
type Codec uint8

// The serializations. Native is a Go value in memory, which never leaves its process. Plain is a request and never the
// codec of a payload: the HTTP proxy asks for "an answer in Text, Raw, JSON or None, as the value needs".
const (
	None        Codec = 0
	Msgpack     Codec = 1
	Cloudpickle Codec = 2
	Pickle      Codec = 3
	JSON        Codec = 4
	Raw         Codec = 5  // bytes, unchanged
	Text        Codec = 6  // UTF-8 text, unchanged
	Event       Codec = 7  // JSON of a server-sent event: only in an answer to Plain
	Head        Codec = 32 // no value: the head of an HTTP answer, before the first item of a stream
	Plain       Codec = 254
	Native      Codec = 255
)

// codecs has all names of serializations, once. Python has its own table in _encoding.py. The handle options request_serialization
// and response_serialization take the names that are optional, and list them in this order in errors.
var codecs = []struct {
	codec    Codec
	name     string
	optional bool
}{
	{Cloudpickle, "cloudpickle", true},
	{Pickle, "pickle", true},
	{Msgpack, "msgpack", true},
	{JSON, "orjson", true},
	{Raw, "raw", true},
	{None, "none", false},
	{Text, "text", false},
	{Event, "event", false},
	{Head, "head", false},
	{Plain, "plain", false},
	{Native, "native", false},
}

// String is the codec's name, for handle options and for errors.
func (c Codec) String() string {
	for _, row := range codecs {
		if row.codec == c {
			return row.name
		}
	}
	return "unknown"
}

// CodecNames are the names that a handle option may have.
func CodecNames() []string {
	var names []string
	for _, row := range codecs {
		if row.optional {
			names = append(names, row.name)
		}
	}
	return names
}

// CodecNamed finds a codec by the name in a handle option, in upper or lower case. The second result is false for an
// unknown name.
func CodecNamed(name string) (Codec, bool) {
	for _, row := range codecs {
		if row.optional && strings.EqualFold(row.name, name) {
			return row.codec, true
		}
	}
	return None, false
}
