package browse

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/rest"
)

// node answers as the admin interface of a node does: who for the tokens that it knows, and about with a list of paths.
func node(t *testing.T, paths []string, admin func(url string) []string) (s *httptest.Server) {
	t.Helper()
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any = rest.About{Version: "0.1", Paths: paths, Admin: admin(s.URL)}
		if r.URL.Path == "/api/v1/whoami" {
			switch r.Header.Get("Authorization") {
			case "Bearer helve_good":
				answer = rest.Who{Name: "ada", Role: helvetype.RoleOperate, How: rest.HowToken}
			default:
				w.WriteHeader(http.StatusUnauthorized)
				answer = helvetype.OperationError{Code: helvetype.CodeUnauthenticated, Message: "the node does not know this token"}
			}
		}
		json.NewEncoder(w).Encode(answer) //nolint:errcheck // the client has gone
	}))
	t.Cleanup(s.Close)
	return s
}

func itself(url string) []string { return []string{url} }

// TestFind: the address has the token that the node knows, and no other one.
func TestFind(t *testing.T) {
	t.Parallel()
	s := node(t, []string{"/", "/ui/"}, itself)
	for name, x := range map[string]struct {
		token string
		plain bool
		want  Address
		err   string
	}{
		"a token":       {"helve_good", false, Address{s.URL + "/ui/#token=helve_good", "ada", helvetype.RoleOperate}, ""},
		"no token":      {"", true, Address{s.URL + "/ui/", "", helvetype.RoleRead}, ""},
		"no files":      {"", false, Address{s.URL + "/ui/", "", helvetype.RoleRead}, ""},
		"a wrong token": {"helve_x", false, Address{}, "does not know this token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := rest.Dial(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			got, err := find(t.Context(), c, rest.Access{Token: x.token}, x.plain)
			if x.err != "" {
				if err == nil || !strings.Contains(err.Error(), x.err) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || got != x.want {
				t.Errorf("%+v, %v, want %+v", got, err, x.want)
			}
		})
	}
}

// TestFindOverTheSocket: a node whose socket was asked is at its first listener of TCP, and a node that browsers do not reach is an error with a way out.
func TestFindOverTheSocket(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		paths []string
		admin []string
		url   string
		next  string
	}{
		"a listener":         {[]string{"/ui/"}, []string{"http://127.0.0.1:1", "http://127.0.0.1:2"}, "http://127.0.0.1:1/ui/", ""},
		"all addresses":      {[]string{"/ui/"}, []string{"https://[::]:8265"}, "https://localhost:8265/ui/", ""},
		"a socket alone":     {[]string{"/ui/"}, nil, "", "--admin 127.0.0.1:8265"},
		"a node before this": {[]string{"/"}, []string{"http://127.0.0.1:1"}, "", "helve upgrade"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			s := &http.Server{Handler: node(t, x.paths, func(string) []string { return x.admin }).Config.Handler}
			go s.Serve(l) //nolint:errcheck // it ends with Close
			t.Cleanup(func() { s.Close() })
			c, err := rest.Dial(path)
			if err != nil {
				t.Fatal(err)
			}
			at, err := find(t.Context(), c, rest.Access{}, true)
			if e, ok := errors.AsType[*helvetype.OperationError](err); x.next != "" && (!ok || !strings.Contains(e.Next, x.next)) {
				t.Errorf("%+v", err)
			}
			if at.URL != x.url || (err == nil) != (x.next == "") {
				t.Errorf("%+v, %v", at, err)
			}
		})
	}
}

// TestOpen: no argument of the browser has the token: it gets a file of this user that leads to the address, and the file is gone then.
func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program, seen := filepath.Join(dir, "browser"), filepath.Join(dir, "seen")
	script := "#!/bin/sh\necho \"$*\" >" + seen + "\ncase \"$2\" in /*) stat -c %a \"$2\" >>" + seen + "; cat \"$2\" >>" + seen + ";; esac\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	b := browser{command: []string{program, "--new"}}
	if err := b.open(t.Context(), Address{URL: "http://127.0.0.1:1/ui/#token=helve_<x>"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitN(string(text), "\n", 3)
	file := strings.TrimPrefix(lines[0], "--new ")
	if strings.Contains(lines[0], "token") || lines[1] != "600" || !strings.Contains(lines[2], `url=http://127.0.0.1:1/ui/#token=helve_&lt;x&gt;"`) {
		t.Errorf("%s", text)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is there still: %v", file, err)
	}
	if err := b.open(t.Context(), Address{URL: "http://127.0.0.1:1/ui/"}); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(seen); string(text) != "--new http://127.0.0.1:1/ui/\n" {
		t.Errorf("%s", text)
	}
	err = browser{command: []string{filepath.Join(dir, "none")}}.open(context.Background(), Address{URL: "http://127.0.0.1:1/ui/"})
	if e, ok := errors.AsType[*helvetype.OperationError](err); !ok || !strings.Contains(e.Next, "$BROWSER") {
		t.Errorf("%v", err)
	}
}
