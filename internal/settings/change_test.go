package settings

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
)

// nodeOf is the node's settings of a JSON text.
func nodeOf(t *testing.T, text string) (s Node) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestChanged: fields that are there change, null takes away, and the others stay.
func TestChanged(t *testing.T) {
	t.Parallel()
	const before = `{"http_options":{"port":8001,"root_path":"/v1","request_timeout_s":5},"logging_config":{"log_level":"DEBUG"},"tracing_config":{"enabled":true},"target_capacity":40}`
	whole := nodeOf(t, before)
	for change, want := range map[string]string{
		`{"target_capacity":50}`:                                                   strings.Replace(before, `"target_capacity":40`, `"target_capacity":50,"target_capacity_rises":true`, 1),
		`{"target_capacity":0}`:                                                    strings.Replace(before, "40", "0", 1),
		`{"target_capacity":null}`:                                                 strings.Replace(before, `,"target_capacity":40`, "", 1),
		`{"http_options":{"request_timeout_s":10}}`:                                strings.Replace(before, ":5}", ":10}", 1),
		`{"http_options":{"request_timeout_s":0}}`:                                 strings.Replace(before, ":5}", ":0}", 1),
		`{"http_options":{"root_path":null,"keep_alive_timeout_s":7}}`:             strings.Replace(before, `"root_path":"/v1","request_timeout_s":5`, `"request_timeout_s":5,"keep_alive_timeout_s":7`, 1),
		`{"http_options":{"root_path":null,"port":null,"request_timeout_s":null}}`: strings.Replace(before, `"http_options":{"port":8001,"root_path":"/v1","request_timeout_s":5},`, "", 1),
		`{"http_options":null}`:                                                    strings.Replace(before, `"http_options":{"port":8001,"root_path":"/v1","request_timeout_s":5},`, "", 1),
		`{"http_options":{}}`:                                                      before,
	} {
		var c helvetype.SettingsChange
		if err := json.Unmarshal([]byte(change), &c); err != nil {
			t.Fatal(err)
		}
		next, err := whole.Changed(c, nil)
		if err != nil {
			t.Errorf("%s: %v", change, err)
			continue
		}
		got, _ := json.Marshal(next)
		wanted, _ := json.Marshal(nodeOf(t, want))
		if string(got) != string(wanted) {
			t.Errorf("%s gives\n%s, want\n%s", change, got, wanted)
		}
		if now, _ := json.Marshal(whole); string(now) != mustCompact(t, before) {
			t.Fatalf("%s has changed the settings before: %s", change, now)
		}
	}
	if next, err := (Node{}).Changed(helvetype.SettingsChange{HTTPOptions: json.RawMessage(`{"root_path":null}`)}, nil); err != nil || next.HTTP != nil {
		t.Errorf("a field that was not set: %+v, %v", next, err)
	}
}

func mustCompact(t *testing.T, text string) string {
	t.Helper()
	b, err := json.Marshal(nodeOf(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestWrongChanges: a mistake names its field, and no place of a file.
func TestWrongChanges(t *testing.T) {
	t.Parallel()
	for change, want := range map[string]string{
		`{}`:                                                    "nothing to change",
		`{"target_capacity":101}`:                               "target_capacity: must be",
		`{"target_capacity":-1}`:                                "target_capacity: must be",
		`{"target_capacity":"all"}`:                             "target_capacity: must be",
		`{"http_options":[]}`:                                   "http_options: must be an object",
		`{"http_options":{"root_pat":"/x"}}`:                    "did you mean root_path?",
		`{"http_options":{"root_pat":null}}`:                    "http_options.root_pat: there is no such field; did you mean root_path?",
		`{"http_options":{"keep_alive_timeout_s":0}}`:           "http_options.keep_alive_timeout_s: must be",
		`{"http_options":{"request_timeout_s":"a","port":"b"}}`: "; http_options.",
		`{"http_options":{"ssl_certfile":"/c"}}`:                "ssl_keyfile",
		`{"target_capacity":50,"http_options":{"keep_alive_timeout_s":-1}}`: "http_options.keep_alive_timeout_s",
		`{"http_options":{"request_timeout_s":-1}}`:                         "http_options.request_timeout_s: is negative, -1",
	} {
		var c helvetype.SettingsChange
		if err := json.Unmarshal([]byte(change), &c); err != nil {
			t.Fatal(err)
		}
		_, err := Node{}.Changed(c, nil)
		e, ok := errors.AsType[*helvetype.OperationError](err)
		if !ok || e.Code != helvetype.CodeInvalidArgument || !strings.Contains(e.Message, want) || strings.Contains(e.Message, ":1:") {
			t.Errorf("%s: %v, want %q", change, err, want)
		}
	}
}
