package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
)

// Resolver puts the values of one node in the place of placeholders, and knows them from then on, to take them out of texts. A nil Resolver puts the
// values there too, and takes nothing out.
type Resolver struct {
	Source
	values  Values
	pickles sync.Map // digests of pickles whose references are known
}

// of gives the parts; for a nil Resolver the source is this process.
func (r *Resolver) of() (Source, *Values) {
	if r == nil {
		return Source{}, nil
	}
	return r.Source, &r.values
}

// Config is a user config, or another value, with the values in it.
func (r *Resolver) Config(raw json.RawMessage) (json.RawMessage, error) {
	source, seen := r.of()
	return source.JSON(raw, seen)
}

// Text is a text with the values in it.
func (r *Resolver) Text(text string) (string, error) {
	source, seen := r.of()
	return source.Text(text, seen)
}

// Environ is an environment of a process, as NAME=VALUE, with the values in it. Values of variables that are secrets by their names, such as API_KEY, are known from then on.
func (r *Resolver) Environ(env []string) ([]string, error) {
	var out []string
	_, seen := r.of()
	for i, e := range env {
		seen.named(e)
		if !Has(e) {
			if out != nil {
				out = append(out, e)
			}
			continue
		}
		if out == nil {
			out = append(make([]string, 0, len(env)), env[:i]...)
		}
		name, value, _ := strings.Cut(e, "=")
		value, err := r.Text(value)
		if err != nil {
			return nil, fmt.Errorf("env_vars.%s: %w", name, err)
		}
		if strings.ContainsRune(value, 0) {
			return nil, fmt.Errorf("env_vars.%s: the value has a zero byte", name)
		}
		out = append(out, name+"="+value)
	}
	if out == nil {
		return env, nil
	}
	return out, nil
}

// Note makes the values known that placeholders of a text or of JSON have, and that of a text NAME=VALUE with the name of a secret, without another use. For example, a node takes over a worker that has printed
// nothing yet: its next line may have a value that only the node before has put into its environment.
func (r *Resolver) Note(texts ...string) {
	if r == nil {
		return
	}
	for _, text := range texts {
		r.values.named(text)
		if !Has(text) {
			continue
		}
		_ = each(text, func(_ string, p *placeholder) error { // f has no error
			if p != nil {
				_, _ = r.value(*p, &r.values) // a value that is not there is known to no process
			}
			return nil
		})
	}
}

// NotePickle makes the values known that a pickle of a program refers to: the program has put placeholders in the place of values that it had from a file, and the worker that reads
// the pickle puts the values of its own environment there (helve._secret). For example, helve run shop.yaml gives a constructor the argument "${env:PASSWORD}" of the file, and the replica
// prints it. A pickle with a digest is read once, but for one that cannot be read yet (nil); "" is for one in memory. Bytes that merely look like a reference do no harm.
func (r *Resolver) NotePickle(digest string, read func() []byte) {
	if r == nil {
		return
	}
	if _, known := r.pickles.Load(digest); known {
		return
	}
	pickle := read()
	if digest != "" && pickle != nil {
		r.pickles.Store(digest, true)
	}
	for {
		_, rest, found := bytes.Cut(pickle, []byte(referred))
		if !found {
			return
		}
		pickle = rest
		_, text, _ := bytes.Cut(rest[:min(len(rest), maxReferred)], []byte(":")) // behind the type, str or bytes
		end := 0
		for end < len(text) && isBase64(text[end]) {
			end++
		}
		if b, err := base64.StdEncoding.DecodeString(string(text[:end])); err == nil {
			r.Note(string(b))
		}
	}
}

const (
	referred    = "helve.secret:" // the begin of a reference in a pickle, see helve._pickling.SECRET
	maxReferred = 2 * maxText     // bytes of a reference that are read
)

func isBase64(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '='
}

// Scrub is a text with "***" in the place of each known value of six bytes or more.
func (r *Resolver) Scrub(text string) string {
	if r == nil {
		return text
	}
	return r.values.Scrub(text)
}

// Hides says whether there is a value to take out.
func (r *Resolver) Hides() bool {
	if r == nil {
		return false
	}
	r.values.mu.RLock()
	defer r.values.mu.RUnlock()
	return r.values.replacer != nil
}

// ScrubLine is [Resolver.Scrub] for a line of a worker. The result may be the line itself.
func (r *Resolver) ScrubLine(line []byte) []byte {
	if !r.Hides() {
		return line
	}
	return []byte(r.Scrub(string(line)))
}

// Values are the values of the placeholders of a text or of JSON, by the placeholders as records have them, for a process that puts them in their place itself:
// {"${!env:KEY}": "hunter2"}.
func (r *Resolver) Values(text string) (map[string]string, error) {
	if !Has(text) {
		return nil, nil
	}
	source, seen := r.of()
	all := map[string]string{}
	err := each(text, func(_ string, p *placeholder) error {
		if p == nil {
			return nil
		}
		v, err := source.value(*p, seen)
		all[sealed+p.String()] = v
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}
