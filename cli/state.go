package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/store/disk"
	"github.com/helve-serve/helve/internal/worker"
)

// stateCommand is `helve state`: the state directory of a node as one file.
func stateCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "state COMMAND", Short: "Copy the state of a node into one file, or back", SuggestionsMinimumDistance: 2,
		Long: "Copy the state of a node that was started with `start` into one file, or back: applications with their revisions, numbers of replicas,\n" +
			"settings, and all code. The file has the environment variables of the applications too: keep it as you keep those.",
	}
	c.AddCommand(
		stateCopy("export FILE", "Write the state of a node into a file",
			"Write the state of a node into a file. The node may run: the file is of one moment. A file that is there is replaced, in one step.",
			func(ctx context.Context, dir, file string) (string, error) {
				s, err := disk.Export(ctx, dir, file)
				return fmt.Sprintf("wrote %s to %s", described(s), file), err
			}),
		stateCopy("import FILE", "Make a state directory of a file",
			"Make a state directory of a file that `state export` has written, on this machine or another. The directory must be new, or without\n"+
				"applications ever: start --recover FILE puts a file in the place of a state that is there.",
			func(ctx context.Context, dir, file string) (string, error) {
				if err := disk.CheckExport(file); err != nil { // before the directory is made
					return "", err
				}
				mark, err := worker.Claim(dir)
				if err != nil {
					return "", fmt.Errorf("--state-dir: %w", err)
				}
				defer mark.Close()
				s, err := disk.Import(ctx, dir, file)
				return fmt.Sprintf("wrote %s to %s", described(s), dir), err
			}))
	return c
}

// stateCopy is a command that copies between the state directory and a file, and prints a line.
func stateCopy(use, short, long string, do func(ctx context.Context, dir, file string) (string, error)) *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("%s takes one file", c.CommandPath())}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			from, err := stateDirOf(c, dir)
			if err != nil {
				return err
			}
			line, err := do(c.Context(), from, args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), line)
			return err
		},
	}
	c.Flags().StringVar(&dir, "state-dir", "", "directory of the node's state (default /var/lib/helve for root, else ~/.local/state/helve)")
	return c
}

// described says what an export has.
func described(s disk.Summary) string {
	return fmt.Sprintf("%s with %s and %s", several(s.Applications, "application"), several(s.Records, "record"), several(s.Blobs, "blob"))
}

func several(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// recovered says what a recovery has done.
func recovered(s disk.Summary, file string) string {
	line := fmt.Sprintf("the state is that of %s: %s", file, described(s))
	if s.Before != "" {
		line += "; the state before is kept in " + s.Before
	}
	return line
}
