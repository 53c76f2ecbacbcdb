// Package build looks into executables that contain Go applications: their digest, their version of Helve, and the
// graph of an application in them. To ask for a graph it starts the executable with [DescribeEnv], and reads the
// answer from a pipe.
package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/spec"
)

// Scheme begins the import path of an application in an executable: exec:/srv/ranker/v2#ranker.
const Scheme = "exec:"

// DescribeEnv names the application whose graph an executable is asked for; its value [Only] means the single
// application of the executable. DescribeFD is the descriptor on which the executable writes the answer.
const (
	DescribeEnv = "HELVE_DESCRIBE"
	DescribeFD  = "HELVE_DESCRIBE_FD"
	Only        = "*"
	// DescribePart says that another application takes deployments of the described one, which then needs no ingress.
	DescribePart = "HELVE_DESCRIBE_PART"
)

// module is the path of the module that every executable with Helve applications is linked with.
const module = "github.com/helve-serve/helve"

// describeTime is the longest time for the answer to [Build.Describe]. Building a graph takes microseconds; the rest
// is the start of the program.
const describeTime = 30 * time.Second

// describeMax is the largest size of a description in bytes.
const describeMax = 16 << 20

// ParseImportPath splits an import path into the executable's path and the application's name, which is "" if the
// path has none. The result ok is false for a path without [Scheme].
func ParseImportPath(s string) (path, app string, ok bool) {
	rest, ok := strings.CutPrefix(s, Scheme)
	if !ok {
		return "", "", false
	}
	path, app, _ = strings.Cut(rest, "#")
	return path, app, true
}

// Build is an executable with Helve applications.
type Build struct {
	Path   string // absolute path
	Digest string // SHA-256 of the file, in hex
	Helve  string // the version of Helve that it was built with, or "" if unknown
}

// Open looks at an executable without starting it. An error says why the path is no executable with Helve
// applications.
func Open(path string) (Build, error) {
	if path == "" {
		return Build{}, errors.New("the path of the executable is missing: exec:PATH#APPLICATION")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return Build{}, err
	}
	st, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Build{}, fmt.Errorf("there is no executable %s", abs)
	case err != nil:
		return Build{}, err
	case st.IsDir():
		return Build{}, fmt.Errorf("%s is a directory: give the executable that `go build` made of it", abs)
	case st.Mode().Perm()&0o111 == 0:
		return Build{}, fmt.Errorf("%s is not executable: chmod +x it", abs)
	}
	info, err := buildinfo.ReadFile(abs)
	if err != nil {
		return Build{}, fmt.Errorf("%s is not a Helve build: it was not made by Go (%w)", abs, err)
	}
	b := Build{Path: abs}
	found := info.Main.Path == module
	for _, m := range info.Deps {
		if m.Path == module {
			found, b.Helve = true, m.Version
		}
	}
	if !found {
		return Build{}, fmt.Errorf("%s is not a Helve build: it is a Go program that does not use %s", abs, module)
	}
	f, err := os.Open(abs)
	if err != nil {
		return Build{}, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return Build{}, err
	}
	b.Digest = hex.EncodeToString(h.Sum(nil))
	return b, nil
}

// Command has the arguments, environment and directory with which the executable is started.
type Command struct {
	Args []string
	Env  []string
	Dir  string
}

// Describe starts the executable and asks for the graph of an application; the name "" means its only application.
// The end of ctx ends the process and the wait.
func (b Build) Describe(ctx context.Context, app string, c Command) (spec.Graph, error) {
	return b.describe(ctx, app, c, spec.Graph.Validate)
}

// DescribePart is Describe for an application of which another application takes deployments: it needs no ingress.
func (b Build) DescribePart(ctx context.Context, app string, c Command) (spec.Graph, error) {
	c.Env = append(c.Env[:len(c.Env):len(c.Env)], DescribePart+"=1")
	return b.describe(ctx, app, c, spec.Graph.ValidatePart)
}

