package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/builder"
)

// pythonTarget matches the programs of Python that `run` takes: SCRIPT.py, FILE.yaml, and MODULE:ATTRIBUTE with names of Python.
var pythonTarget = regexp.MustCompile(`^(?:.*\.(?:py|ya?ml)|[\pL_]\w*(?:\.[\pL_]\w*)*:[\pL_]\w*(?:\.[\pL_]\w*)*)$`)

// pythonCommands are the commands of the Python package alone.
var pythonCommands = []string{"ray-check", "ray-compat"}

// forPython is whether a command line is for the Python package: `run` of a Python program, or a command that only the package has. For
// example, `run --http unix:s app:entrypoint` is, `run exec:./build#app` is not.
func forPython(args []string) bool {
	if len(args) > 1 && args[0] == "ray-compat" && args[1] == "serve" { // the command line of Ray Serve is here
		return false
	}
	if len(args) == 0 || args[0] != "run" {
		return len(args) > 0 && slices.Contains(pythonCommands, args[0])
	}
	flags := (&run{}).command().Flags()
	before := ""
	for _, arg := range args[1:] {
		switch {
		case arg == "--", arg == "-h", arg == "--help", strings.HasPrefix(arg, execScheme):
			return false
		case arg == "--ray-compat":
			return true
		case !strings.HasPrefix(arg, "-") && !takesValue(flags, before) && pythonTarget.MatchString(arg):
			return true
		}
		before = arg
	}
	return false
}

// takesValue is whether an argument is a flag whose value is the next argument, which may look like a Python program.
func takesValue(flags *pflag.FlagSet, arg string) bool {
	name, long := strings.CutPrefix(arg, "--")
	f := flags.Lookup(name)
	if !long && len(arg) == 2 && arg[0] == '-' {
		f = flags.ShorthandLookup(arg[1:])
	}
	return f != nil && (long || len(arg) == 2) && f.NoOptDefVal == ""
}

// pythonMain runs the command line of the Python package. The current directory, which Python puts in front of everything else, must not hide
// the package.
const pythonMain = `import sys
if sys.path[:1] == [""]:
    del sys.path[0]
from helve._cli import main
main()
`

// hasHelve ends with status 3 in an interpreter without the Python package.
const hasHelve = `import sys
if sys.path[:1] == [""]:
    del sys.path[0]
import importlib.util
sys.exit(0 if importlib.util.find_spec("helve") else 3)
`

// becomePython replaces this process by the Python package's command line, and returns only if that is not possible.
func becomePython(args []string) error {
	python, err := builder.Interpreter("", os.Getenv)
	if err != nil {
		return err
	}
	if out, err := exec.Command(python, "-c", hasHelve).CombinedOutput(); err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 3 {
			return fmt.Errorf("%s has no package helve: install it there (pip install helve-serve==%s), activate the environment that has it, or name its interpreter in HELVE_PYTHON", python, helve.Version)
		}
		return fmt.Errorf("%s does not run: %s", python, cmp.Or(strings.TrimSpace(string(out)), err.Error()))
	}
	return fmt.Errorf("%s: %w", python, syscall.Exec(python, append([]string{python, "-c", pythonMain}, args...), os.Environ()))
}
