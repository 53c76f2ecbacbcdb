package cli

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/commands"
	"github.com/helve-serve/helve/internal/keeper"
	"github.com/helve-serve/helve/internal/worker"
)

// stopCommand is `helve stop`: the end of the service of a state directory.
func stopCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "stop", Short: "End a service that start runs, after its calls", Args: commands.NoArgs,
		Long: "End the service that `start` runs for a state directory, as SIGTERM does: calls that run end, and then the workers and the node. The command returns when\n" +
			"they have ended. The applications are in the state directory: the next `start` brings them back. `shutdown` deletes them.",
		RunE: func(c *cobra.Command, _ []string) error {
			if running := worker.DurableStates(""); dir == "" && !c.Flags().Changed("state-dir") && len(running) == 1 {
				dir = running[0]
			}
			state, err := stateDirOf(c, dir)
			if err != nil {
				return err
			}
			ctx, done := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer done()
			switch err := keeper.Stop(ctx, state); {
			case err != nil && ctx.Err() != nil:
				return commands.Interrupted(errors.New("interrupted: the service goes on to end"))
			case err != nil:
				return commands.Unreachable(err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "the service of %s has ended\n", state)
			return err
		},
	}
	c.Flags().StringVar(&dir, "state-dir", "", "directory of the node's state (default: that of the only service of this user that runs, else /var/lib/helve for root, else ~/.local/state/helve)")
	return c
}
