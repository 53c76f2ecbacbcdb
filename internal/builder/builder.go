// Package builder gets applications of Python modules: it starts an interpreter that imports the modules and writes the graphs (_build_app.py of the Python package).
// The process lives as long as the build alone. A module that ends its interpreter, waits for ever or fills the memory harms no replica, and the node goes on.
//
// Several applications with the same environment share a process, because they share imports. For example, a file has fifty applications of one module that imports
// torch: the import takes ten seconds once, and not fifty times. An application whose code ends the process fails alone: the applications behind
// it are built by another process.
package builder

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/lines"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/pyenv"
)

// Environment is that of a builder process: the interpreter with the packages and directories of a runtime_env.
type Environment struct {
	pyenv.Place
	// Dir is the directory of the application's modules, which stands first on sys.path. The current directory is that of Place.
	Dir string
	// Env is the environment of the process.
	Env []string
}

// App is an application to build.
type App struct {
	Name string `json:"name"`
	// ImportPath is module:attribute.
	ImportPath  string  `json:"import_path"`
	RoutePrefix *string `json:"route_prefix"`
	// Args are the arguments of a function that makes an application, a JSON object.
	Args json.RawMessage `json:"args,omitempty"`
	// Secrets are the values of the placeholders in Args, see package secret. What the builder answers has the placeholders.
	Secrets map[string]string `json:"secrets,omitempty"`
}

// Built is an application that was built.
type Built struct {
	// App is the application in the form in which drivers send one. The interpreter, sys.path and the runtime_env of the application are the caller's to set.
	App protocol.PythonApp `json:"app"`
	// Imported are the entries of App.Own from which modules were imported.
	Imported []string `json:"imported"`
	// Reconfigures names the deployments whose class takes a user config.
	Reconfigures []string `json:"reconfigures"`
	// Warnings are about options without effect.
	Warnings []string `json:"warnings"`
}

// Error says why an application cannot be built.
type Error struct {
	// Text has the traceback of the user's code, from its first frame on.
	Text string
	// Argument names the argument of the application that is wrong; "" for none.
	Argument string
}

func (e *Error) Error() string { return e.Text }

// Settings bound builds.
type Settings struct {
	// Time is how long one application may take.
	Time time.Duration
	// Line gets each line that the process prints.
	Line func(text string)
}

// Time is the usual time of one application: a module with a large framework is imported within a minute on a slow machine.
const Time = 10 * time.Minute

// answerMax is the size of an answer, which has the arguments of the deployments as pickles.
const answerMax = 1 << 30

// main is the program of the process. Its first import comes after the current directory, which Python puts in front of everything else, is out of the way.
const main = `import sys
if sys.path[:1] == [""]:
    del sys.path[0]
from helve._build_app import main
main()
`

// Build builds applications of one environment. It calls done for each of them, in their order, with the graph or an error. The end of ctx ends
// the build: done is called for the applications that are left, with the cause.
func Build(ctx context.Context, e Environment, apps []App, s Settings, done func(i int, b *Built, err error)) {
	b := &build{Environment: e, Settings: s, apps: apps, done: done}
	var rays []int // programs for Ray, which have a process of their own kind
	all := make([]int, len(apps))
	for i := range apps {
		all[i] = i
	}
	b.run(ctx, all, false, func(i int) { rays = append(rays, i) })
	b.run(ctx, rays, true, nil)
}

type build struct {
	Environment
	Settings
	apps []App
	done func(i int, b *Built, err error)
}

// answer is the answer of the process for one application.
type answer struct {
	Name  string `json:"name"`
	Again bool   `json:"again"` // the program is one for Ray
	Built
	Error    string `json:"error"`
	Argument string `json:"argument"`
}

// run builds the applications of some numbers. A process that ends in one of them fails this one, and the next process has the rest. again is called
// for an application that needs the module ray.
func (b *build) run(ctx context.Context, numbers []int, ray bool, again func(i int)) {
	for len(numbers) > 0 {
		answered, err := b.process(ctx, numbers, ray, again)
		numbers = numbers[answered:]
		if len(numbers) == 0 {
			return
		}
		if ctx.Err() != nil || answered == 0 && errors.Is(err, errStart) {
			for _, i := range numbers {
				b.done(i, nil, err)
			}
			return
		}
		b.done(numbers[0], nil, &Error{Text: b.apps[numbers[0]].ImportPath + ": " + err.Error()})
		numbers = numbers[1:]
	}
}

