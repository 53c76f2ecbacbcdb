package secret_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/secret"
)

func source(values map[string]string) secret.Source {
	return secret.Source{
		Env: func(name string) (string, bool) { v, ok := values[name]; return v, ok },
		File: func(path string) ([]byte, error) {
			v, ok := values[path]
			if !ok {
				return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
			}
			return []byte(v), nil
		},
	}
}

func TestTexts(t *testing.T) {
	t.Parallel()
	from := source(map[string]string{"KEY": "value of key", "/run/pw": "hunter2\n"})
	for _, c := range []struct{ name, text, sealed, resolved, shown string }{
		{"plain", "abc", "abc", "abc", "abc"},
		{"a variable", "${env:KEY}", "${!env:KEY}", "value of key", "${env:KEY}"},
		{"inside", "a ${env:KEY}:${file:/run/pw} b", "a ${!env:KEY}:${!file:/run/pw} b", "a value of key:hunter2 b", "a ${env:KEY}:${file:/run/pw} b"},
		{"a default", "${env:NONE:-x}", "${!env:NONE:-x}", "x", "${env:NONE:-***}"},
		{"an empty default", "${file:/none:-}", "${!file:/none:-}", "", "${file:/none:-***}"},
		{"escaped", "$${env:KEY} $$ $", "${env:KEY} $$ $", "${env:KEY} $$ $", "${env:KEY} $$ $"},
		{"other text", "${HOME} ${x:y} ${user:name} ${file} ${ $KEY", "${HOME} ${x:y} ${user:name} ${file} ${ $KEY", "${HOME} ${x:y} ${user:name} ${file} ${ $KEY", "${HOME} ${x:y} ${user:name} ${file} ${ $KEY"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sealed, err := secret.Seal(c.text)
			if err != nil || sealed != c.sealed {
				t.Fatalf("sealed %q, %v", sealed, err)
			}
			if got, err := from.Text(sealed, nil); err != nil || got != c.resolved {
				t.Errorf("resolved %q, %v", got, err)
			}
			if got := secret.Shown(sealed); got != c.shown {
				t.Errorf("shown %q", got)
			}
		})
	}
}

