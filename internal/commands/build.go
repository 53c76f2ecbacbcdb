package commands

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/builder"
	"github.com/helve-serve/helve/internal/config"
	"github.com/helve-serve/helve/internal/pyenv"
	"github.com/helve-serve/helve/internal/spec"
)

func buildCommand() *cobra.Command {
	var dir, out, python string
	c := &cobra.Command{
		Use: "build MODULE:APPLICATION...", Short: "Write a file for applications of Python modules",
		Long: "Write a file that deploy takes, for applications of Python modules: each deployment with the options that the code sets, as comments. No node is asked.\n" +
			"The applications are called app1, app2, and so on, as serve build of Ray Serve calls them. One application has the path /.",
		Example: "  helve build app:app -o serve.yaml",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("build takes import paths, for example app:app")
			}
			ctx, stop := interruptible(c.Context())
			defer stop()
			text, err := buildFile(ctx, args, dir, python)
			if err != nil {
				return err
			}
			if out == "" {
				_, err = os.Stdout.Write(text)
				return err
			}
			if err := os.WriteFile(out, text, 0o644); err != nil { //nolint:gosec // a file without secrets
				return err
			}
			_, err = fmt.Printf("wrote %s. Deploy it with: helve deploy %s\n", out, out)
			return err
		},
	}
	c.Flags().StringVarP(&dir, "app-dir", "d", ".", "directory from which modules are imported")
	c.Flags().StringVarP(&out, "output-path", "o", "", "file to write (default: the standard output)")
	c.Flags().StringVar(&python, "python", "", "interpreter (default: that of HELVE_PYTHON, of the active environment, or the first one)")
	NoVariable(c, "app-dir", "output-path", "python")
	return c
}

// buildFile is the file for applications of import paths.
func buildFile(ctx context.Context, paths []string, dir, python string) ([]byte, error) {
	for _, path := range paths {
		switch {
		case strings.HasPrefix(path, build.Scheme):
			return nil, usage("%s: build is for modules of Python; write import_path: %s into the file, whose deployments have the options of the executable", path, path)
		case !importPath.MatchString(path):
			return nil, usage("%s: must be MODULE:APPLICATION, for example app:app", path)
		}
	}
	python, err := builder.Interpreter(python, os.Getenv)
	if err != nil {
		return nil, UsageError{err}
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	e := builder.Environment{Place: pyenv.Place{Interpreter: python, Dir: dir}, Dir: dir, Env: spec.WithoutReserved(os.Environ())}
	all, err := builder.Describe(ctx, e, paths, builder.Settings{Time: builder.Time, Line: func(text string) { fmt.Fprintln(os.Stderr, text) }})
	if err != nil {
		return nil, WithNext(err, "correct the module, or name its directory with --app-dir")
	}
	return config.Write(all)
}
