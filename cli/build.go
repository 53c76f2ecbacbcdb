package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/builder"
	"github.com/helve-serve/helve/internal/commands"
	"github.com/helve-serve/helve/internal/config"
	"github.com/helve-serve/helve/internal/pyenv"
	"github.com/helve-serve/helve/internal/spec"
)

// buildCommand is the command that writes a file for applications in Python. It needs no node.
func buildCommand() *cobra.Command {
	var dir, out string
	c := &cobra.Command{
		Use: "build MODULE:APPLICATION...", Short: "Write the file of applications in Python, for deploy", Args: cobra.MinimumNArgs(1),
		Long: "Write the file of applications in Python, which deploy takes. It has each deployment of the code; an option that the code sets is a comment, because\n" +
			"a file is stronger than the code. The modules are imported by the Python of HELVE_PYTHON, else of the active environment, else of PATH.",
		RunE: func(c *cobra.Command, args []string) error { return writeFile(c, args, dir, out) },
	}
	c.Flags().StringVarP(&dir, "app-dir", "d", ".", "directory in which modules are looked for first")
	c.Flags().StringVarP(&out, "output-path", "o", "", "file to write (default: the standard output)")
	commands.NoVariable(c, "app-dir", "output-path")
	return c
}

func writeFile(c *cobra.Command, paths []string, dir, out string) error {
	for _, path := range paths {
		if strings.HasPrefix(path, build.Scheme) {
			return usageError{fmt.Errorf("%s: build is for modules of Python; write import_path: %s into the file, whose deployments have the options of the executable", path, path)}
		}
	}
	python, err := builder.Interpreter("", os.Getenv)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	e := builder.Environment{Place: pyenv.Place{Interpreter: python, Dir: dir}, Dir: dir, Env: spec.WithoutReserved(os.Environ())}
	line := func(text string) { fmt.Fprintln(os.Stderr, text) }
	all, err := builder.Describe(c.Context(), e, paths, builder.Settings{Time: builder.Time, Line: line})
	if err != nil {
		return err
	}
	text, err := config.Write(all)
	if err != nil {
		return err
	}
	if out == "" {
		_, err = os.Stdout.Write(text)
		return err
	}
	return os.WriteFile(out, text, 0o644) //nolint:gosec // a file of a project, which others read
}
