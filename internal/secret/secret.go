// Package secret has the placeholders of files, such as ${env:API_KEY}: how records keep them, how the node puts values in their place, and how
// values are hidden where the node prints.
//
// A file says env_vars: {API_KEY: "${env:API_KEY}"}. The reader of files seals the text ([Seal]): the record has "${!env:API_KEY}", a form that no
// file and no program writes, so that the text ${env:X} of a Python program stays as it is. The value is put in its place ([Source.Text]) in the
// moment in which a process starts, a user config is given to a replica or arguments reach a builder, and it is stored nowhere.
// Where the node prints an option, [Redact] shows the placeholder again; every value of env_vars, and a text with the YAML tag !secret, is "***".
// A text that user code has written, such as a traceback, may have a value inside. [Values] has each value that was put in a place, and takes
// it out of lines and events.
package secret

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/helve-serve/helve/internal/nearest"
)

// Hidden stands where a value is not shown.
const Hidden = "***"

// The most bytes of the value of a placeholder, and of a text after all values are in it.
const (
	maxValue = 1 << 20
	maxText  = 4 << 20
)

// The beginnings of placeholders: as users write them, and as records keep them.
const (
	open   = "${"
	sealed = "${!"
)

// placeholder is one of a text, for example ${env:NAME:-none}.
type placeholder struct {
	kind       string // "env", "file" or "secret"
	name       string // of the variable, the path, or the value of a secret in base64
	initial    string // the value without a variable or file of that name
	hasInitial bool
}

func (p placeholder) String() string {
	s := p.kind + ":" + p.name
	if p.hasInitial {
		s += ":-" + p.initial
	}
	return s + "}"
}

// parse reads the inside of a placeholder of the kinds env, file and secret: "env:NAME:-none". ok is false for every other text.
func parse(inside string) (p placeholder, ok bool) {
	p.kind, p.name, ok = strings.Cut(inside, ":")
	if !ok || p.kind != "env" && p.kind != "file" && p.kind != "secret" {
		return p, false
	}
	if p.kind != "secret" {
		p.name, p.initial, p.hasInitial = strings.Cut(p.name, ":-")
	}
	return p, true
}

// check finds the mistake of a placeholder that a user has written.
func (p placeholder) check() error {
	switch {
	case p.kind == "env" && !isVariable(p.name):
		return fmt.Errorf("${%s: %q is no name of an environment variable", p, p.name)
	case p.kind == "file" && !filepath.IsAbs(p.name):
		return fmt.Errorf("${%s: the path must begin with /, because the node reads the file, in a directory of its own", p)
	}
	return nil
}

// kinds are the kinds of placeholders that users write.
var kinds = []string{"env", "file"} //nolint:gochecknoglobals // a constant

// typo is the mistake of a text that was probably meant to be a placeholder, such as ${fil:/run/key}, ${ENV:KEY}, ${env KEY} or ${secret:KEY}. A text for another program stays
// as it is, for example ${HOME} for a shell and ${user:name} for a template.
func typo(inside string, closed bool) error {
	kind, name, found := strings.Cut(inside, ":")
	near := strings.TrimSpace(kind)
	switch meant := nearest.Of(near, kinds, 1); {
	case !closed:
	case found && near == "secret":
		return fmt.Errorf("%s%s}: there is no such placeholder: ${file:PATH} is the text of a file, ${env:NAME} a variable of the node; $${ is the text ${", open, inside)
	case found && meant != "":
		return fmt.Errorf("%s%s}: there is no such placeholder; did you mean ${%s:%s}? $${ is the text ${", open, inside, meant, strings.TrimSpace(name))
	default:
		kind, name, found = strings.Cut(near, " ")
		if meant := nearest.Of(kind, kinds, 0); found && meant != "" {
			return fmt.Errorf("%s%s}: a placeholder has a colon; did you mean ${%s:%s}? $${ is the text ${", open, inside, meant, strings.TrimSpace(name))
		}
	}
	return nil
}

