package deploy

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/spec"
)

const fromRank = "exec:/rank#rank"

// rank is a build with deployments that use each other.
func rank() *Part {
	two := spec.Options{NumReplicas: 2, Sources: map[string]spec.Source{"num_replicas": spec.FromCode}}
	return &Part{Build: build.Build{Path: "/rank"}, Graph: spec.Graph{App: "rank", Ingress: &spec.IngressSpec{Deployment: "Ranker", Method: "Rank"}, IngressOptions: &spec.IngressOptions{MaxBody: 9}, Deployments: []spec.Deployment{
		{Name: "Ranker", Language: "go", Uses: []string{"Scorer"}, Options: two}, {Name: "Scorer", Language: "go", Uses: []string{"Ranker"}},
		{Name: "Model", Language: "python"}, {Name: "Picker", Language: "go", Options: spec.Options{RequestRouter: spec.RequestRouter{Policy: spec.Custom}}},
	}}}
}

// shop is a Python application whose ingress is d.
func shop(d string) *App {
	return &App{Graph: spec.Graph{App: "shop", Ingress: &spec.IngressSpec{Deployment: d}, Deployments: []spec.Deployment{{Name: "Embedder", Language: "python"}}}}
}

// TestAddPart: a deployment of a build has its description under the name of the application, with the application's options over its own, and the
// deployments that it uses come along once.
func TestAddPart(t *testing.T) {
	t.Parallel()
	a := shop("Cheap")
	for _, name := range []string{"Cheap", "Dear"} {
		b := Bound{Name: name, Class: "Ranker", Uses: []string{"Embedder"}, Options: []byte(`{"max_ongoing_requests": 7}`), Arguments: []byte(name)}
		if err := a.AddPart(fromRank, rank(), b); err != nil {
			t.Fatal(err)
		}
	}
	if errs := a.AddUsed(); len(errs) > 0 {
		t.Fatal(errs)
	}
	var got []string
	for _, d := range a.Graph.Deployments {
		got = append(got, fmt.Sprint(d.Name, " ", d.Class, " ", d.Uses, " ", d.Options.NumReplicas, " ", d.Options.MaxOngoingRequests, " ", d.Options.Isolation))
	}
	want := "Embedder  [] 0 0 |Cheap Ranker [Embedder Scorer] 2 7 process|Dear Ranker [Embedder Scorer] 2 7 process|Scorer Scorer [Ranker] 0 0 process|Ranker Ranker [Scorer] 2 0 process"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("\n%s, want\n%s", s, want)
	}
	if in, o := a.Graph.Ingress, a.Graph.IngressOptions; in.Deployment != "Cheap" || in.Method != "Rank" || o == nil || o.MaxBody != 9 {
		t.Errorf("the ingress is %v, with the options %v", in, o)
	}
	if string(a.Arguments["Dear"]) != "Dear" || a.Arguments["Scorer"] != nil {
		t.Errorf("arguments %q", a.Arguments)
	}
}

// TestAddPartMistakes: each mistake says what there is.
func TestAddPartMistakes(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		b    Bound
		want string
	}{
		"no such deployment":  {Bound{Name: "R", Class: "ranker"}, `application rank of /rank has no deployment "ranker"; it has Ranker, Scorer, Model, Picker; did you mean Ranker?`},
		"in Python":           {Bound{Name: "M", Class: "Model"}, "Model is a deployment in Python"},
		"a policy of its own": {Bound{Name: "P", Class: "Picker"}, "routing policy is code of the build"},
		"an option":           {Bound{Name: "R", Class: "Ranker", Options: []byte(`{"num_replicas": "x"}`)}, "num_replicas"},
		"a name that is used": {Bound{Name: "Embedder2", Class: "Scorer"}, ""},
		"a used name":         {Bound{Name: "Scorer", Class: "Ranker"}, "the application has another deployment of that name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := shop("Embedder")
			err := a.AddPart(fromRank, rank(), x.b)
			if err == nil {
				err = errors.Join(a.AddUsed()...)
			}
			if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
				t.Errorf("%v, want %q", err, x.want)
			}
		})
	}
}

// TestPlaceOfParts: deployments of one build share a worker, and their arguments are part of their code.
func TestPlaceOfParts(t *testing.T) {
	t.Parallel()
	place := func(path, arguments string) (Placement, string) {
		a, p := shop("R"), rank()
		p.Program = host.Program{Path: path}
		if err := a.AddPart(fromRank, p, Bound{Name: "R", Class: "Ranker", Arguments: []byte(arguments)}); err != nil {
			t.Fatal(err)
		}
		_, placed := a.Place(a.Graph.Deployments[1], nil, Settings{})
		return placed, a.Identity(host.Program{})
	}
	one, id := place("/one", "x")
	same, sameID := place("/one", "x")
	bound, boundID := place("/one", "y")
	built, builtID := place("/two", "x")
	if one.GoKey == "" || one.Code != same.Code || id != sameID {
		t.Error("the same build with the same arguments is other code")
	}
	if bound.GoKey != one.GoKey || bound.Code == one.Code || boundID == id {
		t.Error("other arguments: another worker, or the same code")
	}
	if built.GoKey == one.GoKey || built.Code == one.Code || builtID == id {
		t.Error("another build: the same worker, or the same code")
	}
}
