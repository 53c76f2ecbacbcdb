package config

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/helve-serve/helve/internal/nearest"
	"github.com/helve-serve/helve/internal/secret"
)

// reader reads one file.
type reader struct {
	name     string
	lines    []string
	root     *value
	file     *File
	mistakes []*Mistake
	hidden   []place // values that no message shows
	broken   bool    // the file is no YAML, so that hidden is not known

	sealedTexts []value // with placeholders
}

// Read reads the text of a file; name is for its messages. The error is of type [Mistakes].
func Read(name string, source []byte) (*File, error) { return read(name, source, "", nil) }

// ReadAt is [Read] at a node: a placeholder whose value the node does not have, such as ${env:KEY} without that variable, is a mistake too. The values are not kept: each is looked
// up again when a process starts.
func ReadAt(name string, source []byte, values *secret.Resolver) (*File, error) {
	return read(name, source, "", resolvable(values))
}

// ReadElement is [ReadAt] for one element of the list applications. app is its name, which it need not have itself.
func ReadElement(name string, source []byte, app string, values *secret.Resolver) (*File, error) {
	return read(name, source, app, resolvable(values))
}

// resolvable finds placeholders without a value.
func resolvable(values *secret.Resolver) func(r *reader) {
	return func(r *reader) {
		for _, p := range r.sealedTexts {
			if _, err := values.Text(p.text); err != nil {
				r.wrong(p.at, "%s", err)
			}
		}
	}
}

// read reads a file, or the element of an application if app is not "". further finds mistakes beside those of the text; it may be nil.
func read(name string, source []byte, app string, further func(r *reader)) (*File, error) {
	r := &reader{name: name, lines: strings.Split(string(source), "\n"), file: &File{Name: name, places: map[string]place{}}}
	r.file.reader = r
	root := r.tree(source)
	if app != "" && root != nil {
		if root.kind == object && root.field("name") == nil {
			root.fields = append([]field{{name: "name", at: root.at, value: &value{kind: text, at: root.at, text: app}}}, root.fields...)
		}
		root = &value{kind: object, at: root.at, fields: []field{{name: "applications", at: root.at, value: &value{kind: list, at: root.at, items: []*value{root}}}}}
	}
	r.root = root
	r.hideSecrets(root)
	if root == nil && len(r.mistakes) > 0 {
		r.broken = true
	} else {
		r.top(root)
	}
	if further != nil {
		further(r)
	}
	if len(r.mistakes) == 0 {
		return r.file, nil
	}
	for _, m := range r.mistakes {
		r.show(m)
	}
	return nil, Mistakes(r.mistakes).Sorted()
}

func (r *reader) mistake(at place, text string) *Mistake {
	return &Mistake{File: r.name, Line: at.line, Column: at.column, Text: text, width: at.width}
}

func (r *reader) wrong(at place, format string, args ...any) {
	r.mistakes = append(r.mistakes, r.mistake(at, fmt.Sprintf(format, args...)))
}

func (r *reader) warn(at place, format string, args ...any) {
	r.file.Warnings = append(r.file.Warnings, fmt.Sprintf("%s:%d: ", r.name, at.line)+fmt.Sprintf(format, args...))
}

// show gives a mistake its line of the file, in which secrets are "***". In a file that is no YAML nothing behind a colon is shown if there could be one.
func (r *reader) show(m *Mistake) *Mistake {
	if m.Line < 1 || m.Line > len(r.lines) {
		return m
	}
	line := strings.TrimRight(strings.ToValidUTF8(r.lines[m.Line-1], "\uFFFD"), "\r")
	column := m.Column
	if r.broken {
		all := strings.Join(r.lines, "\n")
		if strings.Contains(all, "env_vars") || strings.Contains(all, "!secret") || strings.Contains(all, "password") {
			if before, _, found := strings.Cut(line, ":"); found && isName.MatchString(before) {
				line = before + ": " + secret.Hidden
			} else if found || m.Line > 1 {
				return m // a line of a longer text
			}
		}
	}
	runes := []rune(line)
	for _, h := range slices.SortedFunc(slices.Values(r.hidden), func(a, b place) int { return b.column - a.column }) {
		from, to := h.column-1, min(h.column-1+h.width, len(runes))
		if h.line != m.Line || from >= len(runes) || from < 0 {
			continue
		}
		runes = slices.Concat(runes[:from], []rune(secret.Hidden), runes[to:])
		switch {
		case h.column == m.Column:
			m.width = len(secret.Hidden)
		case h.column < m.Column:
			column = max(h.column, column+len(secret.Hidden)-(to-from))
		}
	}
	m.source, m.mark = string(runes), min(column, len(runes)+1)
	return m
}

