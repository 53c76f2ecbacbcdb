package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/helve-serve/helve/internal/nearest"
)

// Source says where the value of an option comes from.
type Source string

// The sources, weakest first.
const (
	FromDefault  Source = "default"
	FromCode     Source = "code"
	FromFile     Source = "file"
	FromOverride Source = "override"
)

// Update says what a change of an option needs.
type Update int

// The kinds of update, least first.
const (
	// Lightweight is done by the node alone: replicas go on, and hear nothing of it.
	Lightweight Update = iota
	// NeedsReconfigure is done by telling the replicas that run, which go on.
	NeedsReconfigure
	// NewReplicas is done by new replicas, which take the place of the old ones.
	NewReplicas
	// NewApplication is done by building the application anew, of which each deployment then has new replicas if its code is another.
	NewApplication
)

func (u Update) String() string {
	return [...]string{"nothing", "in place", "new replicas", "new application"}[u]
}

// Change is an option that differs between two versions of a deployment.
type Change struct {
	Option     string // its path, for example "limits.memory"
	Update     Update
	Before     json.RawMessage // "null" for no value
	After      json.RawMessage
	FromSource Source // source of the value before
	ToSource   Source // source of the value after
}

// MostUpdate is the update that all of these changes together need: the greatest of theirs.
func MostUpdate(changes []Change) Update {
	most := Lightweight
	for _, c := range changes {
		most = max(most, c.Update)
	}
	return most
}

// table has the options of a struct S. Groups are flat in it: the option memory of the group limits is a row with the path
// "limits.memory", whose accessor goes through the group.
type table[S any] []option[S]

// option is a row.
type option[S any] struct {
	names    []name // of the groups around the option, outermost first, and its own
	label           // all names joined
	update   Update
	doc      string // a sentence
	accepts  string // the values, for the reference
	python   string // the check in Python, an expression
	schema   map[string]any
	goOnly   bool // Python has no such option
	process  bool // for deployments with processes of their own
	accessor func(*S) value
}

// name is how an option or a group is called.
type name struct {
	json string // in JSON, files and Python
	code string // in Go; "" for a group whose fields are in the struct around it, and for an option that Go does not have
}

// label is the path of an option.
type label struct {
	path   string // for example "request_router.virtual_nodes"
	goPath string // for example "Routing.VirtualNodes"; "" if Go does not have the option
}

// inGo names the option for a Go program: "Routing.VirtualNodes (request_router.virtual_nodes)", and the path alone where the two
// differ in case only.
func (l label) inGo() string {
	if l.goPath == "" || strings.EqualFold(l.goPath, l.path) {
		return l.path
	}
	return l.goPath + " (" + l.path + ")"
}

// value is one option's value in one struct.
type value interface {
	isZero() bool
	clear()
	fillDefault()
	decode(json.RawMessage) error
	encode() (json.RawMessage, error)
	check(wrong func(format string, args ...any))
	pointer() reflect.Value
}

// row makes a table of one option. T is the type of its field, to which at leads.
func row[S, T any](jsonName, goName string, u Update, k kind[T], initial T, at func(*S) *T, doc string) table[S] {
	o := option[S]{names: []name{{jsonName, goName}}, update: u, doc: doc, accepts: k.accepts(), python: k.python(), schema: k.schema()}
	o.accessor = func(s *S) value { return typed[T]{at(s), k, initial} }
	o.label = labelOf(o.names)
	return table[S]{o}
}

// group puts the options of a struct G into that of S, as an object in JSON.
func group[S, G any](jsonName, goName string, at func(*S) *G, of ...table[G]) table[S] {
	var t table[S]
	for _, o := range rows(of...) {
		n := append([]name{{jsonName, goName}}, o.names...)
		t = append(t, option[S]{
			names: n, label: labelOf(n), update: o.update, doc: o.doc, accepts: o.accepts, python: o.python, schema: o.schema, goOnly: o.goOnly, process: o.process,
			accessor: func(s *S) value { return o.accessor(at(s)) },
		})
	}
	return t
}

// rows joins tables.
func rows[S any](of ...table[S]) table[S] { return slices.Concat(of...) }

// inGoOnly marks options that Python does not have.
func inGoOnly[S any](t table[S]) table[S] {
	for i := range t {
		t[i].goOnly = true
	}
	return t
}

// inProcesses marks options that mean something only to a deployment with a process of its own.
func inProcesses[S any](t table[S]) table[S] {
	for i := range t {
		t[i].process = true
	}
	return t
}

func labelOf(names []name) label {
	var path, goPath []string
	for _, n := range names {
		path = append(path, n.json)
		if n.code != "" {
			goPath = append(goPath, n.code)
		}
	}
	l := label{path: strings.Join(path, "."), goPath: strings.Join(goPath, ".")}
	if names[len(names)-1].code == "" && len(names) == 1 {
		l.goPath = ""
	}
	return l
}

// source says where the value of an option in s comes from.
func (o option[S]) source(s *S, sources map[string]Source) Source {
	if from, ok := sources[o.path]; ok {
		return from
	}
	if o.accessor(s).isZero() {
		return FromDefault
	}
	return FromCode
}

// fill puts the default into every option of s that is not set, and gives the source of every option.
func (t table[S]) fill(s *S, sources map[string]Source) map[string]Source {
	all := make(map[string]Source, len(t))
	for _, o := range t {
		from := o.source(s, sources)
		if from == FromDefault {
			o.accessor(s).fillDefault()
		}
		all[o.path] = from
	}
	return all
}

