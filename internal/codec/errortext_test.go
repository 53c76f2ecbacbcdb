package codec

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// ownJSON reads itself from JSON by package encoding/json, whose errors quote numbers whole.
type ownJSON struct{ N int }

func (o *ownJSON) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &o.N) }
func (o ownJSON) MarshalJSON() ([]byte, error)  { return json.Marshal(o.N) }

// TestErrorsDoNotQuoteValuesWhole: an error about a large value is short, for each part of it that can be wrong.
func TestErrorsDoNotQuoteValuesWhole(t *testing.T) {
	t.Parallel()
	digits := strings.Repeat("1", 1<<20)
	c := New()
	for name, test := range map[string]struct {
		body string
		into any
	}{
		"a number":             {digits, new(any)},
		"an exponent":          {digits + "e999", new(any)},
		"a fraction":           {"0." + digits + "e999999", new(float64)},
		"a number that is not": {digits, new(int)},
		"a type's own code":    {digits, new(ownJSON)},
		"a time":               {`"` + digits + `"`, new(time.Time)},
		"a key":                {`{"` + digits + `x":1}`, new(map[int]int)},
		"a json.Number":        {`"` + digits + `x"`, new(json.Number)},
	} {
		err := c.Decode(call.JSON, []byte(test.body), test.into)
		if err == nil && name != "a json.Number" || err != nil && len(err.Error()) > 2*textMax {
			text := ""
			if err != nil {
				text = err.Error()[:200]
			}
			t.Errorf("%s: %s", name, text)
		}
	}
	if err := c.DecodeStrict(call.JSON, []byte(`{"`+digits+`":1}`), new(struct{ A int })); err == nil || len(err.Error()) > 2*textMax {
		t.Errorf("an unknown field: %.200v", err)
	}
	if _, err := c.Append(nil, call.JSON, json.Number(digits+"x")); err == nil || len(err.Error()) > 2*textMax {
		t.Errorf("encoded: %.200v", err)
	}
}
