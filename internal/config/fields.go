package config

import (
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/helve-serve/helve/internal/nearest"
	"github.com/helve-serve/helve/internal/secret"
	"github.com/helve-serve/helve/internal/spec"
)

// The functions of this file read fields with one value. of is the context for messages, for example `deployment "A": `.

// text is the text of a field; null is "". Placeholders have no place in it.
func (r *reader) text(f field, of string) (s string, ok bool) {
	switch f.value.kind {
	case null:
		return "", true
	case text:
		r.unsealed(f.value, f.name)
		return f.value.text, true
	default:
		r.wrong(f.value.at, "%s%s: must be a text, is %s%s", of, f.name, f.value.shown(), quotes(f.value))
		return "", false
	}
}

// quotes is the hint that a value in quotes is a text.
func quotes(v *value) string {
	if v.kind == boolean || v.kind == number {
		return "; in quotes it is a text"
	}
	return ""
}

// choice is a text that is one of several.
func (r *reader) choice(f field, of string, words ...string) string {
	s, ok := r.text(f, of)
	if ok && s != "" && !slices.Contains(words, s) {
		r.wrong(f.value.at, "%s%s: must be one of %s, is %q%s", of, f.name, strings.Join(words, ", "), s, nearest.Question(s, words))
	}
	return s
}

// aboveZero is the least number that is more than 0, for messages.
const aboveZero = 1e-9

// number is a number within bounds. A text in quotes that is a number is one, as in Ray Serve.
func (r *reader) number(f field, of string, least, most float64) (n float64, ok bool) {
	v := numeral(f.value)
	switch n = v.float(); {
	case v.kind == null:
		return 0, false
	case v.kind != number || math.IsNaN(n):
		r.wrong(f.value.at, "%s%s: must be a number, is %s", of, f.name, f.value.shown())
		return 0, false
	case n < least && least == aboveZero:
		r.wrong(f.value.at, "%s%s: must be more than 0, is %s", of, f.name, v.text)
		return 0, false
	case n < least:
		r.wrong(f.value.at, "%s%s: must be at least %v, is %s", of, f.name, least, v.text)
		return 0, false
	case n > most:
		r.wrong(f.value.at, "%s%s: must be at most %v, is %s", of, f.name, most, v.text)
		return 0, false
	}
	return n, true
}

// numeral is a value as a number if it is a text that Ray Serve reads as one, such as "2".
func numeral(v *value) *value {
	if v.kind != text || len(v.text) > 30 {
		return v
	}
	k, form, err := plain(v.text)
	if err != nil || k != number {
		return v
	}
	return &value{kind: number, at: v.at, text: form}
}

// whole is a number as an integer if it is one, such as 2.0.
func whole(v *value) *value {
	v = numeral(v)
	if n := v.float(); v.kind == number && n == math.Trunc(n) && math.Abs(n) < 1<<53 {
		return &value{kind: number, at: v.at, text: strconv.FormatInt(int64(n), 10)}
	}
	return v
}

func (r *reader) boolean(f field, of string) bool {
	switch f.value.kind {
	case null:
	case boolean:
		return f.value.text == "true"
	default:
		r.wrong(f.value.at, "%s%s: must be true or false, is %s", of, f.name, f.value.shown())
	}
	return false
}

// prefix is the route prefix of an application.
func (r *reader) prefix(f field) string {
	s, ok := r.text(f, "")
	switch {
	case !ok || f.value.kind == null:
	case !strings.HasPrefix(s, "/"):
		r.wrong(f.value.at, "route_prefix: must begin with /, is %q; null is for an application without HTTP", s)
	case len(s) > 1 && strings.HasSuffix(s, "/"):
		r.wrong(f.value.at, "route_prefix: must not end with /, is %q", s)
	case strings.ContainsAny(s, "{}"):
		r.wrong(f.value.at, "route_prefix: must not have { or }, is %q: it is a path, and no pattern", s)
	}
	return s
}

var isModule = regexp.MustCompile(`^[\pL_][\pL\pN_]*(\.[\pL_][\pL\pN_]*)*$`) //nolint:gochecknoglobals // a constant

// importPath is the path of the code of an application, with a colon between module and attribute.
func (r *reader) importPath(f field) string {
	s, ok := r.text(f, "")
	if !ok {
		return ""
	}
	if rest, isBuild := strings.CutPrefix(s, "exec:"); isBuild {
		if path, app, _ := strings.Cut(rest, "#"); path == "" || app == "" {
			r.wrong(f.value.at, "import_path: must be exec:PATH#APPLICATION for a Go build, is %q", s)
		}
		return s
	}
	module, attribute, colon := strings.Cut(s, ":")
	if !colon {
		if i := strings.LastIndexByte(s, '.'); i >= 0 {
			module, attribute = s[:i], s[i+1:]
		}
	}
	if !isModule.MatchString(module) || !isModule.MatchString(attribute) {
		r.wrong(f.value.at, "import_path: must be MODULE:APPLICATION, for example app:entrypoint, is %q", s)
	}
	return module + ":" + attribute
}

