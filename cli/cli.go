// Package cli is the helve command line as a library: programs that contain applications call [Main] with them, and
// their executable has the commands of the stock binary for its own applications.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/commands"
	"github.com/helve-serve/helve/internal/gcfloor"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/rayserve"
	"github.com/helve-serve/helve/internal/shown"
)

// Application is an application that this executable contains.
type Application struct {
	name  string
	build helve.Build
}

// App names an application; the name is the one its Build gives to helve.NewApp.
func App(name string, build helve.Build) Application { return Application{name, build} }

// Main runs the command line and exits the process. Without arguments it is `run`. In a worker that a node
// started it takes over and hosts replicas. As the first process of a container it runs as its own child, and reaps orphans.
func Main(apps ...Application) {
	if os.Getpid() == 1 && !(len(os.Args) > 1 && os.Args[1] == "start") { // a keeper reaps orphans itself
		os.Exit(asInit())
	}
	builds := make([]helve.Build, len(apps))
	for i, a := range apps {
		builds[i] = a.build
	}
	helve.WorkerMain(builds...)
	gcfloor.Set()
	os.Exit(Run(os.Args[1:], apps...))
}

// Run is Main without the exit: it returns the exit status, which is one of the table in docs/command.md.
func Run(args []string, apps ...Application) int {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a write to a pipe without a reader is an error, and not the end
	root := command(apps)
	root.SetArgs(args)
	var err error
	var failed *cobra.Command
	if len(apps) == 0 && forPython(args) {
		err = becomePython(args)
	} else {
		failed, err = root.ExecuteC()
		err = withVariables(failed, err)
	}
	if shown.Written(err) == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "error:", commands.TextOf(withHelp(failed, err)))
	if errors.As(err, new(usageError)) {
		return 2
	}
	return commands.StatusOf(err)
}

type usageError struct{ error }

// isNumber is the letters of flags that are a number.
var isNumber = regexp.MustCompile(`^[0-9]`) //nolint:gochecknoglobals // a constant

// withHelp is a wrong use of a command, for example a file that is not there, with the help of the command as the next step, unless it has another one.
func withHelp(c *cobra.Command, err error) error {
	if c == nil || !errors.As(err, new(usageError)) && !errors.As(err, new(commands.UsageError)) && !errors.As(err, new(*fs.PathError)) {
		return err
	}
	path := c.CommandPath()
	if c.Name() == "node" { // which has its flags from `run` of a Python program
		path = c.Root().Name() + " run"
	}
	return commands.WithNext(err, path+" --help")
}

func command(apps []Application) *cobra.Command {
	root := &cobra.Command{
		Use: filepath.Base(os.Args[0]), Short: "Serve models and other code as deployments", Version: versionText(os.Args[0], len(apps)),
		SilenceUsage: true, SilenceErrors: true, Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			if err := logForm(c, args[0]); err != nil {
				return err
			}
			return usageError{noCommand(c, args[0])}
		},
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			if twice, _ := c.Flags().GetBool(warned); !twice && (len(apps) == 0 || c.Name() == "run" || !c.HasParent()) {
				warnOfVariables(c.Root(), os.Environ(), os.Stderr)
			}
			return fromEnvironment(c, os.Getenv)
		},
		SuggestionsMinimumDistance: 2,
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		mistake := err
		invalid, unknown := (*pflag.InvalidValueError)(nil), (*pflag.NotExistError)(nil)
		switch {
		case asError(err, &invalid):
			mistake = fmt.Errorf("--%s: %s", invalid.GetFlag().Name, mistakeOf(err))
		case asError(err, &unknown) && isNumber.MatchString(unknown.GetSpecifiedShortnames()): // the flag 1 of -1
			mistake = fmt.Errorf("-%s: %s takes no negative number", unknown.GetSpecifiedShortnames(), c.CommandPath())
		}
		return usageError{fmt.Errorf("%w%s", mistake, nearFlag(c, err))}
	})
	r := &run{apps: apps}
	root.AddCommand(r.command(), startCommand(apps), stopCommand(), upgradeCommand(), nodeCommand(apps), stateCommand(), versionCommand(root.Version), readCommand())
	root.AddCommand(commands.New(commands.Settings{Program: programName(), Applications: names(apps)})...)
	if len(apps) > 0 {
		root.RunE = func(c *cobra.Command, _ []string) error { return r.execute(c.Context(), nil) }
		r.flags(root)
	} else {
		rayCompat := pythonCommand("ray-compat MODULE [argument...]", "Run a module, for example pytest, for programs that import ray; serve is the command line of Ray Serve")
		serve := commands.RayServe(commands.Settings{Program: programName()})
		serve.AddCommand(rayserve.Commands(again)...)
		rayCompat.AddCommand(serve)
		root.AddCommand(initCommand(), pythonCommand("ray-check PATH...", "Show the names of Ray that programs use and Helve does not have"),
			rayCompat)
		root.RunE = func(c *cobra.Command, _ []string) error { return c.Help() } // else a command that does not exist is no mistake
	}
	completion(root)
	strict(root)
	describe(root)
	return root
}

