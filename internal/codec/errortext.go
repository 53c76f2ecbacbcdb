package codec

import (
	"fmt"

	"github.com/helve-serve/helve/internal/call"
)

// textMax is the longest text, in bytes, of an error about a value. Many errors quote the value, also errors of a
// type's own UnmarshalJSON and of package encoding/json, and the value may be as large as a body: a number of 64 MiB
// would be quoted whole to its sender, and in the log.
const textMax = 2 << 10

// shortened returns err with a text of at most about textMax bytes. A longer text loses its middle.
func shortened(err error) error {
	if err == nil {
		return nil
	}
	text := call.TextOf(err)
	if len(text) <= textMax {
		return err
	}
	return &boundedError{fmt.Sprintf("%s ... %s (%d bytes)", text[:textMax*3/4], text[len(text)-textMax/4:], len(text)), err}
}

type boundedError struct {
	text string
	err  error
}

func (e *boundedError) Error() string { return e.text }
func (e *boundedError) Unwrap() error { return e.err }
