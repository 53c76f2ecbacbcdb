package commands

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
)

func dumpCommand(s Settings) *cobra.Command {
	r := newReader(s)
	var file string
	c := &cobra.Command{
		Use: "dump", Short: "Write a support bundle of a node into a file", Args: NoArgs,
		Long: "Write a support bundle of a node into a file, for an engineer who cannot ask the node: a tar.gz with its status, configurations, histories, events, kept\n" +
			"requests, calls, metrics, the stacks of its goroutines, its newest log lines and its versions. Secrets are hidden. The file must not be there.",
		RunE: func(c *cobra.Command, _ []string) error {
			r.output = "text"
			node, err := r.dial(c.Context())
			if err != nil {
				return err
			}
			if file == "" {
				file = "helve-dump-" + time.Now().UTC().Format("20060102-150405") + ".tar.gz"
			}
			out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return UsageError{fmt.Errorf("--output: %w", err)}
			}
			if err := errors.Join(node.Copy(c.Context(), "/api/v1/dump", out), out.Close()); err != nil {
				os.Remove(file)
				return err
			}
			fmt.Println("wrote " + file)
			return nil
		},
	}
	r.nodeFlags(c)
	c.Flags().StringVarP(&file, "output", "o", "", "file to write (default: helve-dump-TIME.tar.gz in this directory)")
	NoVariable(c, "output")
	return c
}
