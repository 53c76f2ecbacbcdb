package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// read is the files of a bundle by their names.
func read(t *testing.T, b []byte) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(h.Name, "helve-dump/")] = string(text)
	}
}

// TestWrite: a bundle has the answers of each application and kept request, without the values of secrets, and names the parts that are missing. A
// part of the node that hangs holds up nothing else.
func TestWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		defer close(end)
		var to bytes.Buffer
		err := Write(t.Context(), &to, Settings{
			Version: "1.2.3", Wait: time.Second, Scrub: func(s string) string { return strings.ReplaceAll(s, "hunter22", "***") },
			Get: func(_ context.Context, path string) ([]byte, error) {
				switch path {
				case "/":
					return []byte(`{"applications": ["shop", "a/b"]}`), nil
				case "/api/v1/requests":
					return []byte(`{"requests": [{"request_id": "../x"}]}`), nil
				case "/api/v1/status":
					<-end
				case "/api/v1/audit":
					return nil, errors.New("refused: hunter22")
				}
				return []byte("answer of " + path + " hunter22"), nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		all := read(t, to.Bytes())
		for name, want := range map[string]string{
			"goroutines.txt": "answer of /debug/pprof/goroutine?debug=2 ***", "applications/shop/config.json": "answer of /api/v1/applications/shop/config ***",
			"applications/a%2Fb/why.json": "answer of /api/v1/why/a%2Fb ***", "requests/001.json": "answer of /api/v1/requests/..%2Fx ***",
			"missing.txt": "status.json (/api/v1/status): no answer within 1s\naudit.json (/api/v1/audit): refused: ***\n",
		} {
			if all[name] != want {
				t.Errorf("%s is %q, want %q", name, all[name], want)
			}
		}
		if !strings.HasPrefix(all["versions.txt"], "helve 1.2.3\ngo") {
			t.Errorf("versions: %q", all["versions.txt"])
		}
		if _, there := all["status.json"]; there {
			t.Error("an answer that did not come is in the bundle")
		}
	})
}