// again runs another command line of the stock binary in this process.
func again(args []string) error {
	if forPython(args) {
		return becomePython(args)
	}
	root := command(nil)
	root.SetArgs(args)
	return root.Execute()
}

// nearFlag is a question for the flag that a typo may have meant; "" if none is near.
func nearFlag(c *cobra.Command, err error) string {
	unknown := (*pflag.NotExistError)(nil)
	if !errors.As(err, &unknown) {
		return ""
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := closest(unknown.GetSpecifiedName(), names); near != "" {
		return "; did you mean --" + near + "?"
	}
	return ""
}

// noCommand is the error of a command that does not exist.
func noCommand(c *cobra.Command, name string) error {
	var names []string
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	near := closest(name, names)
	if all := c.SuggestionsFor(name); near == "" && len(all) > 0 { // a beginning, for example
		near = all[0]
	}
	if near != "" {
		return fmt.Errorf("there is no command %q; did you mean %q?", name, near)
	}
	return fmt.Errorf("there is no command %q; %s has %s", name, c.CommandPath(), strings.Join(names, ", "))
}

// strict has the commands below c refuse arguments that they do not take: a group refuses a command that it does not have, in place of showing its help.
func strict(c *cobra.Command) {
	for _, sub := range c.Commands() {
		strict(sub)
		if sub.HasSubCommands() && sub.RunE == nil && sub.Run == nil {
			sub.RunE = func(c *cobra.Command, args []string) error {
				if len(args) > 0 {
					return usageError{noCommand(c, args[0])}
				}
				return c.Help()
			}
		}
	}
}

// run is the command that serves an application of this executable.
type run struct {
	apps      []Application
	http      string
	isolation string
	stateDir  string
	grace     wait
	arena     arena
	maxBody   size
	logMemory size
	logPart   size
	limits    httpLimits
	options   httpOptions
	admin     string
	adminTLS  adminTLS // of a service
	access    string
	tracing   tracing
	format    string // of the log
	verbose   bool
}

func (r *run) flags(c *cobra.Command) {
	r.isolationFlag(c)
	c.Flags().StringVar(&r.stateDir, "state-dir", "", "directory from which the next node takes over the workers if this one is killed")
	r.nodeFlags(c)
}

func (r *run) isolationFlag(c *cobra.Command) {
	c.Flags().StringVar(&r.isolation, "isolation", "", "where Go deployments run: node or process (default: what each says)")
}

// nodeFlags are the flags of each command that runs a node.
func (r *run) nodeFlags(c *cobra.Command) {
	c.Flags().StringVar(&r.http, "http", "127.0.0.1:8000", `address of the HTTP ingress, "none" or "" for none; port 0 picks one, unix:PATH is a socket, and several have commas between them`)
	c.Flags().Var(&r.grace, "worker-grace", "how long workers wait for the next node (default 30s; needs --state-dir)")
	c.Flags().Var(&r.arena, "arena-size", "shared memory for the large values of an application's workers, in bytes or as 64MiB (default 1GiB; -1: none)")
	c.Flags().Var(&r.maxBody, "max-body", "largest value of a call between processes, in bytes or as 64MiB (default 256MiB)")
	c.Flags().Var(&r.logMemory, "log-memory", "memory for the newest lines of the node and all replicas, in bytes or as 64MiB (default 8MiB)")
	c.Flags().Var(&r.logPart, "log-memory-deployment", "the part of it that one deployment may take (default a quarter)")
	r.limits.flags(c)
	r.options.flags(c)
	c.Flags().StringVar(&r.admin, "admin", adminPrivate, adminUsage)
	c.Flags().StringVar(&r.access, "access-log", "", "write a line to stdout per HTTP request: time, client, method, route, status, duration, request id, bytes and replica; as text, or as json")
	c.Flags().Lookup("access-log").NoOptDefVal = "text"
	r.tracing.flags(c)
	resourceFlags(c)
	c.Flags().StringVar(&r.format, "log-format", formatText, "form of the log and of the lines of workers on stderr: text, json (a line of JSON per record), or auto (text on a terminal, else json)")
	c.Flags().BoolVarP(&r.verbose, "verbose", "v", false, "log more")
}

func (r *run) command() *cobra.Command {
	c := &cobra.Command{
		Use: "run [application | exec:PATH[#APPLICATION] [-- argument...]]", Short: "Run an application until it is interrupted",
		Long: "Run an application of this executable in this process, or one of another executable in workers of that, until it is\n" +
			"interrupted. exec:PATH is the only application of the executable at PATH, and exec:PATH#APPLICATION names one of several.\n\n" +
			"SIGTERM and SIGINT have the process drain. A second one, a second later or more, cuts off what is left. SIGHUP changes an application of\n" +
			"another executable to what lies at its path now, without losing a request, and reads the files of --tls-certificate again; without\n" +
			"such an application and without TLS it has the process drain too.",
		Args: func(c *cobra.Command, args []string) error {
			own := args
			if i := c.ArgsLenAtDash(); i >= 0 {
				own = args[:i]
			}
			if len(own) > 0 && !slices.ContainsFunc(r.apps, func(a Application) bool { return a.name == own[len(own)-1] }) {
				if err := logForm(c, own[len(own)-1]); err != nil {
					return err
				}
			}
			switch {
			case len(own) > 1:
				return usageError{fmt.Errorf("run takes one application, got %s", strings.Join(own, ", "))}
			case len(own) < len(args) && (len(own) == 0 || !strings.HasPrefix(own[0], execScheme)):
				return usageError{errors.New("arguments after -- are for the executable of exec:PATH#APPLICATION")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkPythonFlags(c); err != nil {
				return err
			}
			return r.execute(c.Context(), args)
		},
	}
	r.flags(c)
	if len(r.apps) == 0 {
		c.Use = "run [flags] PROGRAM [argument...]"
		c.Short = "Run a program until it is interrupted"
		c.Long = stockRun
		c.Example = stockExamples
		addPythonFlags(c)
	}
	return c
}

// stockRun is the help of `run` of the stock binary, which contains no application.
const stockRun = `Run a program until it is interrupted. PROGRAM is one of these:

  SCRIPT.py                   a Python script, as python SCRIPT.py runs it; the arguments behind it are its own
  MODULE:APPLICATION          an application of a Python module, or a function that makes one of arguments key=value in the types that it is
                              annotated with; several may follow each other, each with its own arguments, --name and --route-prefix
  FILE.yaml                   the applications of a file, in the form of Ray Serve's configuration
  exec:PATH[#APPLICATION]     an application of another executable, in Go; the arguments behind -- are that executable's

SIGTERM and SIGINT have the program drain. A second one, a second later or more, cuts off what is left. SIGHUP changes an application of
another executable to what lies at its path now, without losing a request, and reads the files of --tls-certificate again; without
such an application and without TLS it has the process drain too.`

const stockExamples = `  helve run app:app                                   the object app of app.py
  helve run app:build size=3 --reload                 the application that build(size=3) makes, again at every save
  helve run shop:app --name shop --route-prefix /shop search:app --name search --route-prefix /search
  helve run serve.yaml --dry-run
  helve run exec:./ranker -- -threshold 0.7`

// logForm gives an error if an argument is the form of the access log, which belongs to its flag.
func logForm(c *cobra.Command, arg string) error {
	if f := c.Flags().Lookup("access-log"); f != nil && f.Changed && (arg == "text" || arg == "json") {
		return usageError{fmt.Errorf("--access-log takes its form behind an equals sign: --access-log=%s", arg)}
	}
	return nil
}

// names are the names of applications.
func names(apps []Application) []string {
	names := make([]string, len(apps))
	for i, a := range apps {
		names[i] = a.name
	}
	return names
}

func (r *run) pick(args []string) (Application, error) {
	names := names(r.apps)
	switch {
	case len(args) > 0 && strings.HasPrefix(args[0], execScheme):
		_, name, _ := strings.Cut(args[0], "#")
		if name == "" {
			name = args[0]
		}
		return Application{name, helve.Executable(args[0], args[1:]...)}, nil
	case len(r.apps) == 0 && len(args) > 0 && strings.ContainsRune(args[0], '/'):
		return Application{}, usageError{fmt.Errorf("this binary contains no application %q; one of a Python module is given as MODULE:APPLICATION, and one of another executable as exec:%s", args[0], args[0])}
	case len(r.apps) == 0:
		return Application{}, usageError{errors.New("this binary contains no application: give a Python program (run MODULE:APPLICATION, run SCRIPT.py or run FILE.yaml) or one of another executable (run exec:PATH#APPLICATION), or run your program's own executable (cli.Main(cli.App(name, Build)))")}
	case len(args) == 0 && len(r.apps) == 1:
		return r.apps[0], nil
	case len(args) == 0:
		return Application{}, usageError{fmt.Errorf("which application? this binary contains %s", strings.Join(names, ", "))}
	}
	i := slices.Index(names, args[0])
	if i < 0 {
		return Application{}, usageError{fmt.Errorf("no application %q in this binary, it contains %s", args[0], strings.Join(names, ", "))}
	}
	return r.apps[i], nil
}

// check looks for mistakes in the flags of a node.
func (r *run) check() error {
	if iso := helve.Isolation(r.isolation); iso != "" && iso != helve.InNode && iso != helve.Process {
		return usageError{fmt.Errorf("--isolation %q: must be node or process", r.isolation)}
	}
	if err := checkAdmin(r.admin, r.adminTLS.certificate != ""); err != nil {
		return usageError{fmt.Errorf("--admin %s: %w", r.admin, err)}
	}
	if r.http == adminNone {
		r.http = ""
	}
	if err := listen.Check(r.http); err != nil {
		return usageError{fmt.Errorf("--http %s: %w", r.http, err)}
	}
	if r.access != "" && r.access != "text" && r.access != "json" {
		return usageError{fmt.Errorf("--access-log=%s: must be text or json", r.access)}
	}
	if r.format != formatAuto && r.format != formatText && r.format != formatJSON {
		return usageError{fmt.Errorf("--log-format=%s: must be auto, text or json", r.format)}
	}
	if err := r.logBudgets().Check(); err != nil {
		field, text, _ := strings.Cut(err.Error(), ": ")
		return usageError{fmt.Errorf("--%s: %s", map[string]string{"LogMemory": "log-memory", "LogMemoryPerDeployment": "log-memory-deployment"}[field], text)}
	}
	return r.tracing.check()
}

// logBudgets is the memory for the newest lines.
func (r *run) logBudgets() logs.Budgets {
	return logs.Budgets{Node: int64(r.logMemory), Deployment: int64(r.logPart)}
}

// config is the configuration that the flags set.
func (r *run) config(log *slog.Logger, lines io.Writer) (helve.Config, error) {
	options, err := r.options.options()
	config := helve.Config{
		Logger: log, Isolation: helve.Isolation(r.isolation), Output: lines, HTTP: r.http, StateDir: r.stateDir, WorkerGrace: time.Duration(r.grace),
		ArenaSize: int64(r.arena), MaxBody: int(r.maxBody), HTTPLimits: r.limits.limits(), HTTPOptions: options, Admin: adminOf(r.admin),
		Tracing: r.tracing.config(), LogMemory: int64(r.logMemory), LogMemoryPerDeployment: int64(r.logPart),
	}
	if r.access != "" {
		config.AccessLog, config.HTTPOptions.AccessLogFormat = os.Stdout, r.access
	}
	return config, err
}

func (r *run) execute(ctx context.Context, args []string) error {
	app, err := r.pick(args)
	if err != nil {
		return err
	}
	if err := r.check(); err != nil {
		return err
	}
	external := len(args) > 0 && strings.HasPrefix(args[0], execScheme)
	if external && helve.Isolation(r.isolation) == helve.InNode {
		return usageError{errors.New("--isolation node: an application of another executable runs in workers of that")}
	}
	log, lines := r.logger()
	config, err := r.config(log, lines)
	if err != nil {
		return err
	}
	options := config.HTTPOptions
	undump := func() {}
	defer func() { undump() }()
	w := heed(external || options.TLS.Certificate != "", false)
	defer w.stop()
	ctx, stop := context.WithCancelCause(ctx)
	defer context.AfterFunc(w.drain, func() { stop(context.Cause(w.drain)) })()
	build := app.build
	if !external {
		build = app.named
	}
	ctx = admin.WithMetrics(ctx, func(n admin.Node) http.Handler {
		undump = dumpAtQuit(n, os.Stderr)
		return nodeMetrics(n)
	})
	system, err := config.Run(ctx, build)
	if err != nil {
		return r.flagged(err)
	}
	prefix := ""
	for name, a := range system.Status().Applications { // an executable may have been asked for the only one in it
		app.name, prefix = name, a.RoutePrefix
	}
	base, failed := system.HTTP()
	if base != "" && prefix != "" {
		for _, url := range system.URLs() {
			fmt.Printf("%s serves on %s\n", app.name, address(url, options.RootPath+strings.TrimSuffix(prefix, "/")))
		}
	} else {
		fmt.Printf("%s runs, without HTTP\n", app.name)
	}
	sayDashboard(os.Stdout, system.AdminURL())
	reload := reloads{certificate: options.TLS.Certificate != "", signals: w.reload}
	if external {
		reload.app = &app
	}
	err = serve(ctx, system, reload, failed, log)
	w.begin()
	return errors.Join(err, system.Close(w.cut))
}

// named is the build of an application of this executable, whose name must be the same inside: status, routes and exec: paths
// have that one.
func (a Application) named() (*helve.App, error) {
	app, err := a.build()
	if err == nil && app != nil && app.Name() != a.name {
		return nil, fmt.Errorf("application %q: its Build names it %q in helve.NewApp; cli.App must have the same name", a.name, app.Name())
	}
	return app, err
}

// flagged names the flag in front of an error of [helve.Config], which names its field. An error about the value itself is wrong usage. For
// example, a limit below 0 is wrong usage, and a directory that cannot be made is a failure.
func (r *run) flagged(err error) error {
	if all, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // only the outermost is several
		var errs []error
		for _, e := range all.Unwrap() {
			errs = append(errs, r.flagged(e))
		}
		return errors.Join(errs...)
	}
	if text, ok := strings.CutPrefix(err.Error(), "HTTP: "); ok {
		return fmt.Errorf("--http %s: %s%s", r.http, text, neighbours(context.Background(), err))
	}
	if of, ok := strings.CutPrefix(err.Error(), "HTTPLimits: "); ok {
		return limitError(of)
	}
	if text, ok := strings.CutPrefix(err.Error(), "HTTPOptions: "); ok {
		return r.options.flagged(text)
	}
	for field, flag := range map[string]string{"WorkerGrace": "worker-grace", "ArenaSize": "arena-size", "MaxBody": "max-body", "LogMemory": "log-memory", "LogMemoryPerDeployment": "log-memory-deployment"} {
		if text, ok := strings.CutPrefix(err.Error(), field+": "); ok {
			return usageError{fmt.Errorf("--%s: %s", flag, withFlags(text))}
		}
	}
	if text := err.Error(); strings.Contains(text, ": ingress options: ") {
		return errors.New(withFlags(text))
	}
	for field, value := range map[string]string{"StateDir": "--state-dir", "Admin": "--admin " + r.admin} {
		if text, ok := strings.CutPrefix(err.Error(), field+": "); ok {
			return fmt.Errorf("%s: %s", value, text)
		}
	}
	return err
}

const execScheme = "exec:"

// reloads are what a SIGHUP reads again.
type reloads struct {
	signals     <-chan struct{}
	certificate bool
	app         *Application // of another executable; nil for one of this
}

// serve waits for the end. Every SIGHUP that has a meaning reads the certificate again and deploys the application again.
func serve(ctx context.Context, system *helve.System, again reloads, failed <-chan error, log *slog.Logger) error {
	for {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			log.Info("draining", "cause", context.Cause(ctx))
			return nil
		case <-again.signals:
			if again.certificate {
				if err := system.ReloadCertificate(); err != nil {
					log.Error("the certificate was not changed", "error", err)
				} else {
					fmt.Println("new connections get the certificate that is there now")
				}
			}
			if again.app == nil {
				continue
			}
			if err := system.Deploy(ctx, again.app.build); err != nil {
				log.Error("the application was not changed", "app", again.app.name, "error", err)
			} else {
				fmt.Printf("%s has changed to the executable that is there now\n", again.app.name)
			}
		}
	}
}

// logger is the log of the node, and the place of the lines of its workers: stderr, in the format of the flags.
func (r *run) logger() (*slog.Logger, io.Writer) {
	level := slog.LevelWarn
	if r.verbose {
		level = slog.LevelDebug
	}
	if formatOf(r.format, os.Stderr) == formatJSON {
		out := &jsonOut{to: os.Stderr}
		return slog.New(jsonLog{out: out, level: level}), out
	}
	return slog.New(newTextLog(os.Stderr, level)), os.Stderr
}
