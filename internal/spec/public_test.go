package spec_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/spec"
)

// TestPublicFields: every row that has a name for Go has a field of helve.Options of that name, and every field has a row.
func TestPublicFields(t *testing.T) {
	t.Parallel()
	types := map[string]reflect.Type{"": reflect.TypeFor[helve.Options](), "Routing": reflect.TypeFor[helve.ConsistentHash]()}
	seen := []string{"Uses"} // the edges of the graph
	for _, path := range spec.GoFields() {
		at, field := "", path
		if i := strings.LastIndex(path, "."); i >= 0 {
			at, field = path[:i], path[i+1:]
		}
		if types[at] == nil {
			types[at] = types[""]
			for name := range strings.SplitSeq(at, ".") {
				f, ok := types[at].FieldByName(name)
				if !ok {
					t.Fatalf("helve.Options has no field %s", at)
				}
				types[at] = f.Type
			}
		}
		if _, ok := types[at].FieldByName(field); !ok {
			t.Errorf("the row of %s has no field in %s", path, types[at])
		}
		seen = append(seen, strings.Split(path, ".")[0])
	}
	for f := range types[""].Fields() {
		if !slices.Contains(seen, f.Name) {
			t.Errorf("the field %s of helve.Options has no row", f.Name)
		}
	}
}

// TestPublicOptions: options of every kind arrive with their values, and come back with their defaults.
func TestPublicOptions(t *testing.T) {
	t.Parallel()
	o := helve.Options{
		NumReplicas: new(3), Isolation: helve.Process, Routing: helve.ConsistentHash{Fallbacks: new(0)}, Limits: helve.Limits{CPUs: 2}, Env: map[string]string{"A": "1"},
		StrictCodec: true,
	}
	e, err := o.Effective()
	if err != nil {
		t.Fatal(err)
	}
	r, ok := e.Routing.(helve.ConsistentHash)
	if *e.NumReplicas != 3 || *e.MaxOngoingRequests != 5 || !ok || *r.Fallbacks != 0 || *r.VirtualNodes != 100 || e.Limits.CPUs != 2 || e.Env["A"] != "1" || !e.StrictCodec {
		t.Errorf("%+v, %+v", e, r)
	}
	for path, want := range map[string]string{
		"num_replicas": "code", "max_ongoing_requests": "default", "request_router.policy": "code", "request_router.fallback_replicas": "code",
		"request_router.virtual_nodes": "default", "limits.num_cpus": "code", "limits.memory": "default", "strict_codec": "code", "user_config": "default",
	} {
		if e.Sources[path] != want {
			t.Errorf("%s comes from %s, want %s", path, e.Sources[path], want)
		}
	}
	if o.MaxOngoingRequests != nil || *o.Routing.(helve.ConsistentHash).Fallbacks != 0 {
		t.Error("Effective has changed the options")
	}
	if _, err := (helve.Options{UserConfig: make(chan int)}).Effective(); err == nil || !strings.HasPrefix(err.Error(), "UserConfig (user_config): ") {
		t.Error(err)
	}
	if e, err = (helve.Options{}).Effective(); err != nil || e.Routing != (helve.PowerOfTwoChoices{}) || e.Isolation != helve.InNode {
		t.Errorf("%+v, %v", e, err)
	}
}
