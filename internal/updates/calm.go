package updates

import (
	"bytes"
	"encoding/json"
	"time"
)

// calmEvery is the least time between two items that have an object again whose calm form is the same: only numbers in its sentences, or the sentence of its autoscaler, differ. For example, "Ranker: 41 calls wait" becomes
// "Ranker: 44 calls wait" a second later: a reader that has the first sentence gets the sentence of 5 s later. "Ranker: no replica runs" comes at once.
const calmEvery = 5 * time.Second

// told is a text that a reader has.
type told struct {
	text, calm json.RawMessage
	at         time.Time // of the look that has it
}

// tell says whether the reader gets a text now, and remembers it then.
func (t *told) tell(text, calm json.RawMessage, at time.Time) bool {
	if t.text != nil && bytes.Equal(t.text, text) {
		return false
	}
	if since := at.Sub(t.at); t.text != nil && since >= 0 && since < calmEvery && bytes.Equal(t.calm, calm) {
		return false
	}
	*t = told{text, calm, at}
	return true
}

// numberless is a text without its numbers and their units of time: "has waited for 1m2s" is as "has waited for 59s". Digits behind a letter, or one of # _ - / : are of a name or a time and stay: Ranker#001 is not Ranker#002.
func numberless[T ~string | ~[]byte](text T) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		if !digit(text[i]) || i > 0 && ofName(text[i-1]) {
			out = append(out, text[i])
			i++
			continue
		}
		for i < len(text) && (digit(text[i]) || text[i] == '.' && i+1 < len(text) && digit(text[i+1]) || digit(text[i-1]) && unit(text[i:]) > 0) {
			if n := unit(text[i:]); n > 0 {
				i += n
			} else {
				i++
			}
		}
		out = append(out, '0')
	}
	return out
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func ofName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || digit(c) || bytes.IndexByte([]byte("#_-/:"), c) >= 0
}

// unit is the length of the unit of time at the begin of a text, such as ms; 0 for none.
func unit[T ~string | ~[]byte](text T) int {
	for _, u := range []string{"ms", "us", "ns", "h", "m", "s"} {
		if n := len(u); len(text) >= n && string(text[:n]) == u && (len(text) == n || !letter(text[n])) {
			return n
		}
	}
	return 0
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
