package logs

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Clean appends a line in a form that is safe in a file or on a terminal. Characters that move the cursor, hide text
// or look like the beginning of another line become escapes, and so do bytes that are not UTF-8. For example, a
// carriage return, with which a text could be drawn over the one before it, becomes \r. With colours, sequences that
// set colours (ESC [ 31 m) stay, and the line ends with a reset.
func Clean(dst, line []byte, colours bool) []byte {
	plain := true
	for _, c := range line {
		if (c < ' ' || c >= 0x7f) && c != '\t' {
			plain = false
			break
		}
	}
	if plain {
		return append(dst, line...)
	}
	coloured := false
	for len(line) > 0 {
		if n := colour(line); n > 0 && colours {
			dst, line, coloured = append(dst, line[:n]...), line[n:], true
			continue
		}
		r, n := utf8.DecodeRune(line)
		switch {
		case r == utf8.RuneError && n == 1:
			dst = fmt.Appendf(dst, `\x%02x`, line[0])
		case r == '\t' || unicode.IsPrint(r) || unicode.Is(unicode.Zs, r) || r == '\u200c' || r == '\u200d': // the last two join letters and emoji
			dst = append(dst, line[:n]...)
		case r == '\r':
			dst = append(dst, `\r`...)
		case r < utf8.RuneSelf:
			dst = fmt.Appendf(dst, `\x%02x`, r)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		line = line[n:]
	}
	if coloured {
		dst = append(dst, "\x1b[0m"...)
	}
	return dst
}

// colour is the length of a sequence at the beginning of b that sets colours, or 0.
func colour(b []byte) int {
	if len(b) < 3 || b[0] != 0x1b || b[1] != '[' {
		return 0
	}
	for i, c := range b[2:] {
		switch {
		case c == 'm':
			return i + 3
		case c != ';' && c != ':' && (c < '0' || c > '9'):
			return 0
		}
	}
	return 0
}
