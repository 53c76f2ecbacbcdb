package codec

import (
	"testing"

	"github.com/helve-serve/helve/internal/call"
)

// TestTextForClients: clients read of kinds of JSON, and of no types of Go.
func TestTextForClients(t *testing.T) {
	t.Parallel()
	type inner struct {
		Age int8 `json:"age"`
	}
	type input struct {
		Name  string             `json:"name"`
		Score float64            `json:"score"`
		Users []inner            `json:"users"`
		By    map[string]float32 `json:"by"`
	}
	for text, want := range map[string]string{
		`[1]`:                     "the input is an array; this method takes an object",
		`"x"`:                     "the input is a string; this method takes an object",
		`{"name":5}`:              "field name of the input is a number; it must be a string",
		`{"score":true}`:          "field score of the input is a boolean; it must be a number",
		`{"users":[{"age":1.5}]}`: "field users[0].age of the input is a number with a fraction; it must be an integer",
		`{"users":[{"age":300}]}`: "field users[0].age of the input: 300 is out of range",
		`{"by":[]}`:               "field by of the input is an array; it must be an object",
		`{"name":`:                "", // the text of JSON's own errors has no types
	} {
		var v input
		if err := New().Decode(call.JSON, []byte(text), &v); err == nil || TextForClients(err) != want {
			t.Errorf("%s: %v: %q, want %q", text, err, TextForClients(err), want)
		}
	}
}
