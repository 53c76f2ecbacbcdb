package access

import (
	"cmp"
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// TestLines: lines are as package fmt and encoding/json would write them.
func TestLines(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 4, 3, 2, 1, 31_999_999, time.FixedZone("", 3600))
	for _, l := range []Line{
		{Begun: at, Took: 1300 * time.Microsecond, Client: "127.0.0.1:51234", Method: "POST", Route: "/", Status: 200, Request: "5f0c4f0e", Bytes: 12, App: "hello", Replica: "Ingress#001"},
		{Begun: at.AddDate(0, 7, 20), Took: 999_949 * time.Nanosecond, Client: "[::1]:1", Method: "GET", Status: 404},
		{Begun: at, Took: 999_951 * time.Nanosecond, Method: "GET"},
		{Begun: at, Took: time.Hour, Method: `"<&>\`, Route: "/größe\x00\xff", Request: "a\tb\u2028", App: "\x7f"},
	} {
		when := l.Begun.UTC().Format("2006-01-02T15:04:05.000Z")
		want := fmt.Sprintf("%s %s %s %s %d %.1fms %s %d %s %s\n", when, l.Client, l.Method, cmp.Or(l.Route, "-"), l.Status, l.Took.Seconds()*1e3,
			cmp.Or(l.Request, "-"), l.Bytes, cmp.Or(l.App, "-"), cmp.Or(l.Replica, "-"))
		if got := string(l.appendText(nil)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		text, err := json.Marshal(struct {
			Time      string  `json:"time"`
			Client    string  `json:"client"`
			Method    string  `json:"method"`
			Route     string  `json:"route"`
			Status    int     `json:"status"`
			Duration  float64 `json:"duration_ms"`
			RequestID string  `json:"request_id"`
			Bytes     int64   `json:"bytes"`
			App       string  `json:"app,omitempty"`
			Replica   string  `json:"replica,omitempty"`
		}{when, l.Client, l.Method, l.Route, l.Status, float64(l.Took.Microseconds()) / 1000, l.Request, l.Bytes, l.App, l.Replica})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(l.appendJSON(nil)); got != string(text)+"\n" {
			t.Errorf("%s, want %s", got, text)
		}
	}
}

func BenchmarkLine(b *testing.B) {
	l := Line{Begun: time.Now(), Took: 1300 * time.Microsecond, Client: "127.0.0.1:51234", Method: "POST", Route: "/", Status: 200,
		Request: "5f0c4f0e-8f6a-4d1e-9f0b-2f6f8a1f7c55", Bytes: 12, App: "hello", Replica: "Ingress#001"}
	for name, appendLine := range map[string]func([]byte) []byte{"text": l.appendText, "json": l.appendJSON} {
		b.Run(name, func(b *testing.B) {
			var buf []byte
			for b.Loop() {
				buf = appendLine(buf[:0])
			}
		})
	}
}