func isVariable(name string) bool {
	for i, c := range []byte(name) {
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// Seal gives a text of a file the form in which records keep it: ${env:NAME} and ${file:PATH} become placeholders, and $${ becomes ${. Text such as
// ${other} or $NAME stays. The error is about a placeholder that cannot be read, such as ${env:} or ${env:NAME without its end.
func Seal(text string) (string, error) {
	if !strings.Contains(text, open) {
		return text, nil
	}
	var b strings.Builder
	for {
		i := strings.Index(text, open)
		if i < 0 {
			b.WriteString(text)
			return b.String(), nil
		}
		if i > 0 && text[i-1] == '$' { // $${ is the text ${
			b.WriteString(text[:i-1] + open)
			text = text[i+len(open):]
			continue
		}
		b.WriteString(text[:i])
		rest := text[i+len(open):]
		inside, after, closed := strings.Cut(rest, "}")
		p, ok := parse(inside)
		if !ok || p.kind == "secret" {
			if err := typo(inside, closed); err != nil {
				return "", err
			}
			b.WriteString(open)
			text = rest
			continue
		}
		if !closed {
			return "", fmt.Errorf("%s%s has no end: write } behind it, or $${ for the text ${", open, shorten(rest))
		}
		if err := p.check(); err != nil {
			return "", err
		}
		b.WriteString(sealed + p.String())
		text = after
	}
}

func shorten(s string) string {
	if len(s) > 20 {
		return s[:20] + "..."
	}
	return s
}

// Mark gives a text that a file marks as secret, by the YAML tag !secret, the form in which records keep it. For example, !secret hunter2 is
// kept as "${!secret:aHVudGVyMg}". The record has the text, as the file has it: a placeholder ${env:NAME} keeps it out of both.
func Mark(text string) string {
	return sealed + "secret:" + base64.RawStdEncoding.EncodeToString([]byte(text)) + "}"
}

// Has says whether a text, or JSON, may have a placeholder inside.
func Has[T ~string | ~[]byte](text T) bool { return strings.Contains(string(text), sealed) }

// each calls f for the parts of a text: with the text between placeholders, and with each placeholder.
func each(text string, f func(plain string, p *placeholder) error) error {
	for {
		before, rest, found := strings.Cut(text, sealed)
		if err := f(before, nil); err != nil || !found {
			return err
		}
		inside, after, closed := strings.Cut(rest, "}")
		p, ok := parse(inside)
		if !ok || !closed { // user text that begins like a placeholder
			if err := f(sealed, nil); err != nil {
				return err
			}
			text = rest
			continue
		}
		if err := f("", &p); err != nil {
			return err
		}
		text = after
	}
}

// Source gives the values of placeholders. A zero Source is that of this process: its environment and its files.
type Source struct {
	Env  func(name string) (value string, found bool)
	File func(path string) ([]byte, error)
}

// Text puts values in the place of the placeholders of a text. seen gets each value; it may be nil. The error names the placeholder, and the
// command or line to change.
func (s Source) Text(text string, seen *Values) (string, error) {
	if !Has(text) {
		return text, nil
	}
	var b strings.Builder
	err := each(text, func(plain string, p *placeholder) error {
		b.WriteString(plain)
		if p != nil {
			v, err := s.value(*p, seen)
			if err != nil {
				return err
			}
			b.WriteString(v)
		}
		if b.Len() > maxText {
			return fmt.Errorf("the text is larger than %d bytes with the values of its placeholders", maxText)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return b.String(), nil
}

func (s Source) value(p placeholder, seen *Values) (string, error) {
	switch p.kind {
	case "secret":
		b, err := base64.RawStdEncoding.DecodeString(p.name)
		if err != nil {
			return "", errors.New("a secret of the record cannot be read")
		}
		seen.add(string(b))
		return string(b), nil
	case "env":
		lookup := s.Env
		if lookup == nil {
			lookup = os.LookupEnv
		}
		if v, ok := lookup(p.name); ok {
			seen.add(v)
			return v, nil
		}
		if !p.hasInitial {
			return "", fmt.Errorf("${env:%s}: the node has no environment variable %s: set it where the node is started, or write ${env:%s:-VALUE} with a default", p.name, p.name, p.name)
		}
	case "file":
		v, err := s.file(p.name)
		if err == nil {
			seen.add(v)
			return v, nil
		}
		if !p.hasInitial || !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("${file:%s}: the node cannot read the file: %w", p.name, err)
		}
	}
	return p.initial, nil
}

// file is the text of a file without the end of its last line.
func (s Source) file(path string) (string, error) {
	read := s.File
	if read == nil {
		read = readFile
	}
	b, err := read(path)
	switch {
	case err != nil:
		var of *os.PathError
		if errors.As(err, &of) {
			return "", of.Err // the path is in the error already
		}
		return "", err
	case len(b) > maxValue:
		return "", fmt.Errorf("it has more than %d bytes", maxValue)
	case !utf8.Valid(b):
		return "", errors.New("it is no text in UTF-8")
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}

// readFile reads a regular file, and of a longer one the first bytes. A pipe, for example, could have no end.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxValue+1))
}
