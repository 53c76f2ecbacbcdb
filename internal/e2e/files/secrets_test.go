package files_test

import (
	"bytes"
	"context"
	"io/fs"
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
	"github.com/helve-serve/helve/internal/rest"
)

// The values that no file, line or answer of the node may have, and the text that a file marks.
const (
	secretArgument = "the-secret-argument"
	secretVariable = "the-secret-variable"
	secretFile     = "the-secret-of-a-file"
	markedText     = "the-marked-text"
)

// secretShop has deployments that print secrets and raise errors with them.
const secretShop = `
import os
from helve import serve

@serve.deployment
class Model:
    def __init__(self, url):
        self.url, self.config = url, {}
        print("made with", url, os.environ["KEY"], flush=True)

    def reconfigure(self, config):
        print("configured with", config, flush=True)
        self.config = config

    def __call__(self, request):
        return " ".join([self.url, os.environ["KEY"], self.config["password"], self.config["marked"]])

@serve.deployment(max_constructor_retry_count=1)
class Broken:
    def __init__(self, key):
        raise ValueError("cannot log in with " + key + os.environ["KEY"])

    def __call__(self, request):
        return ""

def build(args):
    print("built with", args["key"], flush=True)
    return Model.bind("redis://" + args["key"] + "@host")

def broken(args):
    return Broken.bind(args["key"])

def wrong(args):
    raise RuntimeError("no application with " + args["key"])
`

// application is an item of a file with placeholders.
func secretFileOf(function, file string) string {
	user := ""
	if function == "build" {
		user = "\n  deployments:\n  - {name: Model, user_config: {password: \"${file:" + file + "}\", marked: !secret " + markedText + "}}"
	}
	return "applications:\n- name: " + function + "\n  route_prefix: /" + function + "\n  import_path: shop:" + function +
		"\n  args: {key: \"${env:SHOP_ARGUMENT}\"}\n  runtime_env: {env_vars: {KEY: \"${env:SHOP_VARIABLE}\"}}" + user + "\n"
}

