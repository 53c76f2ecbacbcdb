package assign

import (
	"encoding/json"
	"testing"
)

// TestOptions has values of JSON, texts, and paths into options.
func TestOptions(t *testing.T) {
	t.Parallel()
	got, err := Options([]string{"a=1", "b.c=x y", "b.d=", `e={"n":9007199254740993}`, "f=\"{a\"", "g=true"})
	b, merr := json.Marshal(got)
	if want := `{"a":1,"b":{"c":"x y","d":null},"e":{"n":9007199254740993},"f":"{a","g":true}`; err != nil || merr != nil || string(b) != want {
		t.Errorf("%s, %v, %v", b, err, merr)
	}
	for _, args := range [][]string{{"a"}, {"=1"}, {"a..b=1"}, {"a=1", "a=2"}, {"a=1", "a.b=2"}, {"a={b"}, {"a=[1"}} {
		if got, err := Options(args); err == nil {
			t.Errorf("%q: %v without an error", args, got)
		}
	}
}
