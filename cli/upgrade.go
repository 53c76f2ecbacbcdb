package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/commands"
	"github.com/helve-serve/helve/internal/keeper"
)

// upgradeCommand is `helve upgrade`: the service of a state directory changes to another executable while it serves.
func upgradeCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "upgrade [BINARY]", Short: "Change the executable of a running service", Args: cobra.MaximumNArgs(1),
		Long: "Change the service that `start` runs to another executable, this one if none is named, while it serves. The new node starts beside the old one and\n" +
			"takes its sockets and workers; calls that run go on and end under the old one, all others go to the new. Replicas and their models stay. An\n" +
			"executable that does not start changes nothing.",
		RunE: func(c *cobra.Command, args []string) error {
			state, err := stateDirOf(c, dir)
			if err != nil {
				return err
			}
			path, err := os.Executable()
			if len(args) > 0 {
				path, err = filepath.Abs(args[0])
			}
			if err != nil {
				return err
			}
			text, err := versionOf(c.Context(), path)
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			fmt.Fprintf(out, "%s: %s\n", path, text)
			if err := keeper.UpgradeTo(c.Context(), state, path, func(step string) { fmt.Fprintln(out, step) }); err != nil {
				return err
			}
			fmt.Fprintf(out, "the service of %s has changed\n", state)
			return nil
		},
	}
	c.Flags().StringVar(&dir, "state-dir", "", "directory of the node's state (default /var/lib/helve for root, else ~/.local/state/helve)")
	return c
}

// versionTime is how long an executable may take to print its version.
const versionTime = 10 * time.Second

// versionOf asks an executable for its version, before a service changes to it.
func versionOf(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTime)
	defer cancel()
	command := exec.CommandContext(ctx, path, "version")
	command.WaitDelay = time.Second // a child of a script may hold the output open
	out, err := command.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err == nil && !strings.Contains(text, "helve ") {
		err = errors.New("it is not a program of Helve")
	}
	if err != nil {
		return "", commands.UsageError{Err: errors.New(strings.TrimSuffix(fmt.Sprintf("%s version: %v: %s", path, err, text), ": "))}
	}
	return text, nil
}
