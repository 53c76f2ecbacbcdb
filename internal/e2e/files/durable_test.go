package files_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/rest"
)

// service is a durable node of the binary, with the directory of an operator.
type service struct {
	t          *testing.T
	helve      string
	root, dir  string
	http, priv string // host and port
	env        []string
	keeper     *exec.Cmd
}

// newService starts a node. The root is short, because paths of sockets have a limit.
func newService(t *testing.T) *service {
	t.Helper()
	root, err := os.MkdirTemp("", "hy") //nolint:usetesting // t.TempDir has the name of the test in it
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, helve: fixture.Compile(t, "./cmd/helve"), root: root, dir: filepath.Join(root, "shop"), http: fixture.FreeAddress(t), priv: fixture.FreeAddress(t)}
	for _, dir := range []string{s.dir, filepath.Join(root, "run")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "HELVE_") && !strings.HasPrefix(v, "HELVE_PYTHON=") || strings.HasPrefix(v, "PYTHONPATH=") || strings.HasPrefix(v, "VIRTUAL_ENV=")
	}), "HELVE_RUNTIME_DIR="+filepath.Join(root, "run"))
	s.keeper = exec.Command(s.helve, "start", "--state-dir", filepath.Join(root, "state"), "--http", s.http, "--admin", s.priv)
	s.keeper.Env, s.keeper.Dir, s.keeper.WaitDelay = s.env, root, time.Second
	s.keeper.SysProcAttr = kernel.Child(syscall.SIGKILL)
	said, _ := fixture.Launch(t, s.keeper)
	t.Cleanup(func() {
		s.keeper.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
		said.Ended()
		if t.Failed() {
			t.Log(said.Text())
		}
		os.RemoveAll(root)
	})
	fixture.Eventually(t, func() string {
		if s.node() == 0 {
			return "the node does not answer:\n" + said.Text()
		}
		return ""
	})
	return s
}

// node is the process of the node that answers; 0 if none does.
func (s *service) node() int {
	c, err := rest.Dial(s.priv)
	if err != nil {
		return 0
	}
	about, err := c.About(s.t.Context())
	if err != nil {
		return 0
	}
	return about.PID
}

// command runs a command of an operator in the operator's directory, and gives its output.
func (s *service) command(args ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.helve, args...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = s.env, s.dir, time.Second
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("helve %s: %v\n%s%s", strings.Join(args, " "), err, out, said.String())
	}
	return string(out)
}

// deploy deploys the file of the directory, and waits until its applications run.
func (s *service) deploy() helvetype.ApplyAnswer {
	s.t.Helper()
	var a helvetype.ApplyAnswer
	if err := json.Unmarshal([]byte(s.command("deploy", "--wait", "-o", "json", "serve.yaml")), &a); err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *service) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// answers waits until a request for a path is answered with a text.
func (s *service) answers(path, want string) {
	s.t.Helper()
	fixture.Eventually(s.t, func() string {
		request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.http+path, nil)
		if err != nil {
			return err.Error()
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err.Error()
		}
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		if err != nil || string(b) != want {
			return "it answers " + answer.Status + " " + string(b) + ", and not " + want
		}
		return ""
	})
}

const counted = `
from helve import serve
from words import WORD

@serve.deployment
class Word:
    def __call__(self, request):
        return WORD

app = Word.bind()
`

