package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/builder"
	"github.com/helve-serve/helve/internal/config"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/nearest"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/pyenv"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/worker"
)

// load makes the applications of the file ready to be deployed, all at the same time. An application that cannot be made ready is refused.
func (ap *apply) load(ctx context.Context) (all []ready) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var python []config.Application
	results := make(chan loaded, len(ap.file.Applications))
	for _, app := range ap.file.Applications {
		if strings.HasPrefix(app.ImportPath, build.Scheme) {
			go func() {
				a, err := ap.goApplication(ctx, app)
				results <- loaded{of: app, app: a, err: err}
			}()
		} else {
			python = append(python, app)
		}
	}
	for _, group := range ap.groups(python) {
		go ap.build(ctx, group, results)
	}
	waiting := map[string]bool{}
	for _, app := range ap.file.Applications {
		waiting[app.Name] = true
	}
	lost := ap.lost(ctx)
	for len(waiting) > 0 {
		select {
		case l := <-results:
			if !waiting[l.of.Name] {
				continue
			}
			delete(waiting, l.of.Name)
			err := l.err
			if err == nil {
				err = ap.complete(l.of, &l.app, l.wrong)
			}
			if err != nil {
				ap.refuse(l.of.Name, ap.placed(l.of.Name, err))
				continue
			}
			ap.warn(l.app.Warnings()...)
			all = append(all, ready{l.of.Name, l.app})
		case app := <-lost:
			if waiting[app] {
				delete(waiting, app)
				ap.refuse(app, ap.superseded(app))
			}
		}
	}
	slices.SortFunc(all, func(a, b ready) int { return strings.Compare(a.name, b.name) })
	return all
}

type loaded struct {
	of    config.Application
	app   deploy.App
	wrong config.Mistakes // beside those that complete finds
	err   error
}

// lost tells of applications that another request has taken over, until ctx ends.
func (ap *apply) lost(ctx context.Context) <-chan string {
	all := make(chan string)
	var whole <-chan struct{}
	if ap.whole != nil {
		whole = ap.whole.Lost()
	}
	for app, c := range ap.claims {
		go func() {
			select {
			case <-c.Lost():
			case <-whole:
			case <-ctx.Done():
				return
			}
			select {
			case all <- app:
			case <-ctx.Done():
			}
		}()
	}
	return all
}

// complete gives a loaded application the options of the file, and all that a deploy of it needs. The error has all mistakes of the application, those of wrong too.
func (ap *apply) complete(of config.Application, a *deploy.App, wrong config.Mistakes) error {
	for _, name := range slices.Sorted(maps.Keys(of.Deployments)) {
		i := slices.IndexFunc(a.Graph.Deployments, func(d spec.Deployment) bool { return d.Name == name })
		if i < 0 {
			wrong = append(wrong, ap.file.Place(of.Name, name, "name", absentDeployment(a, name)))
			continue
		}
		d := &a.Graph.Deployments[i]
		layer, err := deploy.Exclusive(of.Deployments[name])
		if err == nil {
			d.Options, err = d.Options.Merge(layer, spec.FromFile)
		}
		if err != nil {
			wrong = append(wrong, ap.place(of.Name, name, err)...)
			continue
		}
	}
	if err := logging(of, a); err != nil {
		return err
	}
	for _, err := range a.Graph.Validate() {
		wrong = append(wrong, ap.place(of.Name, "", err)...)
	}
	if len(wrong) > 0 {
		return wrong.Sorted()
	}
	a.Replace, a.Attempts, a.KeepFailed = true, true, true
	a.Author, a.Message, a.Source, a.From = ap.by, ap.r.Message, ap.source(), ap.from()
	a.Submitted = of.Submitted
	if now, _, ok := ap.o.set.Node.Deployed(of.Name, 0); ok && now.Source != ap.source() {
		ap.warn(fmt.Sprintf("application %q: was deployed by %s, and belongs to source %s with this deploy", of.Name, writer(now.Source), ap.source()))
	}
	return nil
}

// writer names the source of an application for people.
func writer(source string) string {
	if source == "" {
		return "a program"
	}
	return "source " + source
}

