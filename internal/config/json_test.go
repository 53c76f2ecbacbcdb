package config_test

import (
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/config"
)

// TestJSON: a file in JSON is read by the rules of JSON, also where those of YAML are others.
func TestJSON(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ args, want string }{
		"pairs of surrogates":          {`{"x": "\ud83d\ude00"}`, `{"x":"😀"}`},
		"a surrogate alone":            {`{"x": "a\ud83dz"}`, `{"x":"a�z"}`},
		"escaped control characters":   {`{"x": "\u0007\u001b\b\f\n\u0085\u2028\/"}`, `{"x":"\u0007\u001b\b\f\n` + "\u0085" + `\u2028/"}`},
		"an escaped name":              {`{"\u0064": 1}`, `{"d":1}`},
		"a number with an exponent":    {`{"e": 1e3, "f": -2.50, "zero": -0, "big": 12345678901234567890123}`, `{"e":1000.0,"f":-2.5,"zero":0,"big":12345678901234567890123}`},
		"marks of YAML":                {`{"<<": {"k": 1}, "*x": "&y", "t": "!!str", "u": "a # b", "yes": "off", "time": "1:30"}`, `{"<<":{"k":1},"*x":"&y","t":"!!str","u":"a # b","yes":"off","time":"1:30"}`},
		"an empty object and an array": {`{"o": {}, "a": [], "n": null, "b": [true, [false]]}`, `{"o":{},"a":[],"n":null,"b":[true,[false]]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := config.Read("f.json", []byte(`{"applications": [{"import_path": "a:b", "args": `+c.args+`}]}`))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(f.Applications[0].Args); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestMistakesOfJSON: a mistake has the place of its field or value, in lines and characters.
func TestMistakesOfJSON(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"a field twice":         {"{\n \"applications\": [\n  {\"import_path\": \"a:b\", \"args\": {\"x\": \"é\"}, \"import_path\": \"c:d\"}]}", "f.json:3:46: import_path: is in line 3 too"},
		"an unknown field":      {"{\n \"applications\": [\n  {\"import_path\": \"a:b\", \"é\": 1}]}", "f.json:3:26: é: an application has no such field"},
		"a value":               {"{\"applications\": [{\"import_path\": \"a:b\",\n\t\"deployments\": [{\"name\": \"D\", \"num_replicas\":   \"many\"}]}]}", "f.json:2:50: "},
		"a deep value":          {`{"applications": ` + strings.Repeat("[", 60) + strings.Repeat("]", 60) + "}", "f.json:1:68: has more than 50 values inside each other"},
		"a number with no form": {`{"applications": [{"import_path": "a:b", "args": {"x": 1e999}}]}`, "f.json:1:56: 1e999 cannot be read as a number"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Read("f.json", []byte(c.text))
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}