// object is the fields of a value; nil for null and with a mistake.
func (r *reader) object(at place, name string, v *value) *value {
	switch {
	case v == nil || v.kind == null:
		return nil
	case v.kind != object:
		r.wrong(v.at, "%s: must have fields, is %s", name, v.shown())
		return nil
	}
	return v
}

// field of files and applications with its reader.
type fields map[string]func(r *reader, f field)

// known is the list of names.
func (f fields) names() []string {
	names := make([]string, 0, len(f))
	for name := range f {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// each reads the fields of an object. unknown hears of the others.
func (r *reader) each(v *value, known fields, unknown func(f field)) {
	for _, f := range v.fields {
		if read, ok := known[f.name]; ok {
			read(r, f)
		} else {
			unknown(f)
		}
	}
}

// top reads the whole file.
func (r *reader) top(v *value) {
	first := place{1, 1, 1}
	switch {
	case v == nil || v.kind == null:
		r.wrong(first, "the file is empty: it needs the field applications")
		return
	case v.kind != object:
		r.wrong(v.at, "the file must have fields such as applications, is %s", v.kind)
		return
	case v.field("apiVersion") != nil && v.field("kind") != nil:
		r.wrong(v.field("kind").at, "kind: this is a file for Kubernetes: give the text below serveConfigV2 as a file of its own")
		return
	case v.field("import_path") != nil && v.field("applications") == nil:
		r.wrong(v.field("import_path").at, "import_path: an application is an item of the list `applications:`")
		return
	}
	var applications *field
	known := fields{
		"proxy_location": func(r *reader, f field) {
			r.file.ProxyLocation = r.choice(f, "", "EveryNode", "HeadOnly", "Disabled", "NoServer")
		},
		"http_options": func(r *reader, f field) { r.http(f) },
		"logging_config": func(r *reader, f field) {
			r.file.Logging = r.logging(f, "")
		},
		"target_capacity": func(r *reader, f field) {
			if n, ok := r.number(f, "", 0, 100); ok {
				r.file.TargetCapacity = &n
			}
		},
		"applications": func(_ *reader, f field) { applications = &f },
		"grpc_options": func(r *reader, f field) {
			if fs := f.value.get("grpc_servicer_functions"); fs != nil && len(fs.items) > 0 {
				r.warn(f.at, "grpc_options: has no effect: there is no gRPC ingress; use HTTP, or handles")
			}
		},
		"tracing_config": func(r *reader, f field) { r.tracing(f) },
		"controller_options": func(r *reader, f field) {
			if f.value.kind == object && len(f.value.fields) > 0 {
				r.warn(f.at, "controller_options: has no effect: the node has no controller of its own process")
			}
		},
	}
	r.each(v, known, func(f field) {
		r.warn(f.at, "%s: the file has no such field, and it has no effect%s", f.name, nearest.Question(f.name, known.names()))
	})
	switch {
	case applications == nil:
		r.wrong(v.at, "applications: is missing: it is the list of the applications that should run")
	case applications.value.kind != list:
		r.wrong(applications.at, "applications: must be a list, is %s", applications.value.kind)
	default:
		for _, item := range applications.value.items {
			r.application(item)
		}
		r.clashes(applications.value.items)
	}
}

// clashes finds two applications with one name or one path.
func (r *reader) clashes(items []*value) {
	names, prefixes := map[string]int{}, map[string]int{}
	for i, a := range r.file.Applications {
		where := func(name string) place {
			if f := items[i].field(name); f != nil {
				return f.value.at
			}
			return items[i].at
		}
		if first, ok := names[a.Name]; ok && a.Name != "" {
			r.wrong(where("name"), "name: two applications have the name %q, this one and that of line %d: give each its own", a.Name, first)
		} else if a.Name != "" {
			names[a.Name] = where("name").line
		}
		if first, ok := prefixes[a.RoutePrefix]; ok && a.RoutePrefix != "" {
			r.wrong(where("route_prefix"), "route_prefix: two applications have the route_prefix %q, this one and that of line %d: give each its own", a.RoutePrefix, first)
		} else {
			prefixes[a.RoutePrefix] = where("route_prefix").line
		}
	}
}

// application reads one application. It is added also with mistakes, so that its name is compared with the others.
func (r *reader) application(v *value) {
	app := Application{Name: "default", RoutePrefix: "/", Line: v.at.line, Logging: r.file.Logging}
	defer func() { r.file.Applications = append(r.file.Applications, app) }()
	if v.kind != object {
		app.Name, app.RoutePrefix = "", "" // of no application
		r.wrong(v.at, "an application must have fields such as import_path, is %s", v.shown())
		return
	}
	if f := v.field("name"); f != nil {
		app.Name, _ = r.text(*f, "")
		if f.value.kind == text && app.Name == "" {
			r.wrong(f.value.at, "name: must not be empty")
		}
	}
	r.file.places[key(app.Name, "", "")] = v.at
	for _, f := range v.fields {
		r.file.places[key(app.Name, "", f.name)] = valueOr(f)
		if f.name == "args" {
			for _, arg := range f.value.fields {
				r.file.places[key(app.Name, "", "args."+arg.name)] = arg.at
			}
		}
	}
	var deployments *field
	elsewhere := func(r *reader, f field) {
		r.wrong(f.at, "%s: is of all applications: write it in http_options of the file", f.name)
	}
	known := fields{
		"name":         func(*reader, field) {},
		"route_prefix": func(r *reader, f field) { app.RoutePrefix = r.prefix(f) },
		"import_path":  func(r *reader, f field) { app.ImportPath = r.importPath(f) },
		"args": func(r *reader, f field) {
			if o := r.object(f.at, "args", f.value); o != nil {
				r.seal(o)
				app.Args = o.json()
			}
		},
		"runtime_env": func(r *reader, f field) {
			app.RuntimeEnv = r.environment(f, "", func(option string, at place) { r.file.places[key(app.Name, "", option)] = at })
		},
		"deployments": func(_ *reader, f field) { deployments = &f },
		"logging_config": func(r *reader, f field) {
			if own := r.logging(f, ""); own != nil {
				app.Logging = own
			}
		},
		"external_scaler_enabled": func(r *reader, f field) {
			app.ExternalScaler = r.boolean(f, "")
		},
		"autoscaling_policy": func(r *reader, f field) { r.policy(f, "") },
		"history_limit": func(r *reader, f field) {
			f.value = whole(f.value)
			if n, ok := r.number(f, "", 1, 1000); ok && n != math.Trunc(n) {
				r.wrong(f.value.at, "history_limit: must be an integer, is %s", f.value.shown())
			}
		},
		"host": elsewhere, "port": elsewhere,
	}
	r.each(v, known, func(f field) {
		r.wrong(f.at, "%s: an application has no such field%s", f.name, nearest.Question(f.name, known.names()))
	})
	if v.field("import_path") == nil {
		r.wrong(v.at, "import_path: is missing: it names the application, for example import_path: app:entrypoint")
	}
	if deployments != nil {
		app.Deployments = r.deployments(app, *deployments)
	}
	app.Submitted, app.Options = v.json(), applicationOptions(v, app)
}

// applicationOptions is the layer of the options of an application itself.
func applicationOptions(v *value, app Application) json.RawMessage {
	options := v.without("name", "deployments", "host", "port")
	for i, f := range options.fields {
		switch f.name {
		case "import_path":
			options.fields[i].value = &value{kind: text, text: app.ImportPath}
		case "history_limit":
			options.fields[i].value = whole(f.value)
		}
	}
	return options.json()
}