// from says where the file came from.
func (ap *apply) from() string {
	if ap.r.Name != "" {
		return ap.r.Name
	}
	return ap.r.Dir
}

// logging gives the deployments in Python the logging_config of the application, where neither the code nor the file has one for them.
func logging(of config.Application, a *deploy.App) error {
	if len(of.Logging) == 0 {
		return nil
	}
	layer, err := json.Marshal(map[string]json.RawMessage{"logging_config": of.Logging})
	if err != nil {
		return err
	}
	for i := range a.Graph.Deployments {
		d := &a.Graph.Deployments[i]
		if d.Language != "python" || len(d.Options.LoggingConfig) > 0 {
			continue
		}
		if d.Options, err = d.Options.Merge(layer, spec.FromFile); err != nil {
			return err
		}
	}
	return nil
}

// absentDeployment is the error for options of a deployment that the code does not have.
func absentDeployment(a *deploy.App, name string) error {
	var names []string
	for _, d := range a.Graph.Deployments {
		names = append(names, d.Name)
	}
	return fmt.Errorf("the code of application %q has no deployment %q; it has %s%s", a.Graph.App, name, strings.Join(names, ", "), nearest.Question(name, names))
}

// place gives each mistake of options its place in the file.
func (ap *apply) place(app, deployment string, err error) (all config.Mistakes) {
	if several, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // its parts are the errors
		for _, one := range several.Unwrap() {
			all = append(all, ap.place(app, deployment, one)...)
		}
		if len(all) > 0 {
			return all
		}
	}
	option := ""
	if m, ok := errors.AsType[*spec.Mistake](err); ok {
		if deployment == "" {
			deployment = m.Deployment()
		}
		if paths := m.Paths(); len(paths) > 0 {
			option = paths[0]
		}
	}
	return config.Mistakes{ap.file.Place(app, deployment, option, err)}
}

// goApplication looks into an executable for an application. Its deployments come from the executable as parts, so that the application may have another name here.
func (ap *apply) goApplication(ctx context.Context, of config.Application) (a deploy.App, err error) {
	path, inside, _ := build.ParseImportPath(of.ImportPath)
	if len(of.Args) > 0 {
		return a, ap.file.Place(of.Name, "", "args", errors.New("args: are for functions in Python that make an application: a Go program has its arguments in user_config and env_vars"))
	}
	p, err := ap.o.set.Node.LoadPart(ctx, ap.absolute(path), inside, build.Command{Dir: ap.r.Dir})
	if err != nil {
		return a, ap.file.Place(of.Name, "", "import_path", err)
	}
	if p.Graph.Ingress == nil {
		return a, ap.file.Place(of.Name, "", "import_path", fmt.Errorf("application %s of %s has no ingress: call App.Ingress with a method", p.Graph.App, path))
	}
	environment, err := only(ap.environment(of), forGo)
	if err != nil {
		return a, err
	}
	a.Graph = spec.Graph{App: of.Name, RoutePrefix: of.RoutePrefix, Ingress: &spec.IngressSpec{Deployment: p.Graph.Ingress.Deployment}, Together: p.Graph.Together}
	if !deploy.HasKey(of.Submitted, "route_prefix") {
		a.Graph.RoutePrefix = p.Graph.RoutePrefix
	}
	from := build.Scheme + p.Build.Path + "#" + p.Graph.App
	for _, d := range p.Graph.Deployments {
		own, err := deploy.UnderApplication(environment, nil)
		if err != nil {
			return a, err
		}
		if err := a.AddPart(from, p, deploy.Bound{Name: d.Name, Class: d.Name, Options: own}); err != nil {
			return a, ap.file.Place(of.Name, "", "import_path", err)
		}
	}
	return a, nil
}

// absolute is a path that is relative to the directory of the request.
func (ap *apply) absolute(path string) string {
	if filepath.IsAbs(path) || path == "" || ap.r.Dir == "" {
		return path
	}
	return filepath.Join(ap.r.Dir, path)
}

