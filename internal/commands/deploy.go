package commands

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/layout"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
	"github.com/helve-serve/helve/internal/tables"
)

// source has the flags that make a request of the file, or of the import path, of a deploy or a plan.
type source struct {
	request     helvetype.ApplyRequest
	name        string
	routePrefix string
}

func (s *source) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.request.Source, "source", "", `writer of the file: applications that files of the same source had, and this one does not have, are deleted (default "default")`)
	f.BoolVar(&s.request.Keep, "keep", false, "applications that the file does not have stay")
	f.StringVar(&s.request.Only, "only", "", "only this application of the file")
	f.StringVarP(&s.request.Dir, "app-dir", "d", "", "directory, on the machine of the node, from which modules are imported (default for a node on this machine: that of the file)")
	f.StringVar(&s.request.Python, "python", "", "interpreter, on the machine of the node, of applications in Python (default for a node on this machine: that of the active environment, else the node's)")
	f.Uint64Var(&s.request.If, "if", 0, "refuse if the target has another generation than this one, which a plan has shown")
	f.StringVar(&s.name, "name", "", "name of the application of an import path (default: default)")
	f.StringVar(&s.routePrefix, "route-prefix", "", `path of the application of an import path (default: /); "none": not over HTTP`)
	NoVariable(c, "source", "keep", "only", "app-dir", "python", "if", "name", "route-prefix")
}

// WithoutVariable is the annotation of flags that have no environment variable.
const WithoutVariable = "helve_no_variable"

// NoVariable takes the environment variables away from flags. For example, --port is a part of --http, and Kubernetes sets HELVE_PORT for a service that
// is called helve.
func NoVariable(c *cobra.Command, flags ...string) {
	for _, name := range flags {
		c.Flags().SetAnnotation(name, WithoutVariable, []string{"true"}) //nolint:errcheck // the flag is there
	}
}

// importPath matches an application of a module or an executable in place of a file: module:app, module.app, exec:PATH#app.
var importPath = regexp.MustCompile(`^(?:exec:.+|[\pL_][\w.]*:[\pL_][\w.]*|[\pL_]\w*(?:\.[\pL_]\w*)+)$`)

// read makes the request of the arguments: FILE, or "-" for the standard input, or an import path with arguments key=value.
func (s *source) read(args []string, in io.Reader, local bool) (helvetype.ApplyRequest, error) {
	r := s.request
	if len(args) == 0 {
		return r, usage("give a file, for example serve.yaml, or an import path, for example app:app")
	}
	target, rest := args[0], args[1:]
	_, err := os.Stat(target)
	switch ext := filepath.Ext(target); {
	case err != nil && ext != ".yaml" && ext != ".yml" && ext != ".json" && importPath.MatchString(target):
		return s.module(target, rest, local)
	case len(rest) > 0:
		return r, usage("a file has its arguments itself: %s is one argument too many", rest[0])
	case s.name != "" || s.routePrefix != "":
		return r, usage("--name and --route-prefix are for an import path; the applications of a file have theirs in it")
	}
	var text []byte
	if target == "-" {
		r.Name = "stdin"
		text, err = io.ReadAll(in)
	} else {
		r.Name = target
		text, err = os.ReadFile(target)
	}
	if err != nil {
		return r, UsageError{err}
	}
	r.Config = string(text)
	return r, s.place(&r, target, local)
}

// place adds the directory and the interpreter for a node on this machine.
func (s *source) place(r *helvetype.ApplyRequest, target string, local bool) error {
	if !local {
		return nil
	}
	dir := r.Dir
	if dir == "" && target != "-" {
		dir = filepath.Dir(target)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	r.Dir = abs
	if r.Python == "" {
		r.Python = os.Getenv("HELVE_PYTHON")
	}
	if env := os.Getenv("VIRTUAL_ENV"); r.Python == "" && env != "" {
		r.Python = filepath.Join(env, "bin", "python")
	}
	return nil
}

// module is the request for one application of an import path. Others stay.
func (s *source) module(path string, args []string, local bool) (helvetype.ApplyRequest, error) {
	r := s.request
	app := map[string]any{"name": s.name, "import_path": path}
	if s.name == "" {
		app["name"] = "default"
	}
	switch s.routePrefix {
	case "":
	case "none":
		app["route_prefix"] = nil
	default:
		app["route_prefix"] = s.routePrefix
	}
	given := map[string]any{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return r, usage("%q: an argument of an application is key=value", arg)
		}
		given[key] = value
	}
	if len(given) > 0 {
		app["args"] = given
	}
	text, err := json.Marshal(map[string]any{"applications": []any{app}})
	if err != nil {
		return r, err
	}
	r.Config, r.Name, r.Keep = string(text), path, true
	return r, s.place(&r, "-", local)
}

