package builder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/internal/lines"
	"github.com/helve-serve/helve/internal/pyenv"
)

// play names the variable that makes this test binary a builder: its value says how the builder behaves.
const play = "HELVE_TEST_BUILDER"

func TestMain(m *testing.M) {
	if as := os.Getenv(play); as != "" {
		os.Exit(builder(as))
	}
	os.Exit(m.Run())
}

// wait waits until the process is killed.
func wait() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	<-c
}

// builder is a process in the place of the interpreter. It answers for each application by its import path.
func builder(as string) int {
	var request struct {
		Apps []App `json:"apps"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&request); err != nil {
		fmt.Println(err)
		return 9
	}
	answers := os.NewFile(3, "answers")
	switch as {
	case "child": // starts a process that holds the pipe open
		c := exec.Command("sh", "-c", `exec 4>"$FIFO"; echo >&4; while :; do sleep 1000; done`)
		c.Stdout, c.Stderr, c.ExtraFiles = os.Stdout, os.Stderr, []*os.File{answers}
		if err := c.Start(); err != nil {
			fmt.Println(err)
			return 9
		}
		wait()
	case "much":
		for i := range 50_000 {
			fmt.Println("line", i)
		}
		fmt.Print(strings.Repeat("x", 1<<20))
		return 3
	}
	for _, app := range request.Apps {
		switch app.ImportPath {
		case "waits":
			wait()
		case "dies":
			fmt.Fprintln(os.Stderr, "out of memory")
			return 3
		case "killed":
			syscall.Kill(os.Getpid(), syscall.SIGKILL) //nolint:errcheck // it is this process
		case "leaves": // os._exit(0) in the user's code
			return 0
		case "lies":
			fmt.Fprintln(answers, "no JSON")
			wait()
		case "raises":
			fmt.Fprintf(answers, `{"name": %q, "error": "ValueError: no model\n", "argument": "args"}`+"\n", app.Name)
		default:
			fmt.Fprintf(answers, `{"name": %q, "imported": ["/srv"], "reconfigures": []}`+"\n", app.Name)
		}
	}
	return 0
}

// built runs a build of import paths, and gives the error of each application, "" for none, and the lines that the processes have printed.
func built(t *testing.T, ctx context.Context, as string, limit time.Duration, env []string, paths ...string) (all, lines []string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e := Environment{Place: pyenv.Place{Interpreter: exe}, Dir: t.TempDir(), Env: append([]string{play + "=" + as, "PATH=" + os.Getenv("PATH")}, env...)}
	apps := make([]App, len(paths))
	for i, path := range paths {
		apps[i] = App{Name: fmt.Sprint("app", i), ImportPath: path}
	}
	var mu sync.Mutex
	line := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, text)
	}
	all = make([]string, len(paths))
	times := make([]int, len(paths))
	Build(ctx, e, apps, Settings{Time: limit, Line: line}, func(i int, b *Built, err error) {
		times[i]++
		if (b == nil) == (err == nil) {
			t.Errorf("%s: %v, %v", paths[i], b, err)
		}
		if err != nil {
			all[i] = err.Error()
		}
	})
	for i, n := range times {
		if n != 1 {
			t.Errorf("%s: done was called %d times", paths[i], n)
		}
	}
	return all, lines
}

// TestBuildFailures: an application whose code ends its builder fails alone, with what the process has said.
func TestBuildFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		paths []string
		want  []string // of each application, a part of its error; "" for none
		limit time.Duration
	}{
		"none":          {[]string{"a", "b"}, []string{"", ""}, time.Hour},
		"raises":        {[]string{"a", "raises", "b"}, []string{"", "ValueError: no model", ""}, time.Hour},
		"dies":          {[]string{"a", "dies", "b", "dies"}, []string{"", "dies: its code has ended the builder (exit status 3):\nout of memory", "", "dies: its code has ended the builder"}, time.Hour},
		"is killed":     {[]string{"killed", "a"}, []string{"its code has ended the builder (signal: killed), without a word", ""}, time.Hour},
		"leaves":        {[]string{"leaves", "a"}, []string{"its code has ended the builder, without a word", ""}, time.Hour},
		"does not end":  {[]string{"waits"}, []string{"waits: its build took longer than 1ms"}, time.Millisecond},
		"has no answer": {[]string{"lies", "a"}, []string{`the answer of the builder is not one: "no JSON`, ""}, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _ := built(t, t.Context(), "answers", c.limit, nil, c.paths...)
			for i, want := range c.want {
				if !strings.Contains(got[i], want) || want == "" && got[i] != "" {
					t.Errorf("%s: %q, want %q", c.paths[i], got[i], want)
				}
			}
		})
	}
}

// TestMuchOutput: each line of a builder goes to the log, a line without an end in parts, and the error has the last ones.
func TestMuchOutput(t *testing.T) {
	t.Parallel()
	got, printed := built(t, t.Context(), "much", time.Hour, nil, "a")
	const whole = 50_000
	if len(printed) <= whole || printed[0] != "line 0" || printed[whole-1] != fmt.Sprint("line ", whole-1) {
		t.Fatalf("%d lines", len(printed))
	}
	for _, part := range printed[whole:] {
		if strings.Trim(part, "x") != "" || len(part) > lines.Longest {
			t.Fatalf("a part of the long line has %d bytes", len(part))
		}
	}
	if last := strings.Split(got[0], "\n"); len(last) != lines.Kept+1 || len(got[0]) > (lines.Kept+1)*(lines.Longest+1) {
		t.Errorf("the error has %d lines and %d bytes", len(last), len(got[0]))
	}
}

// TestBuildEndsWithItsGroup: a build that is given up ends the processes that the user's code has started, although they hold its output open.
func TestBuildEndsWithItsGroup(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	over := make(chan error, 1)
	go func() { // the pipe ends with the last process that has it open
		f, err := os.Open(fifo)
		if err != nil {
			over <- err
			return
		}
		defer f.Close()
		if _, err = f.Read(make([]byte, 1)); err == nil {
			cancel(errors.New("another deploy has come"))
			_, err = io.Copy(io.Discard, f)
		}
		over <- err
	}()
	got, _ := built(t, ctx, "child", time.Hour, []string{"FIFO=" + fifo}, "a", "b")
	if diff := cmp.Diff([]string{"another deploy has come", "another deploy has come"}, got); diff != "" {
		t.Error(diff)
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
}

// TestNoInterpreter: an interpreter that does not start fails all applications at once, and one without the package says what to install.
func TestNoInterpreter(t *testing.T) {
	t.Parallel()
	python := filepath.Join(t.TempDir(), "python")
	if err := os.Symlink("/bin/false", python); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/srv/none/python", python} {
		var got []error
		Build(t.Context(), Environment{Place: pyenv.Place{Interpreter: path}}, make([]App, 3), Settings{Time: time.Hour}, func(_ int, _ *Built, err error) { got = append(got, err) })
		if len(got) != 3 || got[0] == nil || got[2] == nil || errors.Is(got[0], errStart) != (path != python) {
			t.Errorf("%s: %v", path, got)
		}
	}
	l := lines.NewWriter(nil)
	l.Write([]byte("ModuleNotFoundError: No module named 'helve._build_app'\n")) //nolint:errcheck // it takes all
	if !missing(l) || bytes.Contains([]byte(l.Said()), []byte("without a word")) {
		t.Error("a missing package is not found out")
	}
}