// environment is the runtime_env of an application with absolute paths.
func (ap *apply) environment(of config.Application) json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(of.RuntimeEnv, &fields) != nil || len(fields) == 0 {
		return of.RuntimeEnv
	}
	var dir string
	if json.Unmarshal(fields["working_dir"], &dir) == nil && dir != "" && !strings.Contains(dir, "://") {
		fields["working_dir"], _ = json.Marshal(ap.absolute(dir)) //nolint:errcheck // a text
	}
	var modules []string
	if json.Unmarshal(fields["py_modules"], &modules) == nil && len(modules) > 0 {
		for i, m := range modules {
			if !strings.Contains(m, "://") {
				modules[i] = ap.absolute(m)
			}
		}
		fields["py_modules"], _ = json.Marshal(modules) //nolint:errcheck // texts
	}
	b, err := json.Marshal(fields)
	if err != nil {
		return of.RuntimeEnv
	}
	return b
}

// groups has the applications in Python by their environments: the applications of a group can share builders.
func (ap *apply) groups(all []config.Application) (groups [][]config.Application) {
	at := map[string]int{}
	for _, app := range all {
		key := string(ap.environment(app))
		i, ok := at[key]
		if !ok {
			i = len(groups)
			at[key] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], app)
	}
	return groups
}

// build builds the applications of one environment, by as many processes as the machine has CPUs.
func (ap *apply) build(ctx context.Context, group []config.Application, results chan<- loaded) {
	e, python, err := ap.prepare(ctx, group[0])
	if err != nil {
		for _, app := range group {
			results <- loaded{of: app, err: ap.file.Place(app.Name, "", "runtime_env", err)}
		}
		return
	}
	var working sync.WaitGroup
	for part := range slices.Chunk(group, (len(group)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0)) {
		working.Go(func() {
			apps := make([]builder.App, len(part))
			for i, app := range part {
				values, err := ap.o.set.Secrets.Values(string(app.Args))
				if err != nil { // Apply has looked for each: it is gone since
					ap.warn(fmt.Sprintf("application %q: args: %s", app.Name, err))
				}
				apps[i] = builder.App{Name: app.Name, ImportPath: app.ImportPath, Args: app.Args, Secrets: values}
				if app.RoutePrefix != "" {
					apps[i].RoutePrefix = &app.RoutePrefix
				}
			}
			log := func(text string) { ap.o.set.Log.Info(ap.o.set.Secrets.Scrub(text), "source", "builder") }
			builder.Build(ctx, e, apps, builder.Settings{Time: builder.Time, Line: log}, func(i int, b *builder.Built, err error) {
				of := part[i]
				var a deploy.App
				var wrong config.Mistakes
				if err == nil {
					a, wrong, err = ap.pythonApplication(ctx, of, b, python, e.Dir)
				} else if e, ok := errors.AsType[*builder.Error](err); ok {
					e.Text = ap.o.set.Secrets.Scrub(e.Text)
					err = ap.file.Place(of.Name, "", field(e), err)
				}
				results <- loaded{of, a, wrong, err}
			})
		})
	}
	working.Wait()
}

// field is the field of an application that the error of a build is about.
func field(e *builder.Error) string {
	if e.Argument != "" {
		return "args." + e.Argument
	}
	return "import_path"
}

