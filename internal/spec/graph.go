package spec

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Graph describes an application. A worker sends it in its hello, and a node without the application's code takes it as the
// spec.
type Graph struct {
	App         string       `json:"app"`
	Ingress     *IngressSpec `json:"ingress,omitempty"`
	RoutePrefix string       `json:"route_prefix,omitempty"`
	// IngressOptions are the options of the ingress; nil for none.
	IngressOptions *IngressOptions `json:"ingress_options,omitempty"`
	// Together is the autoscaling_policy of a program in Go; nil for none.
	Together    json.RawMessage `json:"together,omitempty"`
	Deployments []Deployment    `json:"deployments"`
}

// IngressSpec names the method that clients outside reach; Method "" is the deployment's default.
type IngressSpec struct {
	Deployment string      `json:"deployment"`
	Method     string      `json:"method,omitempty"`
	Kind       IngressKind `json:"kind,omitempty"`
	// DocsPath is the path below the route prefix where an application of FastAPI shows its documentation, such as /docs; "" for none.
	DocsPath string `json:"docs_path,omitempty"`
}

// HiddenApps begins the names of applications that are tasks and actors of Python programs for Ray Serve. Such programs do not see them in the
// status of their applications.
const HiddenApps = "_hidden."

// IngressKind is how an ingress answers.
type IngressKind string

// The kinds: one result, a stream of them, and an http.Handler, which has no method.
const (
	IngressMethod IngressKind = ""
	IngressStream IngressKind = "stream"
	IngressHTTP   IngressKind = "http"
)

// Deployment is one vertex.
type Deployment struct {
	Name     string   `json:"name"`
	Language string   `json:"language"`           // "go" or "python"
	Import   string   `json:"import,omitempty"`   // Python: module:Class; Go: exec:PATH#APPLICATION of the build that has it, "" for the application's own executable
	Class    string   `json:"class,omitempty"`    // Go: its name in that build
	Receiver string   `json:"receiver,omitempty"` // Go: the type
	Methods  []Method `json:"methods,omitempty"`
	Uses     []string `json:"uses,omitempty"`
	Options  Options  `json:"options"`
}

// Method is one method that can be called.
type Method struct {
	Name   string `json:"name"`
	Shape  string `json:"shape"` // "unary", "action" or "stream"
	In     string `json:"in,omitempty"`
	Out    string `json:"out,omitempty"`
	InKind string `json:"in_kind,omitempty"` // the kind of input that HTTP sends: "none", "string", "bytes" or "json"
}

// normal returns the graph without options, with the lists sorted whose order has no meaning.
func (g Graph) normal() Graph {
	g.IngressOptions = nil
	if g.Ingress != nil && g.Ingress.DocsPath != "" { // is told to people, and changes nothing
		in := *g.Ingress
		in.DocsPath = ""
		g.Ingress = &in
	}
	g.Deployments = slices.Clone(g.Deployments)
	for i := range g.Deployments {
		d := &g.Deployments[i]
		d.Options = Options{}
		d.Methods = slices.Clone(d.Methods)
		slices.SortFunc(d.Methods, func(a, b Method) int { return cmp.Compare(a.Name, b.Name) })
		d.Uses = slices.Clone(d.Uses)
		slices.Sort(d.Uses)
		if len(d.Methods) == 0 {
			d.Methods = nil
		}
		if len(d.Uses) == 0 {
			d.Uses = nil
		}
	}
	slices.SortFunc(g.Deployments, func(a, b Deployment) int { return cmp.Compare(a.Name, b.Name) })
	return g
}

