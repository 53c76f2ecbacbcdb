// Package rayserve has the commands of Ray Serve's command line that start programs or write files: run, start and build. Each is a command line of Helve itself. For
// example, `serve start --http-port 80` is `start --http 127.0.0.1:80`. The commands that ask a node are in package commands.
package rayserve

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/commands"
)

// Commands makes the commands. run runs a command line of Helve.
func Commands(run func(args []string) error) []*cobra.Command {
	return []*cobra.Command{serveRun(run), serveStart(run), serveBuild(run)}
}

// usage makes the error of a mistake in a flag or an argument.
func usage(format string, args ...any) error {
	return commands.UsageError{Err: fmt.Errorf(format, args...)}
}

func serveRun(run func([]string) error) *cobra.Command {
	var name, prefix, dir, address, runtimeEnv, runtimeEnvJSON, workingDir string
	var reload, nonBlocking, blocking bool
	c := &cobra.Command{
		Use: "run CONFIG_OR_IMPORT_PATH [key=value...]", Short: "Run a program for Ray Serve until it is interrupted (as helve run --ray-compat)",
		RunE: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usage("run takes a file, for example serve.yaml, or an import path, for example app:app")
			case nonBlocking || !blocking:
				return usage("--non-blocking: run stays with its program; helve start makes a node that goes on, and serve deploy deploys into it")
			}
			if err := ownNode(address, "run has a node of its own; serve deploy --address sends an application to a node that runs"); err != nil {
				return err
			}
			env, err := commands.Environment(runtimeEnv, runtimeEnvJSON, workingDir)
			if err != nil {
				return err
			}
			if commands.IsFile(args) && (name != "" || prefix != "") { // as in the reference
				fmt.Fprintln(os.Stderr, "warning: --name and --route-prefix are ignored: the file has these in it")
				name, prefix = "", ""
			}
			if dir, err = enter(env, dir, args); err != nil {
				return err
			}
			line := []string{"run", "--ray-compat"}
			if dir != "" {
				line = append(line, "--app-dir", dir)
			}
			if reload {
				line = append(line, "--reload")
			}
			line = append(line, args...)
			if name != "" {
				line = append(line, "--name", name)
			}
			if prefix != "" {
				line = append(line, "--route-prefix", prefix)
			}
			return run(line)
		},
	}
	f := c.Flags()
	f.StringVarP(&address, "address", "a", "", "auto or local, which is always so: run has a node of its own")
	f.StringVar(&name, "name", "", "name of the application of an import path")
	f.StringVar(&prefix, "route-prefix", "", "path of the application of an import path")
	f.StringVarP(&dir, "app-dir", "d", "", "directory in which modules are looked for first")
	f.StringVar(&runtimeEnv, "runtime-env", "", "file with a runtime_env of env_vars and working_dir")
	f.StringVar(&runtimeEnvJSON, "runtime-env-json", "", "runtime_env of env_vars and working_dir, as JSON")
	f.StringVar(&workingDir, "working-dir", "", "directory in which the program runs")
	f.BoolVarP(&reload, "reload", "r", false, "load the program again when its files change")
	f.BoolVar(&blocking, "blocking", true, "stay with the program; this is always so")
	f.BoolVar(&nonBlocking, "non-blocking", false, "refused: helve start makes a node that goes on")
	commands.NoVariables(c)
	return c
}

// ownNode is the error for an address of a cluster, given to a command that starts a node of its own.
func ownNode(address, instead string) error {
	switch address {
	case "", "auto", "local":
		return nil
	}
	return usage("--address %s: %s", address, instead)
}