// http reads http_options.
func (r *reader) http(f field) {
	v := r.object(f.at, f.name, f.value)
	if v == nil {
		return
	}
	const of = "http_options."
	h := &HTTP{}
	r.file.places[key("", "", f.name)] = f.at
	for _, inner := range v.fields {
		r.file.places[key("", "", of+inner.name)] = valueOr(inner)
	}
	words := func(into **string, placeholders bool) func(r *reader, f field) {
		return func(r *reader, f field) {
			if placeholders && f.value.kind == text {
				r.sealText(f.value)
				*into = &f.value.text
				return
			}
			if s, ok := r.text(f, of); ok && f.value.kind == text {
				*into = &s
			}
		}
	}
	known := fields{
		"host": words(&h.Host, false),
		"port": func(r *reader, f field) {
			if n, ok := r.number(f, of, 0, 65535); ok {
				if n != math.Trunc(n) {
					r.wrong(f.value.at, "%sport: must be an integer, is %s", of, f.value.shown())
				}
				port := int(n)
				h.Port = &port
			}
		},
		"root_path": func(r *reader, f field) {
			words(&h.RootPath, false)(r, f)
			if p := h.RootPath; p != nil && *p != "" && ((*p)[0] != '/' || strings.HasSuffix(*p, "/")) {
				r.wrong(f.value.at, "%sroot_path: must begin with / and not end with it, is %q", of, *p)
			}
		},
		"request_timeout_s": func(r *reader, f field) {
			if n, ok := r.number(f, of, -maxSeconds, maxSeconds); ok {
				if n < 0 { // files of Ray Serve may have it
					r.warn(f.value.at, "%srequest_timeout_s: is negative, %s, which is no limit: write 0 or null for that", of, f.value.shown())
				}
				n = max(n, 0)
				h.RequestTimeout = &n
			}
		},
		"keep_alive_timeout_s": numberOf(&h.KeepAlive, of, aboveZero, maxSeconds),
		"ssl_keyfile":          words(&h.Key, true),
		"ssl_certfile":         words(&h.Certificate, true),
		"ssl_keyfile_password": words(&h.KeyPassword, true),
		"ssl_ca_certs":         words(&h.ClientCA, true),
		// Ray Serve has these in its class HTTPOptions, and not in files.
		"location":    func(r *reader, f field) { r.warn(f.at, "%slocation: has no effect: write proxy_location", of) },
		"num_cpus":    func(r *reader, f field) { r.warn(f.at, "%snum_cpus: has no effect", of) },
		"root_url":    func(r *reader, f field) { r.warn(f.at, "%sroot_url: has no effect", of) },
		"middlewares": func(r *reader, f field) { r.warn(f.at, "%smiddlewares: has no effect: give them to serve.start", of) },
	}
	r.eachOr(v, known, of)
	if (h.Key == nil) != (h.Certificate == nil) {
		r.wrong(f.at, "http_options: HTTPS needs both ssl_keyfile and ssl_certfile")
	} else if h.Key == nil && (h.KeyPassword != nil || h.ClientCA != nil) {
		r.wrong(f.at, "http_options: ssl_keyfile_password and ssl_ca_certs need ssl_keyfile and ssl_certfile")
	}
	r.file.HTTP = h
}

// numberOf reads a field that is a number; one below 0 is 0.
func numberOf(into **float64, of string, least, most float64) func(r *reader, f field) {
	return func(r *reader, f field) {
		if n, ok := r.number(f, of, least, most); ok {
			n = max(n, 0)
			*into = &n
		}
	}
}

// eachOr reads the known fields of an object of settings, and warns of others.
func (r *reader) eachOr(v *value, known fields, of string) {
	r.each(v, known, func(f field) {
		r.warn(f.at, "%s%s: there is no such field, and it has no effect%s", of, f.name, nearest.Question(f.name, known.names()))
	})
}

// maxSeconds is spec.MaxDuration as a number.
const maxSeconds = 100 * 365 * 24 * 3600

// logAttributes are the attributes of Python's logging.LogRecord that lines can have.
var logAttributes = strings.Fields(`args asctime created exc_info exc_text filename funcName levelname levelno lineno message module msecs msg name pathname
	process processName relativeCreated stack_info taskName thread threadName`) //nolint:gochecknoglobals // a constant

var logLevels = []string{"CRITICAL", "FATAL", "ERROR", "WARN", "WARNING", "INFO", "DEBUG", "NOTSET"} //nolint:gochecknoglobals // a constant

