package config_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/config"
)

type schema = map[string]any

// TestSchema holds that an editor with the schema marks no field of a file that the reader takes, and marks the mistakes of some that it does not take.
func TestSchema(t *testing.T) {
	t.Parallel()
	var root schema
	if err := json.Unmarshal(config.Schema(), &root); err != nil {
		t.Fatal(err)
	}
	application := schema{"$ref": "#/$defs/application"}
	each(t, "ray", func(t *testing.T, name string, source []byte) {
		f, err := config.Read(name, source)
		if err != nil {
			t.Fatal(err)
		}
		for _, app := range f.Applications {
			var v any
			if err := json.Unmarshal(app.Submitted, &v); err != nil {
				t.Fatal(err)
			}
			wrong := invalid(root, application, v, app.Name)
			if filepath.Base(name) == "environment.yaml" { // a number in quotes, which an editor may mark
				wrong = slices.DeleteFunc(wrong, func(w string) bool { return strings.HasPrefix(w, "env.deployments.0.ray_actor_options.num_cpus") })
			}
			if len(wrong) > 0 {
				t.Error(strings.Join(wrong, "\n"))
			}
		}
	})
	for _, c := range []struct{ app, where string }{
		{`{"name":"a"}`, "import_path"},
		{`{"import_path":"a:b","route_prefx":"/"}`, "route_prefx"},
		{`{"import_path":"a:b","deployments":[{}]}`, "name"},
		{`{"import_path":"a:b","deployments":[{"name":"D","num_replicas":0}]}`, "num_replicas"},
		{`{"import_path":"a:b","deployments":[{"name":"D","max_queued_requests":-2}]}`, "max_queued_requests"},
		{`{"import_path":"a:b","deployments":[{"name":"D","rollout_config":{"max_surge":"x"}}]}`, "max_surge"},
		{`{"import_path":"a:b","deployments":[{"name":"D","ray_actor_options":{"num_gpu":1}}]}`, "num_gpu"},
		{`{"import_path":"a:b","runtime_env":{"env_vars":{"A":1}}}`, "A"},
	} {
		var v any
		if err := json.Unmarshal([]byte(c.app), &v); err != nil {
			t.Fatal(err)
		}
		if wrong := invalid(root, application, v, "app"); len(wrong) == 0 || !strings.Contains(strings.Join(wrong, "\n"), c.where) {
			t.Errorf("%s: %v", c.app, wrong)
		}
	}
}

// invalid lists the differences of a value from a schema, for the words of JSON Schema that config.Schema has.
func invalid(root, s schema, v any, at string) (wrong []string) {
	if ref, ok := s["$ref"].(string); ok {
		return invalid(root, root["$defs"].(schema)[strings.TrimPrefix(ref, "#/$defs/")].(schema), v, at)
	}
	fail := func(format string, args ...any) { wrong = append(wrong, at+": "+fmt.Sprintf(format, args...)) }
	same := func(a, b any) bool { x, _ := json.Marshal(a); y, _ := json.Marshal(b); return string(x) == string(y) }
	if of, ok := s["anyOf"].([]any); ok && !slices.ContainsFunc(of, func(one any) bool { return len(invalid(root, one.(schema), v, at)) == 0 }) {
		fail("none of %v", of)
	}
	if of, ok := s["enum"].([]any); ok && !slices.ContainsFunc(of, func(one any) bool { return same(one, v) }) {
		fail("not one of %v", of)
	}
	if c, ok := s["const"]; ok && !same(c, v) {
		fail("not %v", c)
	}
	if n, ok := v.(float64); ok {
		if least, ok := s["minimum"].(float64); ok && n < least {
			fail("less than %v", least)
		}
		if least, ok := s["exclusiveMinimum"].(float64); ok && n <= least {
			fail("not more than %v", least)
		}
		if most, ok := s["maximum"].(float64); ok && n > most {
			fail("more than %v", most)
		}
	}
	if text, ok := v.(string); ok {
		if p, ok := s["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(text) {
			fail("does not match %s", p)
		}
	}
	types := map[bool][]any{}[true]
	switch kind := s["type"].(type) {
	case string:
		types = []any{kind}
	case []any:
		types = kind
	}
	if len(types) > 0 && !slices.ContainsFunc(types, func(kind any) bool { return isType(kind.(string), v) }) {
		fail("is no %v", types)
	}
	switch v := v.(type) {
	case []any:
		if items, ok := s["items"].(schema); ok {
			for i, item := range v {
				wrong = append(wrong, invalid(root, items, item, fmt.Sprintf("%s.%d", at, i))...)
			}
		}
	case map[string]any:
		if required, ok := s["required"].([]any); ok {
			for _, name := range required {
				if _, ok := v[name.(string)]; !ok {
					fail("%s is missing", name)
				}
			}
		}
		properties, _ := s["properties"].(schema)
		patterns, _ := s["patternProperties"].(schema)
		for name, inner := range v {
			switch of, ok := properties[name].(schema); {
			case ok:
				wrong = append(wrong, invalid(root, of, inner, at+"."+name)...)
			case len(patterns) > 0 && strings.HasPrefix(name, "_"):
			default:
				switch more := s["additionalProperties"].(type) {
				case bool:
					if !more {
						fail("unknown %s", name)
					}
				case schema:
					wrong = append(wrong, invalid(root, more, inner, at+"."+name)...)
				}
			}
		}
	}
	return wrong
}

func isType(kind string, v any) bool {
	switch v := v.(type) {
	case nil:
		return kind == "null"
	case bool:
		return kind == "boolean"
	case float64:
		return kind == "number" || kind == "integer" && v == float64(int64(v))
	case string:
		return kind == "string"
	case []any:
		return kind == "array"
	}
	return kind == "object"
}
