package secret

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// HiddenKeys are the fields of options and files whose texts are never shown, also without a placeholder or tag.
var hiddenKeys = []string{"env_vars", "ssl_keyfile_password", "otlp_headers"} //nolint:gochecknoglobals // a constant

// Redact is JSON as it may be shown: every text below a key env_vars, ssl_keyfile_password or otlp_headers is "***", and so is each text that is marked as secret.
// A placeholder is shown as the file has it, for example "${env:API_KEY}", also below such a key if it is the whole text. JSON that cannot be read is "***" as a whole.
func Redact(raw json.RawMessage) json.RawMessage { return redact(raw, false) }

// RedactAt is [Redact] for the value of an option, whose path may be below one of these keys, for example "runtime_env.env_vars".
func RedactAt(path string, raw json.RawMessage) json.RawMessage {
	return redact(raw, slices.ContainsFunc(strings.Split(path, "."), func(key string) bool { return slices.Contains(hiddenKeys, key) }))
}

func redact(raw json.RawMessage, hidden bool) json.RawMessage {
	if len(raw) == 0 {
		return raw
	}
	out, err := rewrite(raw, hidden, func(text string, hidden bool) (string, error) {
		if hidden && !whole(text) {
			return Hidden, nil
		}
		return Shown(text), nil
	})
	if err != nil {
		return json.RawMessage(`"` + Hidden + `"`)
	}
	return out
}

// whole says whether a text is one placeholder and nothing else. For example, "${env:API_KEY}" says nothing about the value, and "admin:${env:API_KEY}" has a part of it.
func whole(text string) bool {
	rest, begins := strings.CutPrefix(text, sealed)
	inside, after, closed := strings.Cut(rest, "}")
	p, ok := parse(inside)
	return begins && closed && ok && after == "" && p.kind != "secret"
}

// Shown is one text as it may be shown: placeholders as the file has them, and marked secrets as "***".
func Shown(text string) string {
	if !Has(text) {
		return text
	}
	var b strings.Builder
	_ = each(text, func(plain string, p *placeholder) error { // f has no error
		b.WriteString(plain)
		switch {
		case p == nil:
		case p.kind == "secret":
			b.WriteString(Hidden)
		default:
			q := *p
			if q.hasInitial {
				q.initial = Hidden
			}
			b.WriteString(open + q.String())
		}
		return nil
	})
	return b.String()
}

// JSON puts values in the place of the placeholders of each text of a value, but not of the keys of objects. Errors are as from [Source.Text].
func (s Source) JSON(raw json.RawMessage, seen *Values) (json.RawMessage, error) {
	if !Has(raw) {
		return raw, nil
	}
	return rewrite(raw, false, func(text string, _ bool) (string, error) { return s.Text(text, seen) })
}

// SealJSON is [Seal] for each text of a value.
func SealJSON(raw json.RawMessage) (json.RawMessage, error) {
	if !bytes.Contains(raw, []byte(open)) {
		return raw, nil
	}
	return rewrite(raw, false, func(text string, _ bool) (string, error) { return Seal(text) })
}

// rewrite is JSON with other texts in the place of its own. f also hears whether a text is below one of the hidden keys, or all is. The order of keys
// and the digits of numbers stay.
func rewrite(raw json.RawMessage, hidden bool, f func(text string, hidden bool) (string, error)) (json.RawMessage, error) {
	if !json.Valid(raw) {
		return nil, errNoJSON
	}
	r := rewriter{d: json.NewDecoder(bytes.NewReader(raw)), f: f}
	r.d.UseNumber()
	if err := r.value(hidden); err != nil {
		return nil, err
	}
	return r.out.Bytes(), nil
}

type rewriter struct {
	d   *json.Decoder
	out bytes.Buffer
	f   func(text string, hidden bool) (string, error)
}

func (r *rewriter) value(hidden bool) error {
	token, err := r.d.Token()
	if err != nil {
		return err
	}
	switch v := token.(type) {
	case json.Delim:
		r.out.WriteRune(rune(v))
		for first := true; r.d.More(); first = false {
			if !first {
				r.out.WriteByte(',')
			}
			below := hidden
			if v == '{' {
				key, err := r.d.Token()
				if err != nil {
					return err
				}
				below = hidden || slices.Contains(hiddenKeys, key.(string)) //nolint:forcetypeassert // keys of JSON are texts
				r.text(key)
				r.out.WriteByte(':')
			}
			if err := r.value(below); err != nil {
				return err
			}
		}
		end, err := r.d.Token()
		if err != nil {
			return err
		}
		r.out.WriteRune(rune(end.(json.Delim))) //nolint:forcetypeassert // after the last value
	case string:
		text, err := r.f(v, hidden)
		if err != nil {
			return err
		}
		r.text(text)
	default:
		if hidden && v != nil {
			v = Hidden
		}
		r.text(v)
	}
	return nil
}

// text writes a scalar without the escapes of HTML.
func (r *rewriter) text(v any) {
	e := json.NewEncoder(&r.out)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)                 // of a text, a number, a boolean or null
	r.out.Truncate(r.out.Len() - 1) // the end of the line
}
