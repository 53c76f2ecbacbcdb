package commands

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/profiling"
	"github.com/helve-serve/helve/internal/rest"
)

func profileCommand(s Settings) *cobra.Command {
	r := newReader(s)
	c := profiling.Command(profiling.Settings{Program: s.Program, Terminal: terminal, Dial: func(ctx context.Context) (*rest.Client, error) {
		r.output = "text"
		return r.dial(ctx)
	}})
	c.ValidArgsFunction = r.complete(parts{3, 3})
	NoVariable(c, "cpu", "heap", "stacks", "block", "seconds", "svg", "output")
	r.nodeFlags(c)
	return c
}