// errStart is the error of a process that could not be started.
var errStart = errors.New("the builder does not start")

// process runs one process, and calls done or again for each answer. The error says how the process ended if it has not answered for all.
func (b *build) process(ctx context.Context, numbers []int, ray bool, again func(i int)) (answered int, err error) {
	request := map[string]any{
		"path": map[string]any{"first": []string{b.Dir}, "own": b.Own, "site": b.Site}, "dir": b.Dir, "ray": ray,
	}
	var apps []App
	for _, i := range numbers {
		apps = append(apps, b.apps[i])
	}
	request["apps"] = apps
	body, err := json.Marshal(request)
	if err != nil {
		return 0, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errStart, err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, b.Interpreter, "-c", main)
	cmd.Dir, cmd.Env, cmd.ExtraFiles = b.Place.Dir, b.Env, []*os.File{w}
	cmd.Stdin = bytes.NewReader(body)
	out := lines.NewWriter(b.Line)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = kernel.Child(syscall.SIGKILL)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err = cmd.Start()
	w.Close()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errStart, err)
	}
	late := func() {
		cancel(fmt.Errorf("its build took longer than %s; what does it wait for when its module is imported?", b.Time))
	}
	timer := time.AfterFunc(b.Time, late)
	defer timer.Stop()
	read := make(chan struct{})
	var bad error
	go func() {
		defer close(read)
		answered, bad = b.read(r, numbers, again, func() { timer.Reset(b.Time) })
		if bad != nil {
			cancel(bad)
		}
	}()
	err = cmd.Wait()
	kill(cmd.Process.Pid) // processes that the user's code has started in the group
	select {
	case <-read:
	case <-time.After(cmd.WaitDelay): // a process that has left the group holds the other end
		r.SetReadDeadline(time.Now()) //nolint:errcheck // a pipe has deadlines
		<-read
	}
	out.End()
	switch {
	case answered == len(numbers):
		return answered, nil
	case ctx.Err() != nil:
		return answered, context.Cause(ctx)
	case err != nil && missing(out):
		return answered, fmt.Errorf("%w: %s has no package helve, or one of another version: install helve-serve there", errStart, b.Interpreter)
	case err != nil:
		return answered, fmt.Errorf("its code has ended the builder (%w)%s", err, out.Said())
	}
	return answered, fmt.Errorf("its code has ended the builder%s", out.Said())
}

// read reads the answers. next is called after each.
func (b *build) read(r io.Reader, numbers []int, again func(i int), next func()) (answered int, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	for answered < len(numbers) {
		line, err := readLine(in)
		if err != nil {
			if err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded) {
				err = nil
			}
			return answered, err
		}
		var a answer
		i := numbers[answered]
		if err := json.Unmarshal(line, &a); err != nil || a.Name != b.apps[i].Name {
			return answered, fmt.Errorf("the answer of the builder is not one: %.200q", line)
		}
		answered++
		next()
		switch {
		case a.Again && again != nil:
			again(i)
		case a.Error != "" || a.Again:
			b.done(i, nil, &Error{Text: strings.TrimSpace(a.Error), Argument: a.Argument})
		default:
			b.done(i, &a.Built, nil)
		}
	}
	return answered, nil
}

func readLine(in *bufio.Reader) (line []byte, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > answerMax {
			return nil, fmt.Errorf("the application is larger than %d bytes: give its deployments the paths of what is large", answerMax)
		}
		line = append(line, part...)
		if err == nil || err != bufio.ErrBufferFull {
			return line, err
		}
	}
}

// kill ends the processes of a group that are left.
func kill(group int) {
	syscall.Kill(-group, syscall.SIGKILL) //nolint:errcheck // there may be none
}

// missing says that the interpreter has not found the Python package.
func missing(out *lines.Writer) bool {
	return out.Contains("No module named 'helve'") || out.Contains("No module named 'helve._build_app'")
}
