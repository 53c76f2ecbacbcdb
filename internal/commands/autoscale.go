package commands

import (
	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/simulation"
)

func autoscaleCommand(s Settings) *cobra.Command {
	c := simulation.Command(s.Program)
	for _, sub := range c.Commands() {
		NoVariables(sub)
	}
	return c
}