// TestSecretsAreStoredAndShownNowhere deploys files with placeholders into a durable node, lets the code print the values and fail with them, kills the
// node, and looks for the values in each file of the node, in its output, and in the answers of the commands.
func TestSecretsAreStoredAndShownNowhere(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(os.Getenv("HELVE_PYTHON")); err != nil {
		t.Fatalf("HELVE_PYTHON: %v", err)
	}
	root, err := os.MkdirTemp("", "hs") //nolint:usetesting // a short path, because paths of sockets have a limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	at := func(name string) string { return filepath.Join(root, name) }
	for _, dir := range []string{"run", "code", "elsewhere"} {
		if err := os.Mkdir(at(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	password := at("elsewhere/password")
	for name, text := range map[string]string{
		"code/shop.py": secretShop, "elsewhere/password": secretFile + "\n",
		"code/build.yaml": secretFileOf("build", password), "code/broken.yaml": secretFileOf("broken", ""), "code/wrong.yaml": secretFileOf("wrong", ""),
	} {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary, http, private := fixture.Compile(t, "./cmd/helve"), fixture.FreeAddress(t), fixture.FreeAddress(t)
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "HELVE_") && !strings.HasPrefix(v, "HELVE_PYTHON=") || strings.HasPrefix(v, "NOTIFY_SOCKET=")
	})
	env = append(env, "HELVE_RUNTIME_DIR="+at("run"))
	keeper := exec.Command(binary, "start", "--state-dir", at("state"), "--http", http, "--admin", private)
	keeper.Env = append(env[:len(env):len(env)], "SHOP_ARGUMENT="+secretArgument, "SHOP_VARIABLE="+secretVariable)
	keeper.Dir, keeper.WaitDelay, keeper.SysProcAttr = root, time.Second, kernel.Child(syscall.SIGKILL)
	said, _ := fixture.Launch(t, keeper)
	client, err := rest.Dial(private)
	if err != nil {
		t.Fatal(err)
	}
	pid := func() int {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		about, err := client.About(ctx)
		if err != nil {
			return 0
		}
		return about.PID
	}
	await(t, "the node answers", func() bool { return pid() != 0 })

	var shown bytes.Buffer // by all commands
	helve := func(args ...string) (string, error) {
		c := exec.CommandContext(t.Context(), binary, args...)
		c.Env, c.Dir, c.WaitDelay = append(env[:len(env):len(env)], "HELVE_NODE="+at("state")), at("code"), time.Second
		out, err := c.CombinedOutput()
		shown.WriteString("$ helve " + strings.Join(args, " ") + "\n")
		shown.Write(out)
		return string(out), err
	}
	if out, err := helve("deploy", "--wait", "build.yaml"); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, said.Text())
	}
	const want = "redis://" + secretArgument + "@host " + secretVariable + " " + secretFile + " " + markedText
	get := func() string {
		p := &place{t: t, url: "http://" + http}
		return p.get("/build")
	}
	if got := get(); got != want {
		t.Errorf("a replica answers %q, want %q", got, want)
	}
	if out, err := helve("config", "build"); err != nil || !strings.Contains(out, "import_path: shop:build") || !strings.Contains(out, "***") {
		t.Errorf("the configuration: %v\n%s", err, out)
	}
	for _, file := range []string{"broken.yaml", "wrong.yaml"} {
		if out, err := helve("deploy", "--wait", "--keep", file); err == nil || !strings.Contains(out, "with ***") {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
	before := pid()
	syscall.Kill(before, syscall.SIGKILL) //nolint:errcheck // it may have ended
	await(t, "the next node answers", func() bool { now := pid(); return now != 0 && now != before })
	await(t, "the application is there again", func() bool { return strings.HasPrefix(get(), "redis:") })
	if out, err := helve("restart", "build"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	await(t, "a replica of the next node prints its arguments", func() bool {
		out, _ := helve("logs", "build") //nolint:errcheck // it may not be ready yet
		return strings.Contains(out, "made with redis://***@host ***")
	})
	for _, args := range [][]string{
		{"plan", "build.yaml"}, {"config", "build"}, {"config", "-o", "json"}, {"config", "--effective", "build"}, {"history", "build"}, {"history", "broken"}, {"status"},
		{"status", "-o", "json"}, {"events"}, {"events", "-o", "json"}, {"logs"}, {"why", "broken"}, {"audit"},
	} {
		helve(args...) //nolint:errcheck // what it shows counts, and errors do too
	}
	keeper.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	said.Ended()

	stored := map[string][]byte{"the commands": shown.Bytes(), "the output of the node": []byte(said.Text())}
	for _, dir := range []string{"state", "run"} {
		err := filepath.WalkDir(at(dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil //nolint:nilerr // a file that has gone with the node
			}
			text, err := os.ReadFile(path)
			if err == nil && filepath.Base(path) != "build.yaml" { // the packed code, in which the file of the application is
				stored[strings.TrimPrefix(path, root)] = text
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(stored) < 5 {
		t.Errorf("only %d files", len(stored))
	}
	for name, text := range stored {
		for _, value := range []string{secretArgument, secretVariable, secretFile} {
			if bytes.Contains(text, []byte(value)) {
				t.Errorf("%s has %s:\n%s", name, value, around(text, value))
			}
		}
	}
	for _, name := range []string{"the commands", "the output of the node"} {
		if bytes.Contains(stored[name], []byte(markedText)) {
			t.Errorf("%s shows the marked text:\n%s", name, around(stored[name], markedText))
		}
	}
}

// await waits until a condition holds.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// around is the part of a text in which a value is.
func around(text []byte, value string) string {
	i := bytes.Index(text, []byte(value))
	return string(text[max(0, i-200):min(len(text), i+len(value)+100)])
}