func deployCommand(s Settings) *cobra.Command {
	r, from := newReader(s), source{}
	var wait, dry bool
	c := &cobra.Command{
		Use: "deploy FILE | IMPORT_PATH [key=value...]", Short: "Deploy the applications of a file into a running node",
		Long: "Deploy the applications of a file, in the form of Ray Serve's configuration, into a running node. The node changes what is different, keeps what is the\n" +
			"same, and deletes applications that an earlier file of the same --source had and this one does not have. - is the standard input.\n" +
			"An import path, such as app:app or exec:./ranker#hello, is one application, and the others stay.\n\n" +
			"The command returns when the node has taken the file. With --wait it returns when each application runs, or has failed and the\n" +
			"revision before serves again. The change goes on when the command is interrupted.",
		Example: "  helve deploy --dry-run serve.yaml\n  helve deploy --wait -m 'larger model' serve.yaml\n  helve deploy app:app --name shop --route-prefix /shop",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			node, err := r.dial(ctx)
			if err != nil {
				return err
			}
			request, err := from.read(args, os.Stdin, node.Local())
			if err != nil {
				return err
			}
			if dry {
				return r.plan(ctx, node, request)
			}
			request.Wait = wait
			return r.deploy(ctx, node, request)
		},
	}
	r.flags(c)
	from.flags(c)
	c.Flags().BoolVar(&wait, "wait", false, "wait until the applications run or have failed")
	c.Flags().BoolVar(&dry, "dry-run", false, "show what would change, and change nothing (as plan)")
	c.Flags().StringVarP(&from.request.Message, "message", "m", "", "a note for the history")
	NoVariable(c, "wait", "dry-run", "message")
	return c
}

func planCommand(s Settings) *cobra.Command {
	r, from := newReader(s), source{}
	c := &cobra.Command{
		Use: "plan FILE | IMPORT_PATH [key=value...]", Short: "Show what a deploy would change",
		Long: "Show what a deploy of a file would change, and change nothing: for each deployment, whether replicas go on, change in place or are replaced, how many\n" +
			"there are and would be, and whether they fit the machine. helve rollback --dry-run shows the same for a rollback.",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			node, err := r.dial(ctx)
			if err != nil {
				return err
			}
			request, err := from.read(args, os.Stdin, node.Local())
			if err != nil {
				return err
			}
			return r.plan(ctx, node, request)
		},
	}
	r.flags(c)
	from.flags(c)
	return c
}

func (r *reader) plan(ctx context.Context, node *rest.Client, request helvetype.ApplyRequest) error {
	plan, err := node.Plan(ctx, request)
	if err != nil {
		return err
	}
	return r.printPlan(plan)
}

// printPlan writes a plan as the flags ask for it.
func (r *reader) printPlan(plan helvetype.Plan) error {
	return shown.Print(os.Stdout, r.output, plan, func() string { return layout.Plan(plan, layout.Width(os.Stdout)) })
}

// deploy sends a request, and shows what has become of the applications.
func (r *reader) deploy(ctx context.Context, node *rest.Client, request helvetype.ApplyRequest) error {
	var answer helvetype.ApplyAnswer
	err := r.during(ctx, node, request.Wait, func(ctx context.Context) (err error) {
		answer, err = node.Apply(ctx, request)
		return err
	})
	if err != nil {
		return err
	}
	err = shown.Print(os.Stdout, r.output, answer, func() string {
		return outcomeText(answer, request.Wait, r.program, layout.Width(os.Stdout)) + r.unchangedWaits(ctx, node, answer)
	})
	if err != nil {
		return err
	}
	return failed(answer.Applications, r.program)
}

// unchangedWaits has a line for each application of an answer that is unchanged, and whose rollout waits at a step or is paused: the same file again does not go on with it.
func (r *reader) unchangedWaits(ctx context.Context, node *rest.Client, a helvetype.ApplyAnswer) string {
	if !slices.ContainsFunc(slices.Collect(maps.Values(a.Applications)), func(o helvetype.Outcome) bool { return o.Change == "unchanged" }) {
		return ""
	}
	in, err := node.Instance(ctx)
	if err != nil {
		return "" // the deploy has its answer all the same
	}
	maps.DeleteFunc(in.Applications, func(name string, _ details.AppDetails) bool { return a.Applications[name].Change != "unchanged" })
	var b strings.Builder
	lines, _ := waitTexts(in, r.program)
	for _, line := range lines {
		layout.Paragraph(&b, "", "  ", line, layout.Width(os.Stdout))
	}
	return b.String()
}