// enter makes the runtime_env of `serve run` the environment of this process, which its program and all workers have then: the variables, and the working
// directory. It returns the directory of modules, and makes the path of a file absolute.
func enter(env map[string]any, dir string, args []string) (string, error) {
	for key, value := range env {
		switch key {
		case "env_vars":
			all, ok := value.(map[string]any)
			if !ok {
				return "", usage("runtime_env.env_vars: must be an object of texts")
			}
			for name, text := range all {
				text, ok := text.(string)
				if !ok {
					return "", usage("runtime_env.env_vars.%s: must be a text", name)
				}
				if err := os.Setenv(name, text); err != nil {
					return "", usage("runtime_env.env_vars.%s: %s", name, err)
				}
			}
		case "working_dir":
		default:
			return "", usage("runtime_env.%s: run has the packages and files of this machine; write it into the runtime_env of a file, which serve build makes", key)
		}
	}
	value, ok := env["working_dir"]
	if !ok {
		return dir, nil
	}
	work, ok := value.(string)
	if st, err := os.Stat(work); !ok || err != nil || !st.IsDir() {
		return "", usage("working_dir %v: must be a directory of this machine; an archive at https:// has its place in the runtime_env of a file", value)
	}
	paths := []*string{&dir}
	if commands.IsFile(args) {
		paths = append(paths, &args[0])
	}
	for _, path := range paths {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return "", err
		}
		*path = abs
	}
	if err := os.Chdir(work); err != nil {
		return "", commands.UsageError{Err: err}
	}
	if dir == "" {
		dir = "."
	}
	return dir, nil
}

// grpc has the flags of the reference for its gRPC proxy. Helve has none: without servicer functions the reference starts none either, so that the others are taken.
type grpc struct{ functions []string }

func (g *grpc) flags(c *cobra.Command) {
	c.Flags().StringArrayVar(&g.functions, "grpc-servicer-functions", nil, "refused: nodes have no gRPC proxy")
	c.Flags().Bool("grpc-enable-reflection", true, "taken, without effect")
	c.Flags().Bool("grpc-disable-reflection", false, "taken, without effect")
}

func (g *grpc) check() error {
	if len(g.functions) > 0 {
		return usage("--grpc-servicer-functions %s: nodes have no gRPC proxy; let an HTTP ingress answer these calls", strings.Join(g.functions, ", "))
	}
	return nil
}

func serveStart(run func([]string) error) *cobra.Command {
	var host, location, address string
	var port uint16
	var g grpc
	c := &cobra.Command{
		Use: "start", Short: "Run a node as a service (as helve start)", Args: commands.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := g.check(); err != nil {
				return err
			}
			if err := ownNode(address, "start makes a node on this machine; log in to the other one and start it there"); err != nil {
				return err
			}
			at := net.JoinHostPort(host, fmt.Sprint(port))
			switch location {
			case "EveryNode", "HeadOnly":
			case "Disabled", "NoServer":
				at = "none"
			default:
				return usage("--proxy-location %q: must be EveryNode, HeadOnly or Disabled", location)
			}
			return run([]string{"start", "--http", at})
		},
	}
	c.Flags().StringVarP(&address, "address", "a", "", "auto or local, which is always so: start makes a node on this machine")
	c.Flags().StringVar(&host, "http-host", "127.0.0.1", "host of the HTTP ingress")
	c.Flags().Uint16Var(&port, "http-port", 8000, "port of the HTTP ingress")
	c.Flags().StringVar(&location, "proxy-location", "EveryNode", "Disabled: no HTTP")
	c.Flags().Uint16("grpc-port", 9000, "taken, without effect: nodes have no gRPC proxy")
	g.flags(c)
	commands.NoVariables(c)
	return c
}

func serveBuild(run func([]string) error) *cobra.Command {
	var dir, out string
	var g grpc
	c := &cobra.Command{
		Use: "build IMPORT_PATH...", Short: "Write a file for applications of import paths (as helve build)",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := g.check(); err != nil {
				return err
			}
			line := append([]string{"build"}, args...)
			if dir != "" {
				line = append(line, "--app-dir", dir)
			}
			if out != "" {
				line = append(line, "--output-path", out)
			}
			return run(line)
		},
	}
	c.Flags().StringVarP(&dir, "app-dir", "d", "", "directory in which modules are looked for first")
	c.Flags().StringVarP(&out, "output-path", "o", "", "file to write (default: the standard output)")
	g.flags(c)
	commands.NoVariables(c)
	return c
}