// tracing reads tracing_config.
func (r *reader) tracing(f field) {
	v := r.object(f.at, f.name, f.value)
	if v == nil {
		return
	}
	const of = "tracing_config."
	r.file.places[key("", "", of+"otlp_headers")] = f.at
	t := &spec.Tracing{}
	known := fields{
		"enabled":        func(r *reader, f field) { t.Enabled = r.boolean(f, of) },
		"sampling_ratio": numberOf(&t.Ratio, of, 0, 1),
		"slow_request_s": numberOf(&t.Slow, of, 0, maxSeconds),
		"otlp_endpoint": func(r *reader, f field) {
			if at, ok := r.text(f, of); ok && f.value.kind == text {
				if _, err := spec.TracesURL(at); at != "" && err != nil {
					r.wrong(f.value.at, "%sotlp_endpoint: %s", of, err)
				}
				t.Endpoint = &at
			}
		},
		"otlp_headers": func(r *reader, f field) { t.Headers = r.headers(f, of) },
		"exporter_import_path": func(r *reader, f field) {
			if path, ok := r.text(f, of); ok && path != "" {
				r.warn(f.at, "%sexporter_import_path: has no effect: the node sends spans itself, to otlp_endpoint", of)
			}
		},
	}
	r.eachOr(v, known, of)
	if len(t.Headers) > 0 && (t.Endpoint == nil || *t.Endpoint == "") {
		r.wrong(f.at, "tracing_config: otlp_headers needs otlp_endpoint: headers are for one receiver")
	}
	r.file.Tracing = t
}

// headers reads headers of requests. Their values may have placeholders.
func (r *reader) headers(f field, of string) map[string]string {
	v, all := r.object(f.at, of+f.name, f.value), map[string]string{}
	if v == nil {
		return nil
	}
	for _, h := range v.fields {
		if h.value == nil || h.value.kind != text || h.name == "" || strings.ContainsFunc(h.name, func(c rune) bool { return c <= ' ' || c > '~' || c == ':' }) {
			r.wrong(valueOr(h), "%s%s.%s: must be a header's name with a text", of, f.name, h.name)
			continue
		}
		r.sealText(h.value)
		all[h.name] = h.value.text
	}
	return all
}

// logging reads a logging_config. It is nil for null.
func (r *reader) logging(f field, of string) json.RawMessage {
	v := r.object(f.at, of+f.name, f.value)
	if v == nil {
		return nil
	}
	at := of + f.name + "."
	known := fields{
		"encoding": func(r *reader, f field) { r.choice(f, at, "TEXT", "JSON") },
		"log_level": func(r *reader, f field) {
			if f.value.kind == number {
				if n := f.value.float(); n != math.Trunc(n) || n < 0 || n > 50 || int(n)%10 != 0 {
					r.wrong(f.value.at, "%slog_level: must be %s, or the number of one, is %s", at, strings.Join(logLevels, ", "), f.value.shown())
				}
				return
			}
			r.choice(f, at, logLevels...)
		},
		"logs_dir":          func(r *reader, f field) { r.text(f, at) },
		"enable_access_log": func(r *reader, f field) { r.boolean(f, at) },
		"additional_log_standard_attrs": func(r *reader, f field) {
			if f.value.kind != list && f.value.kind != null {
				r.wrong(f.value.at, "%sadditional_log_standard_attrs: must be a list of texts, is %s", at, f.value.shown())
			}
			for _, item := range f.value.items {
				r.choice(field{f.name, item.at, item}, at, logAttributes...)
			}
		},
	}
	r.each(v, known, func(f field) {
		r.wrong(f.at, "%s%s: there is no such field%s", at, f.name, nearest.Question(f.name, known.names()))
	})
	return v.json()
}

// seal gives the texts of a value the form in which records keep them, see package secret.
func (r *reader) seal(v *value) {
	switch v.kind { //nolint:exhaustive // the others have no text
	case text:
		r.sealText(v)
	case list:
		for _, item := range v.items {
			r.seal(item)
		}
	case object:
		for _, f := range v.fields {
			r.seal(f.value)
		}
	}
}

func (r *reader) sealText(v *value) {
	if v.sealed || v.kind != text {
		return
	}
	v.sealed = true
	if v.text == secret.Hidden { // of a configuration that a command has shown
		r.wrong(v.at, "%s stands for a value that is hidden: write the value, or a placeholder such as ${env:NAME}", secret.Hidden)
		return
	}
	if v.marked {
		v.text = secret.Mark(v.text)
		return
	}
	sealed, err := secret.Seal(v.text)
	if err != nil {
		r.wrong(v.at, "%s", err)
		return
	}
	v.text = sealed
	if secret.Has(sealed) {
		r.sealedTexts = append(r.sealedTexts, *v)
	}
}

// unsealed refuses placeholders and the tag !secret in a text whose value the node needs as it is.
func (r *reader) unsealed(v *value, name string) {
	switch v.kind {
	case text:
		sealed, err := secret.Seal(v.text)
		if v.marked || err != nil || secret.Has(sealed) {
			r.wrong(v.at, "%s: placeholders such as ${env:NAME}, and the tag !secret, are for texts in env_vars, user_config, args and the ssl_ fields of http_options", name)
		}
	case list:
		for _, item := range v.items {
			r.unsealed(item, name)
		}
	case object:
		for _, f := range v.fields {
			r.unsealed(f.value, name+"."+f.name)
		}
	case null, boolean, number:
	}
}