// TestDurableFile deploys a directory of modules twice. The node needs the directory no more: it rolls back, and a node that was killed has the application and the
// settings of the file again.
func TestDurableFile(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.write("app.py", counted)
	s.write("words.py", "WORD = 'one'\n")
	s.write("serve.yaml", "http_options: {root_path: /v1}\napplications: [{name: word, import_path: 'app:app', route_prefix: /word}]\n")
	if of := s.deploy().Applications["word"]; of.Change != "created" || of.Revision != 1 {
		t.Fatalf("the first deploy is %+v", of)
	}
	s.answers("/v1/word", "one")
	if of := s.deploy().Applications["word"]; of.Change != "unchanged" || of.Revision != 1 {
		t.Errorf("the same file again is %+v", of)
	}
	s.write("words.py", "WORD = 'two'\n")
	if of := s.deploy().Applications["word"]; of.Change != "changed" || of.Revision != 2 {
		t.Errorf("a module that has changed is %+v", of)
	}
	s.answers("/v1/word", "two")
	before := s.node()
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	fixture.Eventually(t, func() string {
		if now := s.node(); now == 0 || now == before {
			return "no other node answers"
		}
		return ""
	})
	s.answers("/v1/word", "two")
	for _, name := range []string{"app.py", "words.py"} {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	s.command("rollback", "word", "1")
	s.answers("/v1/word", "one")
	s.write("serve.yaml", "applications: []\n")
	if of := s.deploy().Applications["word"]; of.Change != "deleted" {
		t.Errorf("an empty file is %+v", of)
	}
}

// TestSameFilesUnderAnotherPath deploys a working_dir, and then a copy of it under another path.
func TestSameFilesUnderAnotherPath(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const module = "import os\n\nfrom helve import serve\n\n\n@serve.deployment\ndef word(request):\n    return f'{os.getpid()}'\n\n\napp = word.bind()\n"
	config := func(dir string) string {
		return "applications:\n- name: default\n  import_path: one:app\n  runtime_env: {working_dir: " + dir + "}\n"
	}
	for _, dir := range []string{"v1", "v2", "v3"} {
		if err := os.Mkdir(filepath.Join(s.dir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		s.write(dir+"/one.py", module)
	}
	s.write("v3/data.txt", "another file")
	s.write("serve.yaml", config("v1"))
	s.deploy()
	pid := s.get("/")
	s.write("serve.yaml", config("v2"))
	if p := s.command("plan", "serve.yaml"); strings.Contains(p, "new replicas") {
		t.Errorf("the plan is %s", p)
	}
	s.deploy()
	if after := s.get("/"); after != pid {
		t.Errorf("the replica %s has become %s by the same files", pid, after)
	}
	s.write("serve.yaml", config("v3"))
	s.deploy()
	if after := s.get("/"); after == pid {
		t.Error("a replica answers that does not have the new file")
	}
}

// TestExcludes: a durable node keeps a working_dir without the files that the patterns name, and the replicas that run go on when the patterns change.
func TestExcludes(t *testing.T) {
	t.Parallel()
	s := newService(t)
	config := func(excludes string) string {
		return "applications:\n- name: default\n  import_path: one:app\n  runtime_env: {working_dir: v1, excludes: [" + excludes + "]}\n"
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "v1", "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.write("v1/one.py", "import os\n\nfrom helve import serve\n\n\n@serve.deployment\ndef word(request):\n    return f'{os.getpid()} {sorted(os.listdir())}'\n\n\napp = word.bind()\n")
	for _, file := range []string{"data/a.csv", "large.bin", "small.bin"} {
		s.write("v1/"+file, file)
	}
	s.write("serve.yaml", config(`data/`))
	s.deploy()
	first := s.get("/")
	if !strings.HasSuffix(first, " ['large.bin', 'one.py', 'small.bin']") {
		t.Errorf("without data: %s", first)
	}
	s.write("serve.yaml", config(`"*.bin", "!small.bin"`))
	s.deploy()
	if after := s.get("/"); after != first {
		t.Errorf("other patterns alone: %s", after)
	}
	s.write("v1/one.py", "import os\n\nfrom helve import serve\n\n\n@serve.deployment\ndef word(request):\n    return f'{sorted(os.listdir())}'\n\n\napp = word.bind()\n")
	s.deploy()
	if after := s.get("/"); after != "['data', 'one.py', 'small.bin']" {
		t.Errorf("without large.bin: %s", after)
	}
}

// get is the body of the answer to a request.
func (s *service) get(path string) string {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.http+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %s, %v", answer.Status, b, err)
	}
	return string(b)
}
