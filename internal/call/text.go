package call

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxName bounds the names of applications and deployments in bytes, and MaxID a model id or session id.
const (
	MaxName = 128
	MaxID   = 16 << 10
)

// MaxErrorText bounds the message and the traceback of an error that travels; the middle of a longer one is left out.
const MaxErrorText = 256 << 10

// CheckID says what is wrong with a model id or session id, which is UTF-8 wherever it is read; nil if nothing is.
func CheckID(id string) error {
	switch {
	case len(id) > MaxID:
		return fmt.Errorf("must be at most %d bytes long, is %s of %d bytes", MaxID, Quoted(id), len(id))
	case !utf8.ValidString(id):
		return fmt.Errorf("must be UTF-8, is %s", Quoted(id))
	case strings.IndexByte(id, 0) >= 0:
		return fmt.Errorf("must not have a zero byte, is %s", Quoted(id))
	}
	return nil
}

// Quoted is a text in a message: its beginning, if it is long.
func Quoted(s string) string {
	const most = 60
	if len(s) <= most {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q... (%d bytes)", valid(s[:most]), len(s))
}

// short is a name in an error, which may be a client's: its beginning, if no method has so long a one.
func short(name string) string {
	if len(name) <= 1024 {
		return name
	}
	return valid(name[:60]) + "..."
}

// Cut is a text of an error without its middle, if it is long. It is the same when it is cut again.
func Cut(s string) string {
	if len(s) <= MaxErrorText {
		return s
	}
	const half = MaxErrorText/2 - 100
	return fmt.Sprintf("%s\n... (%d bytes, of which the middle is left out) ...\n%s", valid(s[:half]), len(s), valid(s[len(s)-half:]))
}

// valid takes the parts of characters away that a cut has left at the ends.
func valid(s string) string {
	for i := 0; i < utf8.UTFMax && len(s) > 0; i++ {
		if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n > 1 {
			break
		}
		s = s[:len(s)-1]
	}
	for i := 0; i < utf8.UTFMax && len(s) > 0 && !utf8.RuneStart(s[0]); i++ {
		s = s[1:]
	}
	return s
}
