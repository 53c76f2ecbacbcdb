package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/commands"
)

// pythonFlags are the flags of `run` that are for Python programs alone. The Python package reads them (python/src/helve/_flags.py); here they
// are for the help, and for an error that says where they belong.
var pythonFlags = []string{"name", "route-prefix", "app-dir", "reload", "reload-dir", "dry-run", "ray-compat", "host", "port", "node"} //nolint:gochecknoglobals // a constant

func addPythonFlags(c *cobra.Command) {
	f := c.Flags()
	f.String("name", "", "name of the application in front of it (default: default)")
	f.String("route-prefix", "", `path of the application in front of it (default: /); "none": not over HTTP`)
	f.StringP("app-dir", "d", "", "directory in which modules are looked for first (default: the current one, or that of the script)")
	f.BoolP("reload", "r", false, "load the program again when its files change: replicas whose code is the same go on, and a broken save changes nothing")
	f.StringArray("reload-dir", nil, "directory to watch in place of that of the modules; may be given again")
	f.Bool("dry-run", false, "load the applications and check all options, show what would run, and start nothing")
	f.Bool("ray-compat", false, "import ray and from ray import serve are Helve's: programs for Ray Serve run as they are")
	f.String("node", "", "run the applications in the durable node of this user, or in the node of a directory (--node=DIR), where they go on when this command has ended")
	f.Lookup("node").NoOptDefVal = "auto"
	f.String("host", "", "the host of --http alone")
	f.String("port", "", "the port of --http alone")
	commands.NoVariable(c, "host", "port", "node")
}

// checkPythonFlags gives an error if an application in Go is started with a flag of Python programs. Their variables are left alone, because
// they may be there for other programs.
func checkPythonFlags(c *cobra.Command) error {
	for _, name := range pythonFlags {
		if f := c.Flags().Lookup(name); f != nil && f.Changed && f.Annotations[fromVariable] == nil {
			return usageError{fmt.Errorf("--%s is for Python programs: SCRIPT.py, MODULE:APPLICATION or FILE.yaml", name)}
		}
	}
	return nil
}

// pythonCommand is a command of the Python package, for the help. [Run] hands its command line to the package before it is looked at here.
func pythonCommand(use, short string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, DisableFlagParsing: true, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
}
