package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/attach"
	"github.com/helve-serve/helve/internal/commands"
	"github.com/helve-serve/helve/internal/keeper"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/worker"
)

// stopCommand is `helve stop`: the end of the service of a state directory.
func stopCommand() *cobra.Command {
	var dir, address, ca string
	c := &cobra.Command{
		Use: "stop", Short: "End a service that start runs, after its calls", Args: commands.NoArgs,
		Long: "End the service that `start` runs for a state directory or at an address, as SIGTERM does: calls that run end, and then the workers and the node. The command returns when\n" +
			"they have ended. The applications are in the state directory: the next `start` brings them back. `shutdown` deletes them.",
		RunE: func(c *cobra.Command, _ []string) error {
			given, at := onLine(c, "state-dir"), onLine(c, "address")
			switch running := worker.DurableStates(""); {
			case given && at:
				return usageError{errors.New("--state-dir and --address: give one of them")}
			case address != "" && !given:
				var err error
				if dir, err = stateAt(c.Context(), address, ca, running); err != nil {
					return err
				}
			case dir == "" && !c.Flags().Changed("state-dir") && len(running) == 1:
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
	c.Flags().StringVar(&address, "address", "", "admin address of the node whose service ends, such as 127.0.0.1:8265, or its state directory, or the path of its socket; the service must run on this machine (default: the service of --state-dir)")
	c.Flags().StringVar(&ca, "ca", "", "file of the authorities that the certificate of a node at https:// must be from")
	c.Flags().StringVar(&dir, "state-dir", "", "directory of the node's state (default: that of the only service of this user that runs, else /var/lib/helve for root, else ~/.local/state/helve)")
	return c
}

// onLine says that a flag is on the command line: its variable is weaker than another flag there.
func onLine(c *cobra.Command, name string) bool {
	f := c.Flags().Lookup(name)
	return f.Changed && f.Annotations[fromVariable] == nil
}

// stateAt is the state directory of the node at an address. running are the directories of the services that run on this machine: another service cannot be ended from here.
func stateAt(ctx context.Context, address, ca string, running []string) (string, error) {
	if st, err := os.Stat(address); err == nil && st.IsDir() {
		return address, nil
	}
	node, err := rest.Open(address, rest.Access{CA: ca, Tokens: attach.Tokens(address)})
	if err != nil {
		return "", usageError{fmt.Errorf("--%w", err)}
	}
	defer node.Close()
	about, err := node.About(ctx)
	switch {
	case err != nil:
		return "", err
	case about.State == "":
		return "", usageError{fmt.Errorf("--address %s: the node there is that of a program, and ends with it: stop ends a service that start runs", address)}
	case !slices.Contains(running, about.State):
		return "", usageError{fmt.Errorf("--address %s: its service does not run on this machine, or is of another user (its state directory is %s): give stop there", address, about.State)}
	}
	return about.State, nil
}
