package node

import (
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/helve-serve/helve/helvetype"
)

// full is a writer on a disk that is full.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestAccessLogThatCannotBeWritten: operators find the lines of an access log that its writer refuses.
func TestAccessLogThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	n := New(Settings{AccessLog: full{}})
	n.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/none", nil))
	if err := n.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines := 0
	err := n.Operator().Logs(t.Context(), helvetype.LogQuery{Access: true, Text: " 404 "}, func(*helvetype.LogLine, uint64) error { lines++; return nil })
	if lines != 1 || err != nil {
		t.Errorf("%d lines, %v", lines, err)
	}
}

// TestHTTPOfSeveralListeners: the URL of an ingress is one that a client needs no socket for, if there is one.
func TestHTTPOfSeveralListeners(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		urls []string
		want string
	}{
		{nil, ""},
		{[]string{"unix:/run/http.sock"}, "unix:/run/http.sock"},
		{[]string{"unix:/run/http.sock", "http://127.0.0.1:8000", "http://[::1]:8000"}, "http://127.0.0.1:8000"},
		{[]string{"https://[::1]:8000", "unix:/run/http.sock"}, "https://[::1]:8000"},
	} {
		if got := (&Node{urls: c.urls}).HTTP(); got != c.want {
			t.Errorf("%q: %q, want %q", c.urls, got, c.want)
		}
	}
}
