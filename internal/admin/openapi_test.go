package admin

import (
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/jsonbody"
)

// TestOpenAPI: the document has each route with its method, its parameters and its role; each reference leads to a schema, and ids are there once.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	o := operate(t)
	w := o.ask(t, "", "GET /openapi.json", "")
	var doc struct {
		OpenAPI    string
		Paths      map[string]map[string]struct{ OperationID, Description string }
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || doc.OpenAPI != "3.1.0" {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	var ids []string
	for _, r := range routes() {
		of := doc.Paths[r.path][strings.ToLower(r.method)]
		if of.OperationID != r.operation || !strings.Contains(of.Description, string(r.role)) {
			t.Errorf("%s %s: %+v", r.method, r.path, of)
		}
		ids = append(ids, r.operation)
	}
	slices.Sort(ids)
	if unique := slices.Compact(slices.Clone(ids)); len(unique) != len(ids) {
		t.Errorf("ids are not unique: %v", ids)
	}
	for _, m := range regexp.MustCompile(`#/components/schemas/(\w+)`).FindAllStringSubmatch(w.Body.String(), -1) {
		if len(doc.Components.Schemas[m[1]].Properties) == 0 {
			t.Errorf("there is no schema %s", m[1])
		}
	}
	own, reference := doc.Components.Schemas["HelvetypeScalingDecision"].Properties, doc.Components.Schemas["ScalingDecision"].Properties // two types of one name
	if own["at"] == nil || reference["timestamp_s"] == nil {
		t.Errorf("%v and %v", own, reference)
	}
	if len(doc.Components.Schemas["AppDetails"].Properties) < 10 || doc.Components.Schemas["ReplicaDetails"].Properties["node_id"] == nil {
		t.Errorf("%+v", doc.Components.Schemas["ReplicaDetails"])
	}
}

// TestTableOfRoutes: each row is complete, and its method fits its kind.
func TestTableOfRoutes(t *testing.T) {
	t.Parallel()
	for _, r := range routes() {
		t.Run(r.method+" "+r.path, func(t *testing.T) {
			t.Parallel()
			if r.about == "" || r.answer == nil || r.serve == nil || r.operation == "" || r.role == "" {
				t.Errorf("%+v", r)
			}
			if r.changes && (r.method == http.MethodGet || r.role == helvetype.RoleRead) {
				t.Error("a change by a reader")
			}
			if !r.changes && r.method != http.MethodGet && !strings.HasSuffix(r.path, "/plan") {
				t.Error("a method that changes, and no change")
			}
		})
	}
}

// TestErrorsOfRoutes: the document has the errors of each route, with the body that each of them has.
func TestErrorsOfRoutes(t *testing.T) {
	t.Parallel()
	paths := operate(t).document()["paths"].(object)
	for at, want := range map[string]string{
		"get /api/v1/status":                   "200 401 403 501 503 default",
		"get /api/v1/events":                   "200 400 401 403 501 503 default",
		"get /api/v1/applications/{app}":       "200 401 403 404 501 503 default",
		"put /api/serve/applications/":         "200 400 401 403 409 412 413 501 503 default",
		"delete /api/v1/applications/{app}":    "200 400 401 403 404 409 412 501 503 default",
		"post /api/v1/applications/{app}/plan": "200 400 401 403 404 413 501 503 default",
	} {
		method, path, _ := strings.Cut(at, " ")
		responses := paths[path].(object)[method].(object)["responses"].(object)
		if got := strings.Join(slices.Sorted(maps.Keys(responses)), " "); got != want {
			t.Errorf("%s: %s, want %s", at, got, want)
		}
		for status, r := range responses {
			if r.(object)["description"] == "" || r.(object)["content"].(object)["application/json"] == nil && status != "200" {
				t.Errorf("%s: %s has no body", at, status)
			}
		}
	}
}

// FuzzBody: a body that is not refused is JSON with numbers in their bounds, and no body ends the node.
func FuzzBody(f *testing.F) {
	for _, text := range []string{`{"target_num_replicas":1}`, `{"config":"","if":1,"wait":true}`, "null", "[", `{"name":"a","role":"read"}`, `{"target_num_replicas":1e2}`, "{}{}", `{"a":{"b":null}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var (
			scale    scaleBody
			rollback rollbackBody
			named    tokenBody
			apply    helvetype.ApplyRequest
			options  map[string]json.RawMessage
		)
		for _, into := range []any{&scale, &rollback, &named, &apply, &options} {
			if jsonbody.Decode(body, into) != nil {
				continue
			}
			if !json.Valid(body) {
				t.Errorf("%q is no JSON", body)
			}
		}
		if scale.TargetNumReplicas < 0 || rollback.Revision < 0 {
			t.Errorf("%q: %d replicas, revision %d", body, scale.TargetNumReplicas, rollback.Revision)
		}
	})
}

// FuzzRequest: no request ends the node or is answered with a failure of it, and only one with the token changes something.
func FuzzRequest(f *testing.F) {
	for _, r := range routes() {
		f.Add(r.method, strings.NewReplacer("{app}", "app", "{deployment}", "D", "{replica}", "D%23001", "{name}", "x").Replace(r.path), `"7"`, "", `{"target_num_replicas":1}`)
	}
	f.Add("PUT", "/api/serve/applications/?wait&source=%00", "*", "Bearer x", "applications: [")
	o := operate(f)
	f.Fuzz(func(t *testing.T, method, target, match, authorization, body string) {
		if strings.HasPrefix(target, "/debug/pprof/") || strings.Contains(target, "follow") {
			return // profiles and streams take time
		}
		r, err := http.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:8265"+target, strings.NewReader(body))
		if err != nil || !strings.HasPrefix(target, "/") {
			return // a client cannot send it
		}
		w := o.serveFuzzed(r, match, authorization)
		if w.Code >= 500 && w.Code != http.StatusNotImplemented {
			t.Errorf("%s %s: %d %s", method, target, w.Code, w.Body)
		}
		if asked := o.operator.last(); strings.HasPrefix(asked, anonymous+":") {
			t.Errorf("without a token: %s", asked)
		}
	})
}
