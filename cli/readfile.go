package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/config"
)

// readCommand is for the Python package, so that one reader has the rules of files: it reads a file of applications from the standard input, and writes it as JSON, or
// its mistakes as text.
func readCommand() *cobra.Command {
	return &cobra.Command{
		Use: "read-file NAME", Short: "Read a file of applications for the Python package", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			source, err := io.ReadAll(io.LimitReader(c.InOrStdin(), 64<<20)) // more is refused by the reader
			if err != nil {
				return err
			}
			file, err := config.Read(args[0], source)
			if err != nil {
				return usageError{err}
			}
			out, err := file.ForPython()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", out)
			return err
		},
	}
}