// Digest is a SHA-256 over everything but the options, in hex.
func (g Graph) Digest() string {
	b, err := json.Marshal(g.normal())
	if err != nil {
		panic(err) // plain strings always marshal
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// CheckBuilt compares the graph that a Go worker has built with that of its node; nil compares nothing. The worker sends its digest alone if the graph is large. app is the name of the application on
// the node.
func CheckBuilt(ours *Graph, app string, built json.RawMessage, digest string) error {
	if ours == nil {
		return nil
	}
	const differs = "application %s is not the same in its worker as in the node (Build must be deterministic and without side effects)"
	if built == nil && digest != "" {
		if digest != ours.Digest() {
			return fmt.Errorf(differs+"; it is too large to say in what", app)
		}
		return nil
	}
	var theirs Graph
	if err := json.Unmarshal(built, &theirs); err != nil {
		return fmt.Errorf("the worker's description of application %s does not parse: %w", app, err)
	}
	if ours.Digest() == theirs.Digest() {
		return nil
	}
	return fmt.Errorf(differs+":\n  %s", app, strings.Join(Diff(*ours, theirs, "in the node", "in the worker"), "\n  "))
}

// Diff names the deployments and fields in which two graphs differ, without options; nameA and nameB name the two in messages.
// The list is empty exactly if the digests are equal.
func Diff(a, b Graph, nameA, nameB string) []string {
	a, b = a.normal(), b.normal()
	var out []string
	differ := func(what, x, y string) {
		if x != y {
			out = append(out, fmt.Sprintf("%s is %s %s, %s %s", what, orNone(x), nameA, orNone(y), nameB))
		}
	}
	differ("application", a.App, b.App)
	differ("route prefix", a.RoutePrefix, b.RoutePrefix)
	differ("ingress", a.Ingress.String(), b.Ingress.String())
	as, bs := byName(a.Deployments), byName(b.Deployments)
	for _, name := range names(a.Deployments, b.Deployments) {
		x, y := as[name], bs[name]
		if len(x) != len(y) {
			out = append(out, fmt.Sprintf("deployment %s: %d %s, %d %s", name, len(x), nameA, len(y), nameB))
			continue
		}
		for i := range x {
			diffDeployment("deployment "+name+": ", x[i], y[i], differ)
		}
	}
	return out
}

func diffDeployment(at string, x, y Deployment, differ func(what, x, y string)) {
	differ(at+"language", x.Language, y.Language)
	differ(at+"import path", x.Import, y.Import)
	differ(at+"name in its build", x.Class, y.Class)
	differ(at+"type", x.Receiver, y.Receiver)
	differ(at+"uses", strings.Join(x.Uses, ", "), strings.Join(y.Uses, ", "))
	for i := range max(len(x.Methods), len(y.Methods)) {
		if i >= len(x.Methods) || i >= len(y.Methods) || x.Methods[i].Name != y.Methods[i].Name {
			differ(at+"methods", methodNames(x.Methods), methodNames(y.Methods))
			return
		}
	}
	for i, m := range x.Methods {
		n, at := y.Methods[i], at+"method "+m.Name+": "
		differ(at+"shape", m.Shape, n.Shape)
		differ(at+"input", m.In, n.In)
		differ(at+"output", m.Out, n.Out)
		differ(at+"kind of input", m.InKind, n.InKind)
	}
}

func methodNames(ms []Method) string {
	var s []string
	for _, m := range ms {
		s = append(s, m.Name)
	}
	return strings.Join(s, ", ")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func (i *IngressSpec) String() string {
	if i == nil {
		return ""
	}
	s := i.Deployment + "." + i.Method
	if i.Kind != IngressMethod {
		s += " (" + string(i.Kind) + ")"
	}
	return s
}

func byName(ds []Deployment) map[string][]Deployment {
	m := map[string][]Deployment{}
	for _, d := range ds {
		m[d.Name] = append(m[d.Name], d)
	}
	return m
}

func names(as, bs []Deployment) []string {
	var s []string
	for _, d := range as {
		s = append(s, d.Name)
	}
	for _, d := range bs {
		s = append(s, d.Name)
	}
	slices.Sort(s)
	return slices.Compact(s)
}

// Validate lists every mistake: names, ingress, uses, options.
func (g Graph) Validate() []error {
	var errs []error
	if err := validName(g.App); err != nil {
		errs = append(errs, fmt.Errorf("application name %w", err))
	}
	if g.RoutePrefix != "" && (g.RoutePrefix[0] != '/' || len(g.RoutePrefix) > 1 && strings.HasSuffix(g.RoutePrefix, "/")) {
		errs = append(errs, fmt.Errorf("route_prefix %q: must begin with / and not end with it", g.RoutePrefix))
	}
	seen := map[string]bool{}
	for _, d := range g.Deployments {
		if err := validName(d.Name); err != nil {
			errs = append(errs, fmt.Errorf("deployment name %w", err))
		} else if seen[d.Name] {
			errs = append(errs, fmt.Errorf("deployment %q: the name is used twice", d.Name))
		}
		seen[d.Name] = true
		errs = append(errs, InDeployment(d.Name, d.Options.Validate()...)...)
	}
	for _, d := range g.Deployments {
		for _, u := range d.Uses {
			if !seen[u] {
				errs = append(errs, fmt.Errorf("deployment %q: uses: there is no deployment %q", d.Name, u))
			}
		}
	}
	errs = append(errs, g.validateWorkers()...)
	errs = append(errs, g.IngressOptions.Check()...)
	switch {
	case g.Ingress == nil:
		errs = append(errs, errNoIngress)
	case !seen[g.Ingress.Deployment]:
		errs = append(errs, fmt.Errorf("ingress: there is no deployment %q", g.Ingress.Deployment))
	}
	return errs
}

var errNoIngress = errors.New("no ingress: call App.Ingress with a method")

// ValidatePart is Validate for an application of which another application takes deployments: it needs no ingress.
func (g Graph) ValidatePart() []error {
	return slices.DeleteFunc(g.Validate(), func(err error) bool { return err == errNoIngress }) //nolint:errorlint // as Validate returns it
}

const maxName = 128

// validName allows any text that can be printed on one line, for example "a/b" and "Ü #2". A name is escaped where it becomes a part of a path.
func validName(s string) error {
	switch {
	case strings.TrimSpace(s) == "":
		return errors.New("is empty")
	case len(s) > maxName:
		return fmt.Errorf("%.20q... is %d bytes long, at most %d are allowed", s, len(s), maxName)
	case !utf8.ValidString(s):
		return fmt.Errorf("%q: it must be UTF-8", s)
	}
	for _, c := range s {
		if !unicode.IsPrint(c) {
			return fmt.Errorf("%q: %q cannot be printed on one line", s, c)
		}
	}
	return nil
}

// Cycles lists declared cycles, each once, as the names along it with the first repeated at the end.
func (g Graph) Cycles() [][]string {
	uses := map[string][]string{}
	for _, d := range g.Deployments {
		uses[d.Name] = d.Uses
	}
	var cycles [][]string
	done, path := map[string]bool{}, []string{}
	var visit func(string)
	visit = func(n string) {
		if i := slices.Index(path, n); i >= 0 {
			cycles = append(cycles, append(slices.Clone(path[i:]), n))
			return
		}
		if done[n] {
			return
		}
		path = append(path, n)
		for _, u := range uses[n] {
			visit(u)
		}
		path = path[:len(path)-1]
		done[n] = true
	}
	for _, d := range g.Deployments {
		visit(d.Name)
	}
	return cycles
}

// DescribeType describes a Go type by the parts that an encoded value shows, so that the description changes exactly if encoded
// values change. A type that occurs inside of itself is named there.
func DescribeType(t reflect.Type) string {
	var b strings.Builder
	describe(&b, t, nil)
	return b.String()
}

func describe(b *strings.Builder, t reflect.Type, inside []reflect.Type) {
	if slices.Contains(inside, t) {
		b.WriteString(t.String())
		return
	}
	named := t.Name() != "" && t.PkgPath() != ""
	if named {
		b.WriteString(t.String())
		inside = append(inside, t)
		if t.Kind() == reflect.Struct && t.NumField() == 0 {
			return
		}
		b.WriteByte('=')
	}
	switch t.Kind() {
	case reflect.Pointer:
		b.WriteByte('*')
		describe(b, t.Elem(), inside)
	case reflect.Slice:
		b.WriteString("[]")
		describe(b, t.Elem(), inside)
	case reflect.Array:
		fmt.Fprintf(b, "[%d]", t.Len())
		describe(b, t.Elem(), inside)
	case reflect.Map:
		b.WriteString("map[")
		describe(b, t.Key(), inside)
		b.WriteByte(']')
		describe(b, t.Elem(), inside)
	case reflect.Struct:
		b.WriteString("{")
		first := true
		for f := range t.Fields() {
			if !f.IsExported() && !f.Anonymous {
				continue
			}
			if !first {
				b.WriteString("; ")
			}
			first = false
			b.WriteString(f.Name)
			b.WriteByte(' ')
			describe(b, f.Type, inside)
			for _, key := range []string{"helve", "json"} {
				if tag, ok := f.Tag.Lookup(key); ok {
					fmt.Fprintf(b, " %s:%q", key, tag)
				}
			}
		}
		b.WriteString("}")
	default:
		b.WriteString(t.Kind().String())
	}
}

// ConfigDigest returns a SHA-256 in hex over a user config without its white space. It is empty if there is no config.
func ConfigDigest(config json.RawMessage) string {
	if config == nil {
		return ""
	}
	var b bytes.Buffer
	if json.Compact(&b, config) != nil {
		return ""
	}
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:])
}
