package spec

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	good := Graph{App: "a", RoutePrefix: "/x", Ingress: &IngressSpec{Deployment: "D"}, Deployments: []Deployment{{Name: "D", Uses: []string{"E"}}, {Name: "E"}}}
	if errs := good.Validate(); len(errs) > 0 {
		t.Errorf("%v", errs)
	}
	for _, name := range []string{"../x", "a/b", "a#b", "ü", "a b", ".", "..", "%2F", `"`, "\\", "a*b", strings.Repeat("é", 64)} {
		named := Graph{App: name, Ingress: &IngressSpec{Deployment: name}, Deployments: []Deployment{{Name: name}}}
		if errs := named.Validate(); len(errs) > 0 {
			t.Errorf("%q: %v", name, errs)
		}
	}
	for text, g := range map[string]Graph{
		"application name is empty":              {},
		`application name "a\nb"`:                {App: "a\nb"},
		`application name "a\u00a0b"`:            {App: "a\u00a0b"}, // looks like a space
		`application name "a\xff": it must be`:   {App: "a\xff"},
		"129 bytes long":                         {App: strings.Repeat("a", 129)},
		`route_prefix "x"`:                       {App: "a", RoutePrefix: "x"},
		`route_prefix "/x/"`:                     {App: "a", RoutePrefix: "/x/"},
		"no ingress":                             {App: "a"},
		`ingress: there is no deployment "X"`:    {App: "a", Ingress: &IngressSpec{Deployment: "X"}},
		`deployment "D": the name is used twice`: {App: "a", Deployments: []Deployment{{Name: "D"}, {Name: "D"}}},
		`"D": uses: there is no deployment "X"`:  {App: "a", Deployments: []Deployment{{Name: "D", Uses: []string{"X"}}}},
		`deployment "D": num_replicas`:           {App: "a", Deployments: []Deployment{{Name: "D", Options: Options{NumReplicas: -1}}}},
	} {
		if got := fmt.Sprint(g.Validate()); !strings.Contains(got, text) {
			t.Errorf("%s: %s", text, got)
		}
	}
	g := Graph{Deployments: []Deployment{{Name: "A", Uses: []string{"B"}}, {Name: "B", Uses: []string{"C", "B"}}, {Name: "C", Uses: []string{"A"}}, {Name: "D", Uses: []string{"A"}}}}
	if got := g.Cycles(); cmp.Diff(got, [][]string{{"A", "B", "C", "A"}, {"B", "B"}}) != "" {
		t.Errorf("%v", got)
	}
}

// random makes graphs that often differ in little.
func random(r *rand.Rand) Graph {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	g := Graph{App: pick("a", "b"), RoutePrefix: pick("", "/")}
	if r.IntN(4) > 0 {
		g.Ingress = &IngressSpec{Deployment: pick("A", "B"), Method: pick("", "M")}
	}
	for range r.IntN(3) {
		d := Deployment{Name: pick("A", "B", "C"), Language: pick("go", "python"), Import: pick("", "m:C"), Receiver: pick("", "*T")}
		for range r.IntN(3) {
			d.Methods = append(d.Methods, Method{Name: pick("M", "N"), Shape: pick("unary", "action"), In: pick("", "string"), Out: pick("", "int"), InKind: pick("", "json")})
		}
		for range r.IntN(3) {
			d.Uses = append(d.Uses, pick("A", "B"))
		}
		if r.IntN(2) == 0 {
			d.Options = Options{NumReplicas: r.IntN(5)}
		}
		g.Deployments = append(g.Deployments, d)
	}
	return g
}

// TestDigestAgreesWithDiff: two graphs have one digest exactly if there is nothing to say about their difference, and
// order and options do not count.
func TestDigestAgreesWithDiff(t *testing.T) {
	t.Parallel()
	equal := 0
	for seed := range uint64(20_000) {
		r := rand.New(rand.NewPCG(seed, 1))
		a, b := random(r), random(r)
		same := func(g Graph) bool { // graphs in which a name occurs twice are refused before anybody compares them
			seen := map[string]bool{}
			for _, d := range g.Deployments {
				if seen[d.Name] {
					return true
				}
				seen[d.Name] = true
				m := map[string]bool{}
				for _, x := range d.Methods {
					if m[x.Name] {
						return true
					}
					m[x.Name] = true
				}
			}
			return false
		}
		if same(a) || same(b) {
			continue
		}
		diff := Diff(a, b, "here", "there")
		if (len(diff) == 0) != (a.Digest() == b.Digest()) {
			t.Fatalf("seed %d: diff %q\n%+v\n%+v", seed, diff, a, b)
		}
		if len(diff) == 0 {
			equal++
		}
		c := a
		c.Deployments = append([]Deployment(nil), a.Deployments...)
		r.Shuffle(len(c.Deployments), func(i, j int) { c.Deployments[i], c.Deployments[j] = c.Deployments[j], c.Deployments[i] })
		for i := range c.Deployments {
			c.Deployments[i].Options = Options{Version: "other"}
		}
		if c.Digest() != a.Digest() || len(Diff(a, c, "x", "y")) > 0 {
			t.Fatalf("seed %d: order or options count", seed)
		}
		text, err := json.Marshal(a)
		var back Graph
		if err != nil || json.Unmarshal(text, &back) != nil || back.Digest() != a.Digest() {
			t.Fatalf("seed %d: JSON changes the digest", seed)
		}
	}
	if equal < 20 {
		t.Errorf("only %d pairs were equal; this test shows little", equal)
	}
}

func TestDiffNamesFields(t *testing.T) {
	t.Parallel()
	a := Graph{App: "a", Deployments: []Deployment{{Name: "D", Methods: []Method{{Name: "M", In: "string"}}}}}
	b := Graph{App: "a", Deployments: []Deployment{{Name: "D", Methods: []Method{{Name: "M", In: "int"}}}, {Name: "E"}}}
	want := []string{"deployment D: method M: input is string in the node, int in the worker", "deployment E: 0 in the node, 1 in the worker"}
	if got := Diff(a, b, "in the node", "in the worker"); cmp.Diff(got, want) != "" {
		t.Errorf("%q", got)
	}
}

type node struct {
	Name string `json:"n"`
	Next *node
	x    int
}

func TestDescribeType(t *testing.T) {
	t.Parallel()
	type a struct{ X []map[string]*int }
	type b struct{ X []map[string]*int64 }
	for want, typ := range map[string]reflect.Type{
		"string": reflect.TypeFor[string](), "[]uint8": reflect.TypeFor[[]byte](), "[2]*bool": reflect.TypeFor[[2]*bool](),
		"spec.a={X []map[string]*int}": reflect.TypeFor[a](), "spec.b={X []map[string]*int64}": reflect.TypeFor[b](),
		`spec.node={Name string json:"n"; Next *spec.node}`: reflect.TypeFor[node](), "interface": reflect.TypeFor[any](),
	} {
		if got := DescribeType(typ); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
