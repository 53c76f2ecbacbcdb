package token

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/helve-serve/helve/helvetype"
)

func open(t *testing.T, dir string) *Tokens {
	t.Helper()
	tokens, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// first opens the tokens of a directory that has none, and gives the text of the first token.
func first(t *testing.T, dir string) (tokens *Tokens, text string) {
	t.Helper()
	tokens = open(t, dir)
	text, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tokens, text
}

// TestFirstToken: the first token may do everything, its file belongs to its user alone, and the next start has the same one.
func TestFirstToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tokens, text := first(t, dir)
	if info, ok := tokens.Check(text); !ok || info.Name != "admin" || info.Role != helvetype.RoleDeploy {
		t.Errorf("%+v, %v", info, ok)
	}
	for _, name := range []string{First, File, lockName} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	if b, _ := os.ReadFile(filepath.Join(dir, File)); strings.Contains(string(b), text) {
		t.Errorf("tokens.json has the token itself: %s", b)
	}
	again := open(t, dir)
	if next, err := Read(dir); err != nil || next != text {
		t.Errorf("the next start has %q, %v", next, err)
	}
	if _, ok := again.Check(text); !ok {
		t.Error("the next start does not know the token")
	}
}

// TestTextsThatAreNoTokens: neither a digest nor a part of a token is a token.
func TestTextsThatAreNoTokens(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tokens, text := first(t, dir)
	for _, wrong := range []string{"", "helve_", text[:len(text)-1], text + "A", digest(text), strings.ToUpper(text)} {
		if info, ok := tokens.Check(wrong); ok {
			t.Errorf("%q is %+v", wrong, info)
		}
	}
}

// TestAddAndRemove: a change is seen by another process that uses the directory, at its next request.
func TestAddAndRemove(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tokens, other := open(t, dir), open(t, dir)
	text, err := tokens.Add("ci", helvetype.RoleRead)
	if err != nil {
		t.Fatal(err)
	}
	if info, ok := other.Check(text); !ok || info.Name != "ci" || info.Role != helvetype.RoleRead {
		t.Errorf("%+v, %v", info, ok)
	}
	if list, err := other.List(); err != nil || len(list) != 2 || list[1].Name != "ci" {
		t.Errorf("%+v, %v", list, err)
	}
	for name, mistake := range map[string]struct {
		name string
		role helvetype.Role
		want error
	}{
		"twice": {"ci", "read", ErrExists}, "no name": {"", "read", ErrName}, "a path": {"../x", "read", ErrName},
		"no role": {"x", "", ErrRole}, "another role": {"x", "root", ErrRole}, "a line": {"a\nb", "read", ErrName},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := tokens.Add(mistake.name, mistake.role); !errors.Is(err, mistake.want) {
				t.Errorf("%v", err)
			}
		})
	}
	if err := other.Remove("ci"); err != nil {
		t.Fatal(err)
	}
	if info, ok := tokens.Check(text); ok {
		t.Errorf("the removed token is %+v", info)
	}
	if err := other.Remove("ci"); !errors.Is(err, ErrMissing) {
		t.Errorf("%v", err)
	}
}

// TestFirstTokenIsMadeAgain: an operator whose first token has leaked removes it, and makes another of its name.
func TestFirstTokenIsMadeAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tokens := open(t, dir)
	before, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := tokens.Remove(FirstName); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its file: %v", err)
	}
	text, err := tokens.Add(FirstName, helvetype.RoleDeploy)
	if err != nil {
		t.Fatal(err)
	}
	if now, err := Read(dir); err != nil || now != text || now == before {
		t.Errorf("%q, %v", now, err)
	}
}

// TestManyAtOnce: no token is lost when several processes add some.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var all sync.WaitGroup
	for i := range 8 {
		tokens := open(t, dir)
		all.Go(func() {
			if _, err := tokens.Add(fmt.Sprint("t", i), helvetype.RoleRead); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if list, err := open(t, dir).List(); err != nil || len(list) != 9 {
		t.Errorf("%d, %v", len(list), err)
	}
}

// TestDamagedFile: a file that cannot be read has no tokens, and is not written over.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tokens, text := first(t, dir)
	path := filepath.Join(dir, File)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := tokens.Check(text); ok {
		t.Error("the token is known")
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "{" {
		t.Errorf("the file is %q", b)
	}
}

// TestFind: a command finds the token of the node at its address, and of no other one.
func TestFind(t *testing.T) {
	t.Parallel()
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	want := map[string]string{}
	for i, dir := range dirs[1:] {
		open(t, dir)
		url := fmt.Sprint("http://127.0.0.1:", 8265+i)
		if err := os.WriteFile(filepath.Join(dir, URLs), []byte(url+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		text, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		want[url], want[url+"/"] = text, text
	}
	for _, url := range []string{"", "http://127.0.0.1:1", "http://127.0.0.1:826", "https://127.0.0.1:8265"} {
		want[url] = ""
	}
	for url, text := range want {
		t.Run(url, func(t *testing.T) {
			if got := Find(url, dirs); got != text {
				t.Errorf("%q", got)
			}
		})
	}
}
