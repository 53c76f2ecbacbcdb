package cors

import (
	"net/http/httptest"
	"testing"

	"github.com/helve-serve/helve/internal/spec"
)

// TestOrigins: an origin is allowed as a whole, by a star alone, or by a pattern whose star stands for a part of the host.
func TestOrigins(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		origins []string
		origin  string
		want    string
	}{
		{[]string{"https://app.example.com"}, "https://app.example.com", "https://app.example.com"},
		{[]string{"https://app.example.com"}, "http://app.example.com", ""},
		{[]string{"https://*.example.com"}, "https://a.example.com", "https://a.example.com"},
		{[]string{"https://*.example.com"}, "https://.example.com", ""},
		{[]string{"https://*.example.com"}, "https://evil.test/.example.com", ""},
		{[]string{"*"}, "https://any.test", "*"},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Origin", test.origin)
		if New(&spec.CORS{Origins: test.origins}, nil).Answer(w, r) {
			t.Errorf("%v: a GET was taken for a preflight", test)
		}
		if got := w.Header().Get("Access-Control-Allow-Origin"); got != test.want {
			t.Errorf("%v: %q", test, got)
		}
	}
}