// prepare makes the environment of builders, with the packages that the runtime_env asks for. python is the interpreter of the workers.
func (ap *apply) prepare(ctx context.Context, of config.Application) (e builder.Environment, python string, err error) {
	python, err = ap.o.interpreter(ap.r.Python)
	if err != nil {
		return e, "", err
	}
	dir := ap.r.Dir
	if dir == "" {
		if dir, err = filepath.Abs("."); err != nil {
			return e, "", err
		}
	}
	layer, err := json.Marshal(map[string]json.RawMessage{"runtime_env": orNull(ap.environment(of))})
	if err != nil {
		return e, "", err
	}
	o, err := spec.Options{}.Merge(layer, spec.FromFile)
	if err != nil {
		return e, "", err
	}
	for _, path := range append([]string{o.Dir}, o.PyModules...) {
		if scheme, _, remote := strings.Cut(path, "://"); remote {
			return e, "", fmt.Errorf("nodes fetch nothing from %s://, as in %s; copy it to this machine and give the path", scheme, path)
		}
		if _, err := os.Stat(path); path != "" && err != nil {
			return e, "", fmt.Errorf("runtime_env: %w", err)
		}
	}
	own := ap.o.set.Program.Env
	env, err := ap.o.set.Secrets.Environ(worker.WithVariables(spec.WithoutReserved(own), o.Env))
	if err != nil {
		return e, "", err
	}
	r := pyenv.Runtime{Request: pyenv.Request{
		Interpreter: python, Packages: o.Pip.Packages, Options: o.Pip.InstallOptions, PipVersion: o.Pip.Version, Check: o.Pip.Check, Env: env, Dir: dir,
	}, WorkingDir: o.Dir, PyModules: o.PyModules}
	e = builder.Environment{Place: r.Place(), Dir: dir, Env: env}
	if r.Empty() {
		return e, python, nil
	}
	cache, err := ap.o.packages()
	if err != nil {
		return e, "", err
	}
	e.Place, err = cache.Prepare(ctx, r, func() func() {
		ap.o.set.Log.Info("pip installs packages for a build", "app", of.Name, "packages", pyenv.Describe(o.Pip.Packages))
		return func() {}
	})
	if err != nil {
		if text := err.Error(); ap.o.set.Secrets.Scrub(text) != text { // of pip, for example
			err = errors.New(ap.o.set.Secrets.Scrub(text))
		}
	}
	return e, python, err
}

func orNull(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	return raw
}

// pythonApplication is an application that a builder has made, without the options of the file for its deployments.
func (ap *apply) pythonApplication(ctx context.Context, of config.Application, b *builder.Built, python, dir string) (a deploy.App, wrong config.Mistakes, err error) {
	n := ap.o.set.Node
	for _, name := range slices.Sorted(maps.Keys(of.Deployments)) {
		if deploy.HasKey(of.Deployments[name], "user_config") && !slices.Contains(b.Reconfigures, name) && slices.ContainsFunc(b.App.Deployments, func(d protocol.PythonDeployment) bool { return d.Name == name && d.Go == nil }) {
			wrong = append(wrong, ap.file.Place(of.Name, name, "user_config", fmt.Errorf("deployment %q: user_config: its class has no method reconfigure, which would get it", name)))
		}
	}
	b.App.Python, b.App.SysPath, b.App.Dir, b.App.RuntimeEnv = python, []string{dir}, dir, ap.environment(of)
	if a, err = pythonApplication(ctx, n, b.App); err != nil {
		return a, nil, append(wrong, ap.place(of.Name, "", err)...).Sorted()
	}
	deploy.OfFile(a.Graph.Deployments, b.App.Deployments, of.RuntimeEnv)
	put := n.Keep
	if ap.plans {
		put = n.WouldKeep
	}
	left, notices, err := keep(ctx, n, put, &a, b.App.Own)
	if err != nil {
		return a, nil, refusal(err)
	}
	ap.pin(&a)
	for _, l := range left {
		if !slices.Contains(b.App.Own, l.Path) || slices.Contains(b.Imported, l.Path) {
			ap.warn(fmt.Sprintf("application %q: the node keeps no copy of %s: %s. The application runs from there, so do not remove or change it; a rollback does not bring its files back", of.Name, l.Path, l.Why))
		}
	}
	for _, text := range slices.Concat(notices, b.Warnings) {
		ap.warn(fmt.Sprintf("application %q: %s", of.Name, text))
	}
	return a, wrong, nil
}

// packages is the user's cache of packages and archives.
func (o *Operator) packages() (*pyenv.Cache, error) { return o.cache() }

// interpreter is the Python of applications: the one of a request, else the node's own.
func (o *Operator) interpreter(given string) (string, error) {
	if given == "" {
		given = o.set.Python
	}
	python, err := builder.Interpreter(given, func(name string) string { return worker.Variable(o.set.Program.Env, name) })
	if err != nil {
		return "", &helvetype.OperationError{Code: helvetype.CodeInvalidArgument, Message: err.Error(), Next: "name an interpreter with the package helve in the variable HELVE_PYTHON of the node"}
	}
	return python, nil
}