func (b Build) describe(ctx context.Context, app string, c Command, validate func(spec.Graph) []error) (spec.Graph, error) {
	if app == "" {
		app = Only
	}
	var g spec.Graph
	r, w, err := os.Pipe()
	if err != nil {
		return g, err
	}
	defer r.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, describeTime, fmt.Errorf("it gave no answer within %s: does its main call cli.Main or helve.WorkerMain first?", describeTime))
	defer cancel()
	cmd := exec.CommandContext(ctx, b.Path, c.Args...)
	cmd.Dir, cmd.ExtraFiles = c.Dir, []*os.File{w}
	cmd.Env = append(c.Env[:len(c.Env):len(c.Env)], DescribeEnv+"="+app, DescribeFD+"=3")
	cmd.SysProcAttr = kernel.Child(syscall.SIGKILL)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var output tail
	cmd.Stdout, cmd.Stderr = &output, &output
	err = cmd.Start()
	w.Close()
	if err != nil {
		return g, fmt.Errorf("%s does not start: %w", b.Path, err)
	}
	answer := make(chan []byte, 1)
	go func() {
		body, _ := io.ReadAll(io.LimitReader(r, describeMax))
		answer <- body
	}()
	err = cmd.Wait()
	var body []byte
	late := time.NewTimer(cmd.WaitDelay)
	select {
	case body = <-answer:
	case <-late.C: // a grandchild holds the other end
		r.SetReadDeadline(time.Now()) //nolint:errcheck // a pipe has deadlines
		body = <-answer
	}
	late.Stop()
	switch {
	case ctx.Err() != nil:
		return g, fmt.Errorf("%s: %w", b.Path, context.Cause(ctx))
	case err != nil:
		return g, fmt.Errorf("%s: %w", b.Path, errors.New(output.or(err.Error())))
	case len(body) == 0:
		return g, fmt.Errorf("%s ended without describing an application: its main must call cli.Main or helve.WorkerMain first", b.Path)
	}
	if err := json.Unmarshal(body, &g); err != nil {
		return g, fmt.Errorf("%s: its description of application %s does not parse: %w", b.Path, app, err)
	}
	for i := range g.Deployments { // the application has no other place in this process
		if d := &g.Deployments[i]; d.Language == "go" {
			d.Options.Isolation = spec.Process
		}
	}
	if err := errors.Join(validate(g)...); err != nil {
		return g, fmt.Errorf("%s: application %s: %w", b.Path, g.App, err)
	}
	return g, nil
}

// tail keeps the last bytes that were written.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	const most = 4 << 10
	t.b = append(t.b, p...)
	if len(t.b) > most {
		t.b = append(t.b[:0], t.b[len(t.b)-most:]...)
	}
	return len(p), nil
}

func (t *tail) or(text string) string {
	if s := string(bytes.TrimSpace(t.b)); s != "" {
		return s
	}
	return text
}

// Names of copies: build-0123456789abcdef, and build-0123456789abcdef.1234.new until the copy is complete.
const (
	keptPrefix     = "build-"
	keptDigits     = 16
	keptUnfinished = ".new"
)

// Forget removes the copies that [Build.Keep] made in a directory: regular files with exactly such a name.
func Forget(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.Type().IsRegular() && isKept(e.Name()) {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

func isKept(name string) bool {
	rest, ok := strings.CutPrefix(name, keptPrefix)
	if !ok || len(rest) < keptDigits || strings.Trim(rest[:keptDigits], "0123456789abcdef") != "" {
		return false
	}
	if rest = rest[keptDigits:]; rest == "" {
		return true
	}
	number, unfinished := strings.CutSuffix(rest, keptUnfinished)
	return unfinished && len(number) > 1 && number[0] == '.' && strings.Trim(number[1:], "0123456789") == ""
}

// Kept is the path of the copy that [Build.Keep] makes in dir, and says whether it is there.
func (b Build) Kept(dir string) (path string, there bool) {
	path = filepath.Join(dir, keptPrefix+b.Digest[:keptDigits])
	_, err := os.Stat(path)
	return path, err == nil
}

// Keep copies the executable into dir under its digest, and returns the path of the copy. Workers run the copy, so
// that they run the same code after the file at the original path was replaced.
func (b Build) Keep(dir string) (string, error) {
	path, there := b.Kept(dir)
	if there {
		return path, nil
	}
	in, err := os.Open(b.Path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.CreateTemp(dir, filepath.Base(path)+".*"+keptUnfinished)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), in)
	if err == nil && hex.EncodeToString(h.Sum(nil)) != b.Digest {
		err = fmt.Errorf("%s was replaced while it was being deployed: deploy it again", b.Path)
	}
	if err == nil {
		err = out.Chmod(0o500)
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		// Two applications of one executable are kept at the same time, for example. The first copy stays: a worker that has started from it is known by its inode.
		if err = os.Link(out.Name(), path); errors.Is(err, os.ErrExist) {
			err = nil
		} else if err != nil { // a file system without links
			err = os.Rename(out.Name(), path)
		}
	}
	os.Remove(out.Name()) //nolint:errcheck // it may have the other name now
	if err != nil {
		return "", err
	}
	return path, nil
}
