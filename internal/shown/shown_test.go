package shown_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/shown"
)

// TestTexts: a terminal obeys no character of a text; JSON stays the same value, and YAML has the order and the numbers of JSON.
func TestTexts(t *testing.T) {
	t.Parallel()
	if got := shown.Safe("a\x1b[2J\nb\u009b"); got != `a\x1b[2J`+"\n"+`b\x9b` && got != `a\x1b[2J`+"\n"+`b\u009b` {
		t.Errorf("%q", got)
	}
	text := shown.JSON([]byte("\"\u009b\U000e0001é\u200d\""))
	var back string
	if string(text) != `"\u009b\udb40\udc01é`+"\u200d\"" || json.Unmarshal(text, &back) != nil || back != "\u009b\U000e0001é\u200d" {
		t.Errorf("%s, %q", text, back)
	}
	for in, want := range map[string]string{
		`{"b": 1796009420.993, "a": [1]}`: "b: 1796009420.993\na:\n- 1\n",
		`{"m": "one\ntwo\n"}`:             "m: |\n  one\n  two\n",
		`{"m": "\u001b"}`:                 "{\n  \"m\": \"\\u001b\"\n}\n", // no form in YAML
	} {
		got, err := shown.YAML([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
		var a, b any
		if err := shown.FromYAML(got, &a); err != nil || json.Unmarshal([]byte(in), &b) != nil {
			t.Errorf("%s: %v", in, err)
		}
	}
}

// TestAgo: spans of time have the two units that matter.
func TestAgo(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0ms", 12 * time.Second: "12s", 303 * time.Second: "5m3s", 192 * time.Minute: "3h12m", 98 * time.Hour: "4d2h",
	} {
		if got := shown.Ago(d); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
