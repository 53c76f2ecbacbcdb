package fetch_test

import (
	"archive/zip"
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/fetch"
)

func archive(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range files {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "/") {
			f.Write([]byte("text of " + name)) //nolint:errcheck // into memory
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestArchive(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/top.zip":
			w.Write(archive(t, "repo-1/", "repo-1/model.py", "repo-1/lib/a.py")) //nolint:errcheck // to a test
		case "/flat.zip":
			w.Write(archive(t, "model.py", "lib/a.py")) //nolint:errcheck // to a test
		case "/wheel.whl":
			w.Write([]byte("wheel")) //nolint:errcheck // to a test
		case "/text.zip":
			w.Write([]byte("text")) //nolint:errcheck // to a test
		case "/moved.zip":
			http.Redirect(w, r, "/flat.zip", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	paths := map[string]string{}
	for name, want := range map[string]string{"top": "model.py lib/a.py", "flat": "model.py lib/a.py", "moved": "model.py lib/a.py"} {
		path, err := fetch.Archive(t.Context(), server.Client(), server.URL+"/"+name+".zip", dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		paths[name] = path
		r, err := zip.OpenReader(path)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range r.File {
			names = append(names, f.Name)
		}
		r.Close()
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s has %s", name, got)
		}
	}
	if paths["flat"] != paths["moved"] || paths["flat"] == paths["top"] {
		t.Error(paths)
	}
	if path, err := fetch.Archive(t.Context(), server.Client(), server.URL+"/wheel.whl", dir); err != nil || !strings.HasSuffix(path, ".whl") {
		t.Error(path, err)
	}
	for path, want := range map[string]string{
		"/none.zip": "the server answers 404 Not Found", "/text.zip": "is no archive", "/model.py": "must be a .zip or .whl file",
	} {
		if _, err := fetch.Archive(t.Context(), server.Client(), server.URL+path, dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := fetch.Archive(t.Context(), server.Client(), "http://user:hunter2@127.0.0.1:1/a.zip", dir); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 3 {
		t.Error(left, err)
	}
}

func TestIsRemote(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{"https://a/b.zip": true, "http://a/b.zip": true, "/a/b.zip": false, "s3://a/b.zip": false, "": false} {
		if fetch.IsRemote(path) != want {
			t.Error(path)
		}
	}
}

// TestRedirectsKeepTLS: a server that has been asked over TLS does not lead to one that has none, nor to a file.
func TestRedirectsKeepTLS(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(archive(t, "model.py")) //nolint:errcheck // to a test
	}))
	t.Cleanup(plain.Close)
	for name, to := range map[string]string{"http": plain.URL + "/a.zip", "a file": "file:///etc/passwd.zip"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewTLSServer(http.RedirectHandler(to, http.StatusFound))
			t.Cleanup(server.Close)
			dir := t.TempDir()
			if path, err := fetch.Archive(t.Context(), server.Client(), server.URL+"/a.zip", dir); err == nil || !strings.Contains(err.Error(), "not https") {
				t.Errorf("%s, %v", path, err)
			}
			if all, err := os.ReadDir(dir); err != nil || len(all) != 0 {
				t.Errorf("%v, %v", all, err)
			}
		})
	}
}
