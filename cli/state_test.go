package cli

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/store"
	"github.com/helve-serve/helve/internal/store/disk"
	"github.com/helve-serve/helve/internal/worker"
)

// stateCommandOf runs `helve state`, and gives its output.
func stateCommandOf(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root, out := command(nil), &bytes.Buffer{}
	root.SetOut(out)
	root.SetErr(io.Discard)
	root.SetArgs(append([]string{"state"}, args...))
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// TestState: the state of one directory becomes that of another by way of a file.
func TestState(t *testing.T) {
	t.Parallel()
	from, to, file := t.TempDir(), filepath.Join(t.TempDir(), "new"), filepath.Join(t.TempDir(), "export.tar")
	mark, err := worker.Claim(from)
	if err != nil {
		t.Fatal(err)
	}
	defer mark.Close()
	s, err := disk.Open(from, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	app, err := store.Encode(store.AppKey("hello"), store.App{Revision: 1})
	if err == nil {
		_, err = s.Txn(t.Context(), store.Txn{Then: []store.Op{app}})
	}
	if err == nil {
		_, err = store.PutBlob(t.Context(), s.Blobs(), []byte("code"))
	}
	if err != nil {
		t.Fatal(err)
	}
	const what = "wrote 1 application with 1 record and 1 blob to "
	if out, err := stateCommandOf(t, "export", "--state-dir", from, file); err != nil || out != what+file+"\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := stateCommandOf(t, "import", "--state-dir", to, file); err != nil || out != what+to+"\n" {
		t.Errorf("%q, %v", out, err)
	}
	next, err := disk.Open(to, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if r, err := store.Get(t.Context(), next, store.AppKey("hello")); err != nil || r.Record.Revision != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	for name, x := range map[string]struct {
		args []string
		want string
	}{
		"a store that is there":  {[]string{"import", "--state-dir", to, file}, to + " has a store: an import takes a directory without one, and helve start --recover FILE replaces it"},
		"a node that runs":       {[]string{"import", "--state-dir", from, file}, "another node uses it"},
		"another's directory":    {[]string{"import", "--state-dir", filepath.Dir(file), file}, "it has files that are not a node's"},
		"no state":               {[]string{"export", "--state-dir", filepath.Dir(file), file}, "is not the state directory of a node that was started with helve start"},
		"no export":              {[]string{"import", "--state-dir", t.TempDir(), filepath.Join(from, "store.db")}, "or it is no export"},
		"no file":                {[]string{"export"}, "state export takes one file"},
		"two files":              {[]string{"import", "a", "b"}, "state import takes one file"},
		"an empty directory":     {[]string{"export", "--state-dir=", file}, "--state-dir is empty: give a directory, or leave the flag out"},
		"a command that is none": {[]string{"exprot", "a"}, `there is no command "exprot"; did you mean "export"?`},
	} {
		if _, err := stateCommandOf(t, x.args...); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %s", name, err, x.want)
		} else if wrong := errors.As(err, new(usageError)); wrong != (len(x.args) < 4) {
			t.Errorf("%s: it is wrong usage: %t", name, wrong)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	broken := filepath.Join(t.TempDir(), "broken")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	whole[len(whole)/3] ^= 1
	if err := os.WriteFile(broken, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	unmade := filepath.Join(t.TempDir(), "unmade")
	_, err = stateCommandOf(t, "import", "--state-dir", unmade, broken)
	if err == nil || !strings.HasSuffix(err.Error(), "Nothing was changed. Take another export of the state (helve state export)") {
		t.Errorf("a damaged export: %v", err)
	}
	if _, err := os.Lstat(unmade); err == nil {
		t.Error("a damaged export left a directory")
	}
}

func TestRecovered(t *testing.T) {
	t.Parallel()
	s := disk.Summary{Applications: 2, Records: 1, Before: "/srv/store.db.before-1"}
	if got, want := recovered(s, "/x"), "the state is that of /x: 2 applications with 1 record and 0 blobs; the state before is kept in /srv/store.db.before-1"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
