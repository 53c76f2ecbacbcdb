package files_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/kernel"
)

// runShop binds values that the driver has put in the place of placeholders: as an argument, inside of a longer text, as a user config and as a variable.
const runShop = `
import os
from helve import serve

@serve.deployment
class Model:
    def __init__(self, url):
        self.url = url
        print("made with", url, flush=True)

    def reconfigure(self, config):
        print("configured with", config, flush=True)
        self.config = config

    def __call__(self, request):
        print("called with", self.url, self.config, os.environ["TOKEN"], flush=True)
        return self.url + " " + self.config["key"] + " " + os.environ["TOKEN"]

def build(args):
    options = {"runtime_env": {"env_vars": {"TOKEN": args["marked"]}}}
    return Model.options(user_config={"key": args["key"]}, ray_actor_options=options).bind("redis://" + args["key"] + "@host")
`

// TestBundleOfAProgramHasNoSecrets: helve run of a file with placeholders has the driver put their values into arguments, which are pickled. The node knows them too, so that neither its
// output nor a bundle has them, when the code prints them.
func TestBundleOfAProgramHasNoSecrets(t *testing.T) {
	t.Parallel()
	root, err := os.MkdirTemp("", "hs") //nolint:usetesting // a short path, because paths of sockets have a limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	if err := os.Mkdir(filepath.Join(root, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := "applications:\n- import_path: shop:build\n  args: {key: \"${env:SHOP_ARGUMENT}\", marked: !secret " + markedText + "}\n"
	for name, text := range map[string]string{"shop.py": runShop, "shop.yaml": file} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary, http := fixture.Compile(t, "./cmd/helve"), fixture.FreeAddress(t)
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "HELVE_") && !strings.HasPrefix(v, "HELVE_PYTHON=") || strings.HasPrefix(v, "NOTIFY_SOCKET=")
	})
	env = append(env, "HELVE_RUNTIME_DIR="+filepath.Join(root, "run"), "HELVE_BINARY="+binary, "SHOP_ARGUMENT="+secretArgument)
	program := exec.Command(binary, "run", "shop.yaml", "--http", http)
	program.Env, program.Dir, program.WaitDelay, program.SysProcAttr = env, root, time.Second, kernel.Child(syscall.SIGKILL)
	said, _ := fixture.Launch(t, program)
	said.Line(t, "is ready at")
	if got, want := (&place{t: t, url: "http://" + http}).get("/"), "redis://"+secretArgument+"@host "+secretArgument+" "+markedText; got != want {
		t.Errorf("a replica answers %q, want %q", got, want)
	}
	said.Line(t, "called with")
	dump := exec.CommandContext(t.Context(), binary, "dump", "-o", "dump.tar.gz")
	dump.Env, dump.Dir = env, root
	if out, err := dump.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	said.Ended()
	b, err := os.ReadFile(filepath.Join(root, "dump.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"the output": said.Text()}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if err == io.EOF { //nolint:errorlint // it is not wrapped
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = string(text)
	}
	if !strings.Contains(all["helve-dump/logs.json"], "made with redis://***@host") {
		t.Errorf("the bundle has not the lines of the replica:\n%s", all["helve-dump/logs.json"])
	}
	for name, text := range all {
		for _, value := range []string{secretArgument, markedText} {
			if strings.Contains(text, value) {
				t.Errorf("%s has %s:\n%s", name, value, around([]byte(text), value))
			}
		}
	}
}
