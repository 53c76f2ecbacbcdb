package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/commands"
	"github.com/helve-serve/helve/internal/project"
)

// initCommand is `helve init`, which writes a first project.
func initCommand() *cobra.Command {
	var inGo, inPython bool
	c := &cobra.Command{
		Use: "init [--go | --python] DIRECTORY", Short: "Write a first project, with a test",
		Long: "Write a first project with a test into a directory, which is made if need be. Files that are there are not overwritten.\n" +
			"Without a flag it is in Python if this command is of the Python package, and else in Go.",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) != 1:
				return usageError{errors.New("init takes one directory, for example helve init hello")}
			case inGo && inPython:
				return usageError{errors.New("a project is in Go or in Python: leave --go or --python out")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			language, steps := project.Go, []string{"go mod tidy", "go test ./...", "go run ."}
			if inPython {
				language, steps = project.Python, []string{"pip install -r requirements.txt", "pytest", "helve run --reload app:app"}
			}
			names, err := project.Write(args[0], language, helve.Version)
			if err != nil {
				return err
			}
			if d := filepath.Clean(args[0]); d != "." {
				steps = append([]string{"cd " + d}, steps...)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "wrote %s in %s. The next steps:\n\n  %s\n", strings.Join(names, ", "), args[0], strings.Join(steps, "\n  "))
			return err
		},
	}
	c.Flags().BoolVar(&inGo, "go", false, "in Go")
	c.Flags().BoolVar(&inPython, "python", false, "in Python")
	commands.NoVariable(c, "go", "python") // HELVE_PYTHON names an interpreter
	return c
}