// validate lists the options of s that are set and out of range.
func (t table[S]) validate(s *S, sources map[string]Source) (errs []error) {
	for _, o := range t {
		if o.source(s, sources) == FromDefault {
			continue
		}
		o.accessor(s).check(func(format string, args ...any) { errs = append(errs, newMistake(o.label, format, args...)) })
	}
	return errs
}

// merge puts a layer over s and gives the sources that s has then.
func (t table[S]) merge(s *S, sources map[string]Source, layer json.RawMessage, from Source) (map[string]Source, []error) {
	m := merger[S]{s: s, sources: maps.Clone(sources), from: from}
	if m.sources == nil {
		m.sources = map[string]Source{}
	}
	m.object(t, 0, layer)
	if len(m.sources) == 0 {
		m.sources = nil
	}
	return m.sources, m.errs
}

// merger is a merge that goes on.
type merger[S any] struct {
	s       *S
	sources map[string]Source
	from    Source
	errs    []error
}

// object merges an object: the whole layer at depth 0, a group below.
func (m *merger[S]) object(t table[S], depth int, raw json.RawMessage) {
	var at label
	if depth > 0 {
		at = labelOf(t[0].names[:depth])
	}
	if isNull(raw) {
		for _, o := range t {
			m.clear(o)
		}
		return
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		is := shown(raw)
		if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("[")) { // it may have the env_vars of an object inside
			is = "an array"
		}
		m.errs = append(m.errs, newMistake(at, "must be an object, is %s", is))
		return
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		var of table[S]
		for _, o := range t {
			if o.names[depth].json == key {
				of = append(of, o)
			}
		}
		switch raw := fields[key]; {
		case len(of) == 0:
			hint := nearest.Question(key, t.keys(depth))
			if hint == "" {
				hint = "; there are " + strings.Join(t.keys(depth), ", ")
			}
			m.errs = append(m.errs, newMistake(at, "unknown option %s%s", shown(fmt.Appendf(nil, "%q", key)), hint))
		case len(of[0].names) > depth+1:
			m.object(of, depth+1, raw)
		case isNull(raw):
			m.clear(of[0])
		default:
			if err := of[0].accessor(m.s).decode(raw); err != nil {
				m.errs = append(m.errs, newMistake(of[0].label, "%w", err))
				continue
			}
			m.sources[of[0].path] = m.from
		}
	}
}

func (m *merger[S]) clear(o option[S]) {
	o.accessor(m.s).clear()
	delete(m.sources, o.path)
}

// keys are the names at a depth, in order, each once.
func (t table[S]) keys(depth int) []string {
	var keys []string
	for _, o := range t {
		if k := o.names[depth].json; !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys
}

// marshal writes the options of s that are set.
func (t table[S]) marshal(s *S, sources map[string]Source) ([]byte, error) {
	all := map[string]any{}
	for _, o := range t {
		if o.source(s, sources) == FromDefault {
			continue
		}
		raw, err := o.accessor(s).encode()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.path, err)
		}
		at := all
		for _, n := range o.names[:len(o.names)-1] {
			inner, ok := at[n.json].(map[string]any)
			if !ok {
				inner = map[string]any{}
				at[n.json] = inner
			}
			at = inner
		}
		at[o.names[len(o.names)-1].json] = raw
	}
	return json.Marshal(all)
}

// changes lists the options that differ between two structs in which defaults are filled in.
func (t table[S]) changes(before, after *S, sourcesBefore, sourcesAfter map[string]Source) []Change {
	var all []Change
	for _, o := range t {
		b, a := o.text(before), o.text(after)
		if bytes.Equal(b, a) {
			continue
		}
		all = append(all, Change{Option: o.path, Update: o.update, Before: b, After: a,
			FromSource: o.source(before, sourcesBefore), ToSource: o.source(after, sourcesAfter)})
	}
	return all
}

// text is the value of an option as JSON, without white space.
func (o option[S]) text(s *S) json.RawMessage {
	raw, err := o.accessor(s).encode()
	var b bytes.Buffer
	if err != nil || json.Compact(&b, raw) != nil {
		return json.RawMessage("null") // a value that Validate refuses
	}
	return b.Bytes()
}

// typed is the value of an option whose field has type T.
type typed[T any] struct {
	p       *T
	kind    kind[T]
	initial T
}

func (v typed[T]) isZero() bool           { return reflect.ValueOf(v.p).Elem().IsZero() }
func (v typed[T]) clear()                 { *v.p = *new(T) }
func (v typed[T]) fillDefault()           { *v.p = v.initial }
func (v typed[T]) pointer() reflect.Value { return reflect.ValueOf(v.p) }

func (v typed[T]) decode(raw json.RawMessage) error {
	read, err := v.kind.parse(raw, *v.p)
	if err == nil {
		*v.p = read
	}
	return err
}

func (v typed[T]) encode() (json.RawMessage, error) { return json.Marshal(v.kind.format(*v.p)) }

func (v typed[T]) check(wrong func(format string, args ...any)) {
	v.kind.check(*v.p, wrong)
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

// shown is a value in the text of an error, however long it is.
func shown(raw []byte) string {
	if s := strings.ToValidUTF8(string(raw), "\uFFFD"); len(s) <= 80 {
		return s
	}
	return fmt.Sprintf("%s... (%d bytes)", strings.ToValidUTF8(string(raw[:60]), ""), len(raw))
}
