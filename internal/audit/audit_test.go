package audit

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
)

func entry(n int) helvetype.AuditEntry {
	return helvetype.AuditEntry{
		At: time.Unix(int64(n), 0).UTC(), Author: helvetype.Author{Name: "ci", Role: helvetype.RoleOperate, Via: "rest"},
		Operation: "scale", Object: "shop/Ranker", Detail: fmt.Sprint(n, " replicas"),
	}
}

func open(t *testing.T, dir string) *Log {
	t.Helper()
	l := Open(dir, slog.New(slog.DiscardHandler))
	t.Cleanup(l.Close)
	return l
}

// TestEntriesOutliveTheNode: the next node has the entries of the one before, also after a line that was not finished.
func TestEntriesOutliveTheNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	l.Add(entry(1))
	l.Close()
	path := filepath.Join(dir, newer)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(b, `{"at":"20`...), 0o600); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	l.Add(entry(2))
	if diff := cmp.Diff([]helvetype.AuditEntry{entry(1), entry(2)}, open(t, dir).Entries(10)); diff != "" {
		t.Error(diff)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

// TestMemoryIsBounded: the newest entries are kept, without a directory too.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	l := open(t, "")
	for n := range 3*Kept + 5 {
		l.Add(entry(n))
	}
	got := l.Entries(Kept + 100)
	if len(got) != Kept || got[Kept-1].Detail != entry(3*Kept+4).Detail || got[0].Detail != entry(2*Kept+5).Detail {
		t.Errorf("%d entries, from %+v to %+v", len(got), got[0], got[len(got)-1])
	}
	if got = l.Entries(2); len(got) != 2 || got[1].Detail != entry(3*Kept+4).Detail {
		t.Errorf("%+v", got)
	}
}

// TestRefusalsAreBounded: a client that is refused again and again has some entries a minute, others have theirs, and the next entry counts the rest.
func TestRefusalsAreBounded(t *testing.T) {
	t.Parallel()
	l := open(t, "")
	refuse := func(second int, name string) bool {
		e := entry(60_000 + second)
		e.Author.Name, e.Detail = name, ""
		return l.Refused(e)
	}
	kept := 0
	for n := range 1000 {
		if refuse(n%60, "-") {
			kept++
		}
	}
	if kept != RefusedMax || len(l.Entries(Kept)) != RefusedMax || l.Entries(1)[0].Detail != "" {
		t.Errorf("%d kept, %+v", kept, l.Entries(1))
	}
	if !refuse(59, "ci") || l.Entries(1)[0].Detail != fmt.Sprintf("%d refusals before this one have no entry", 1000-RefusedMax) {
		t.Errorf("%+v", l.Entries(1))
	}
	if !refuse(60, "-") || l.Entries(1)[0].Detail != "" {
		t.Errorf("the next minute: %+v", l.Entries(1))
	}
}

// TestFilesAreBounded: two files of bounded size stay, also when authors write long texts.
func TestFilesAreBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	e := entry(1)
	e.Detail = strings.Repeat("\n\x01x", 1<<20)
	for range 3 * fileMax / (4 * textMax) {
		l.Add(e)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		if st, err := f.Info(); err != nil || st.Size() > fileMax+lineMax {
			t.Errorf("%s: %d bytes, %v", f.Name(), st.Size(), err)
		}
	}
	if n := len(open(t, dir).Entries(Kept)); n < 10 {
		t.Errorf("%d entries", n)
	}
}

// TestDirectoryThatIsGone: the entries stay in memory, and the log says once that they are not written.
func TestDirectoryThatIsGone(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	dir := filepath.Join(t.TempDir(), "gone")
	l := Open(dir, slog.New(slog.NewTextHandler(&text, nil)))
	defer l.Close()
	l.Add(entry(1))
	l.Add(entry(2))
	if got := l.Entries(10); len(got) != 2 || strings.Count(text.String(), "not written to the audit log") != 1 {
		t.Errorf("%d entries, log: %s", len(got), text.String())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l.Add(entry(3))
	if !strings.Contains(text.String(), "again") || len(open(t, dir).Entries(10)) != 1 {
		t.Errorf("log: %s", text.String())
	}
}
