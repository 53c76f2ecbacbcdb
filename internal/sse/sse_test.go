package sse

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/call"
)

// FuzzAppend: the data of an event is the text of the item, whatever that has in it, and nothing of the text becomes another field.
func FuzzAppend(f *testing.F) {
	f.Add("a\r\nb\revent: end\n\n:", "token")
	f.Fuzz(func(t *testing.T, data, name string) {
		sent, err := json.Marshal(map[string]string{"data": data, "event": name})
		if err != nil {
			t.Fatal(err)
		}
		var as item
		if err := json.Unmarshal(sent, &as); err != nil {
			t.Fatal(err)
		}
		json.Unmarshal(as.Data, &data) //nolint:errcheck // bytes that are not UTF-8 are replaced
		b, err := Append(nil, call.Payload{Codec: call.Event, Data: sent})
		if bad := strings.ContainsAny(as.Event, "\r\n\x00"); bad != (err != nil) {
			t.Fatalf("%q: %v", name, err)
		} else if bad {
			return
		}
		body, complete := strings.CutSuffix(string(b), "\n\n")
		if !complete || strings.Contains(body, "\n\n") || strings.Contains(body, "\r") {
			t.Fatalf("%q is not one event", b)
		}
		var got []string
		for line := range strings.SplitSeq(body, "\n") {
			switch field, value, _ := strings.Cut(line, ": "); {
			case field == "data":
				got = append(got, value)
			case field == "event" && value == as.Event && len(got) == 0:
			default:
				t.Fatalf("%q has the line %q", b, line)
			}
		}
		want := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(data)
		if text := strings.Join(got, "\n"); text != want {
			t.Errorf("%q came as %q", want, text)
		}
	})
}
