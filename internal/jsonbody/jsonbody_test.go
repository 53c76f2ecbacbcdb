package jsonbody_test

import (
	"reflect"
	"testing"

	"github.com/helve-serve/helve/internal/jsonbody"
)

type inner struct {
	Name string `json:"name"`
}

type body struct {
	Revision int              `json:"revision" min:"1"`
	Force    bool             `json:"force,omitempty"`
	Of       inner            `json:"of,omitzero"`
	Extra    map[string]inner `json:"extra,omitempty"`
	Part     *float64         `json:"part,omitempty"`
}

// TestDecode: a body has the fields of its type, each once, with values of their types; an error names the place.
func TestDecode(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"revision": 3}`:                   "",
		`{"revision": 3, "part": 0.5}`:      "",
		`{"revision": 3, "part": "0.5"}`:    "part must be a number, is \"0.5\"",
		`{"revision": 3, "part": null}`:     "part must be a number, is null",
		`{"revision": 3, "force": true}`:    "",
		`{"revision": 3, "of": {"name":1}}`: "of.name must be a string, is 1",
		`{"revision": 3, "revision": 4}`:    "revision is there twice",
		`{"Revision": 3}`:                   "revision is missing",
		`{"revision": null}`:                "revision must be an integer, is null",
		`{"revision": -1}`:                  "revision must be at least 1, is -1",
		`{"revision": 1.5}`:                 "revision must be an integer below 9223372036854775807, is 1.5",
		`{"revision": 3, "also": 1}`:        "there is no field also; there is revision, force, of, extra, part",
		`{"revision": 3} {}`:                "there is something behind the JSON value",
		`{"revision": 3`:                    "it ends within the JSON value",
		"{\n  \"revision\": x}":             "line 2, column 15: invalid character 'x' looking for beginning of value",
		`{"revision": 3, "extra": {"a": {"name": "x", "name": "y"}}}`: "extra.a.name is there twice",
		"{\"revision\": 3, \"of\": {\"name\": \"\xff\"}}":             "its text is not UTF-8",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			var b body
			err := jsonbody.Decode([]byte(text), &b)
			if got := ""; err != nil {
				if got = err.Error(); got != want {
					t.Errorf("%q, want %q", got, want)
				}
			} else if want != "" || b.Revision != 3 {
				t.Errorf("%+v, want the error %q", b, want)
			}
		})
	}
}

// TestFieldName: the name of a field in JSON, and whether it may be left out.
func TestFieldName(t *testing.T) {
	t.Parallel()
	for i, want := range []struct {
		name     string
		optional bool
	}{{"revision", false}, {"force", true}, {"of", true}, {"extra", true}} {
		if name, optional := jsonbody.FieldName(reflect.TypeFor[body]().Field(i)); name != want.name || optional != want.optional {
			t.Errorf("%s, %t", name, optional)
		}
	}
}