func TestMistakesOfTexts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"${env:}":              `"" is no name`,
		"${env:1A}":            `"1A" is no name`,
		"${file:relative}":     "the path must begin with /",
		"${env:KEY and no end": "has no end",
		"a ${fil:/run/pw} b":   "${fil:/run/pw}: there is no such placeholder; did you mean ${file:/run/pw}?",
		"${ENV:KEY}":           "did you mean ${env:KEY}?",
		"${ env: KEY }":        "did you mean ${env:KEY}?",
		"${env KEY}":           "a placeholder has a colon; did you mean ${env:KEY}?",
		"${secret:KEY}":        "${file:PATH} is the text of a file",
	} {
		if _, err := secret.Seal(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for sealed, want := range map[string]string{
		"${!env:NONE}":      "the node has no environment variable NONE",
		"${!file:/none}":    "${file:/none}: the node cannot read the file: file does not exist",
		"${!secret:*}":      "cannot be read",
		"${!file:/no/utf8}": "no text in UTF-8",
	} {
		_, err := source(map[string]string{"/no/utf8": "\xff"}).Text(sealed, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", sealed, err)
		}
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	mark := secret.Mark("hunter2")
	in := `{"env_vars":{"A":"1","B":null,"C":{"d":[2]},"D":"${!env:D:-x}","E":"u:${!env:E}","F":"` + mark + `","G":"${!file:/g}"},"n":1.50,"user_config":{"key":"` + mark + `","url":"x ` + mark + `","from":"${!env:A:-b}<"},"ssl_keyfile_password":"p"}`
	want := `{"env_vars":{"A":"***","B":null,"C":{"d":["***"]},"D":"${env:D:-***}","E":"***","F":"***","G":"${file:/g}"},"n":1.50,"user_config":{"key":"***","url":"x ***","from":"${env:A:-***}<"},"ssl_keyfile_password":"***"}`
	if got := secret.Redact(json.RawMessage(in)); string(got) != want {
		t.Errorf("%s", got)
	}
	if got := secret.RedactAt("runtime_env.env_vars", json.RawMessage(`{"A":"1"}`)); string(got) != `{"A":"***"}` {
		t.Errorf("%s", got)
	}
	if got := secret.RedactAt("num_replicas", json.RawMessage(`3`)); string(got) != `3` {
		t.Errorf("%s", got)
	}
	if got := secret.Redact(json.RawMessage(`{"a`)); string(got) != `"***"` {
		t.Errorf("%s", got)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var seen secret.Values
	from := source(map[string]string{"KEY": "a long value"})
	got, err := from.JSON(json.RawMessage(`{"${!env:KEY}":["${!env:KEY}",1e3,{"z":true,"a":null}]}`), &seen)
	if want := `{"${!env:KEY}":["a long value",1e3,{"z":true,"a":null}]}`; err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	if got := seen.Scrub("the key a long value."); got != "the key ***." {
		t.Error(got)
	}
	if _, err := (secret.Source{Env: func(string) (string, bool) { return "", false }}).JSON(json.RawMessage(`["${!env:X}"]`), nil); err == nil {
		t.Error("no error for a variable that is not there")
	}
}

func TestScrub(t *testing.T) {
	t.Parallel()
	var seen secret.Values
	from := source(map[string]string{"SHORT": "INFO", "LONG": "abcdefgh-more", "PART": "abcdefgh", "LINES": "first line\nsecond \"line\""})
	for _, name := range []string{"SHORT", "PART", "LONG", "LINES"} {
		if _, err := from.Text("${!env:"+name+"}", &seen); err != nil {
			t.Fatal(err)
		}
	}
	for in, want := range map[string]string{
		"INFO abcdefgh":                 "INFO ***",
		"abcdefgh-more":                 "***",
		`"first line\nsecond \"line\""`: `"***"`,
		"first line":                    "***",
		"nothing":                       "nothing",
	} {
		if got := seen.Scrub(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	if got := (*secret.Values)(nil).Scrub("x"); got != "x" {
		t.Error(got)
	}
}

// TestScrubQuoted: a value is taken out in each form that texts in quotes have of it, also line by line.
func TestScrubQuoted(t *testing.T) {
	t.Parallel()
	var r secret.Resolver
	const value = "li'ne1secret <x>&\n\tline2\"secret\\"
	if _, err := r.Environ([]string{"PEM=" + secret.Mark(value)}); err != nil {
		t.Fatal(err)
	}
	python := func(quote string) string {
		return quote + strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\t", `\t`, quote, `\`+quote).Replace(value) + quote
	}
	inJSON, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{value, python("'"), python(`"`), fmt.Sprintf("%q", value), string(inJSON), "log: line2\"secret\\ of a line", `log: 'line2"secret\\'`} {
		if got := r.Scrub("x " + text + " y"); strings.Contains(got, "ne1secret") || strings.Contains(got, "line2") || !strings.HasSuffix(got, " y") && !strings.Contains(got, " of a line y") {
			t.Errorf("%s: %s", text, got)
		}
	}
}

// TestSecretNames: the value of a variable that has the name of a secret is known without a mark, and other values are words of lines.
func TestSecretNames(t *testing.T) {
	t.Parallel()
	for variable, hidden := range map[string]bool{
		"API_KEY=hunter2secret": true, "db_password=hunter2secret": true, "HF_TOKEN=hunter2secret": true, "AWS_SECRET_ACCESS_KEY=hunter2secret": true, "TOKEN=hunter2secret": true,
		"MODE=hunter2secret": false, "PARTITION_KEY=hunter2secret": false, "TOKENIZER=hunter2secret": false, "GOOGLE_CREDENTIALS=/srv/hunter2secret": false, "API_KEY=hunt": false,
	} {
		_, value, _ := strings.Cut(variable, "=")
		for name, know := range map[string]func(r *secret.Resolver) error{
			"a start":     func(r *secret.Resolver) error { _, err := r.Environ([]string{"A=b", variable}); return err },
			"a take-over": func(r *secret.Resolver) error { r.Note(variable); return nil },
			"no node": func(*secret.Resolver) error {
				_, err := (*secret.Resolver)(nil).Environ([]string{variable})
				return err
			},
		} {
			var r secret.Resolver
			if err := know(&r); err != nil {
				t.Fatal(err)
			}
			if got := r.Scrub("is "+value) != "is "+value; got != (hidden && name != "no node") {
				t.Errorf("%s, %s: hidden is %v", variable, name, got)
			}
		}
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/key"
	if err := os.WriteFile(path, []byte("the key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := (secret.Source{}).Text("${!file:"+path+"}", nil); err != nil || got != "the key" {
		t.Error(got, err)
	}
	if _, err := (secret.Source{}).Text("${!file:/}", nil); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzSeal(f *testing.F) {
	for _, s := range []string{"${env:A}", "$${env:A}", "${!env:A}", "${file:/a:-b} ${", "${secret:x}", "$$${env:A}"} {
		f.Add(s)
	}
	from := source(map[string]string{"A": "1"})
	f.Fuzz(func(t *testing.T, text string) {
		sealed, err := secret.Seal(text)
		if err != nil {
			return
		}
		_, _ = from.Text(sealed, nil)
		_ = secret.Shown(sealed)
		marked := secret.Mark(text)
		if got, err := from.Text(marked, nil); err != nil || got != text {
			t.Errorf("a marked text %q is %q, %v", text, got, err)
		}
		if secret.Shown(marked) != secret.Hidden {
			t.Errorf("%q shows %q", text, secret.Shown(marked))
		}
	})
}

func FuzzRedact(f *testing.F) {
	f.Add([]byte(`{"env_vars":{"A":"secret-text"},"b":[1,null,true,"${!secret:aGk}"]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if got := secret.Redact(raw); len(raw) > 0 && !json.Valid(got) {
			t.Errorf("%q becomes %q", raw, got)
		}
	})
}

func TestResolver(t *testing.T) {
	t.Parallel()
	r := &secret.Resolver{Source: source(map[string]string{"KEY": "a long value", "ZERO": "a\x00b"})}
	if r.Hides() {
		t.Error("it hides a value before there is one")
	}
	plain := []string{"A=1", "B=${env:KEY}"}
	if got, err := r.Environ(plain); err != nil || &got[0] != &plain[0] {
		t.Error(got, err)
	}
	got, err := r.Environ([]string{"A=1", "B=x${!env:KEY}", "C"})
	if want := "A=1 B=xa long value C"; err != nil || strings.Join(got, " ") != want {
		t.Error(got, err)
	}
	if got := string(r.ScrubLine([]byte("printed a long value"))); got != "printed ***" {
		t.Error(got)
	}
	if _, err := r.Environ([]string{"B=${!env:NONE}"}); err == nil || !strings.HasPrefix(err.Error(), "env_vars.B: ${env:NONE}: the node has no") {
		t.Error(err)
	}
	if _, err := r.Environ([]string{"B=${!env:ZERO}"}); err == nil {
		t.Error("no error for a zero byte")
	}
	other := &secret.Resolver{Source: r.Source}
	other.Note(`{"a":"${!env:KEY}","b":"${!env:NONE}"}`, "plain")
	if got := other.Scrub("a long value"); got != "***" {
		t.Error(got)
	}
	var none *secret.Resolver
	none.Note("${!env:KEY}")
	if got, err := none.Text("${!env:NO_SUCH_VARIABLE:-x}"); err != nil || got != "x" || none.Scrub("x") != "x" || string(none.ScrubLine([]byte("x"))) != "x" {
		t.Error(got, err)
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	r := &secret.Resolver{Source: source(map[string]string{"KEY": "a long value"})}
	got, err := r.Values(`{"a":"x ${!env:KEY}","b":["${!env:NONE:-d}","` + secret.Mark("hunter2") + `"]}`)
	want := map[string]string{"${!env:KEY}": "a long value", "${!env:NONE:-d}": "d", secret.Mark("hunter2"): "hunter2"}
	if err != nil || !maps.Equal(got, want) {
		t.Error(got, err)
	}
	if got := r.Scrub("hunter2"); got != "***" {
		t.Error(got)
	}
	if got, err := r.Values("plain"); got != nil || err != nil {
		t.Error(got, err)
	}
	if _, err := r.Values("${!env:NONE}"); err == nil {
		t.Error("no error for a variable that is not there")
	}
}

// TestPicklesAreSearched: the values are known of the placeholders that a pickle refers to, also of one inside of a text and of bytes. A pickle is read once.
func TestPicklesAreSearched(t *testing.T) {
	t.Parallel()
	of := func(kind, text string) string {
		return "helve.secret:" + kind + ":" + base64.StdEncoding.EncodeToString([]byte(text))
	}
	pickle := "\x80\x05helve.secret:str:" + "\x94" + of("str", "redis://${!env:KEY}@host") + "\x94Qhelve.secret:int:!" + of("bytes", "${!file:/run/pw}") + "\x94Qhelve.secret:str"
	r := &secret.Resolver{Source: source(map[string]string{"KEY": "value of key", "/run/pw": "hunter22\n"})}
	reads := 0
	r.NotePickle("digest", func() []byte { return nil }) // its file is not there yet
	for range 2 {
		r.NotePickle("digest", func() []byte { reads++; return []byte(pickle) })
	}
	if got := r.Scrub("a value of key, hunter22"); got != "a ***, ***" || reads != 1 {
		t.Errorf("%q after %d reads", got, reads)
	}
	(*secret.Resolver)(nil).NotePickle("", nil)
}