// failed is the error for applications that were refused or do not run; nil if there are none. Of several errors the first one in this order gives the exit status and the
// next command: an application that does not run, another deploy that came before, and a mistake in the file.
func failed(outcomes map[string]helvetype.Outcome, program string) error {
	var names []string
	worst := ""
	for _, name := range slices.Sorted(maps.Keys(outcomes)) {
		if outcomes[name].Error == "" {
			continue
		}
		names = append(names, name)
		if worst == "" || severity(statusOf(outcomes[name])) > severity(statusOf(outcomes[worst])) {
			worst = name
		}
	}
	if len(names) == 0 {
		return nil
	}
	next := cmp.Or(outcomes[worst].Next, program+" why "+worst)
	return coded{statusOf(outcomes[worst]), fmt.Errorf("not deployed: %s\nnext: %s", strings.Join(names, ", "), next)}
}

// statusOf is the exit status of one application with an error.
func statusOf(o helvetype.Outcome) int {
	if status := statusOfCode(o.Code); status != exitFailed {
		return status
	}
	return exitNotRunning
}

// severity orders the exit statuses of applications.
func severity(status int) int {
	return slices.Index([]int{exitNotFound, exitUsage, exitUnreachable, exitRefused, exitNotRunning}, status)
}

// changeRefused is the change of an application that was refused, and is as it was before.
const changeRefused = "refused"

// outcomeText is the outcome of a deploy for people, with a line for each application.
func outcomeText(a helvetype.ApplyAnswer, waited bool, program string, width int) string {
	var b strings.Builder
	for _, w := range a.Warnings {
		layout.Paragraph(&b, "warning: ", "  ", w, width)
	}
	var rows [][]string
	var taken []string
	for _, name := range slices.Sorted(maps.Keys(a.Applications)) {
		o := a.Applications[name]
		revision := ""
		if o.Revision > 0 {
			revision = fmt.Sprintf("revision %d", o.Revision)
		}
		if o.Error == "" && o.Change != "unchanged" {
			taken = append(taken, name)
		}
		state := ""
		switch {
		case o.Code == helvetype.CodeAborted:
			state = "another deploy has taken its place"
		case o.Change == changeRefused: // the second column says so
		case o.Error != "":
			state = "failed"
		case waited && o.Change != "deleted":
			state = "runs"
		}
		rows = append(rows, []string{name, o.Change, revision, state})
	}
	layout.Table(&b, "", width, nil, rows)
	for _, name := range slices.Sorted(maps.Keys(a.Applications)) {
		tables.Message(&b, name+": ", "  ", a.Applications[name].Reason, width)
		tables.Message(&b, name+": ", "  ", a.Applications[name].Error, width)
	}
	layout.Settings(&b, a.Settings, width)
	switch {
	case len(rows) == 0 && len(a.Settings) == 0:
		b.WriteString("nothing has changed: the file has no application\n")
	case !waited && len(taken) > 0:
		fmt.Fprintf(&b, "The node has taken %s. Follow it with %s status -w, or wait with --wait.\n", strings.Join(taken, ", "), program)
	}
	return b.String()
}

// during shows the progress of the node while a request waits for it, and then the result of the request. An interrupted command leaves the change to go on.
func (r *reader) during(ctx context.Context, node *rest.Client, waits bool, do func(context.Context) error) error {
	if !waits {
		return do(ctx)
	}
	followed, end := context.WithCancel(ctx)
	defer end()
	shown := make(chan struct{})
	p := &progress{node: node, out: os.Stderr, terminal: terminal(os.Stderr), width: layout.Width(os.Stderr), program: r.program}
	ready := make(chan struct{})
	go func() {
		defer close(shown)
		p.show(followed, ready)
	}()
	select {
	case <-ready: // the events of the change are not missed
	case <-shown:
	}
	err := do(ctx)
	end()
	<-shown
	if err != nil && ctx.Err() != nil {
		next := r.program + " status -w"
		if p.waits != "" {
			next = fmt.Sprintf("%s resume %s: its rollout waits; or %s", r.program, p.waits, next)
		}
		return coded{exitInterrupted, errors.New("interrupted: the change goes on\nnext: " + next)}
	}
	return err
}
