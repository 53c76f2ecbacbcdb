package files_test

import (
	"archive/zip"
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestArchiveOfAWebServer: a file whose working_dir is the URI of an archive, as in Ray Serve's documentation, runs the modules in it. A new archive
// behind the URI is a change, and the same one is none.
func TestArchiveOfAWebServer(t *testing.T) {
	t.Parallel()
	text := "one"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for name, content := range map[string]string{"serve_config_examples-1/packed.py": "from helve import serve\n\n" +
			"@serve.deployment\nclass Packed:\n    def __call__(self, request):\n        return '" + text + "'\n\napp = Packed.bind()\n"} {
			f, err := z.Create(name)
			if err == nil {
				_, err = f.Write([]byte(content))
			}
			if err != nil {
				t.Error(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Error(err)
		}
		w.Write(b.Bytes()) //nolint:errcheck // to the node
	}))
	t.Cleanup(server.Close)
	p := newPlace(t)
	file := "applications:\n- name: packed\n  import_path: packed.app\n  runtime_env: {working_dir: \"" + server.URL + "/archive/HEAD.zip\"}\n"
	same(t, p.applied(file), map[string]string{"packed": "created 1"})
	if got := p.get("/"); got != "one" {
		t.Errorf("%q", got)
	}
	same(t, p.applied(file), map[string]string{"packed": "unchanged 1"})
	text = "two"
	same(t, p.applied(file), map[string]string{"packed": "changed 2"})
	if got := p.get("/"); got != "two" {
		t.Errorf("%q", got)
	}
	_, err := p.apply(strings.Replace(file, server.URL, "s3://bucket", 1))
	if err == nil || !strings.Contains(err.Error(), "serve.yaml:4:30: runtime_env.working_dir: nodes fetch archives from https:// and http://") {
		t.Error(err)
	}
}
