package commands

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/tracing"
)

func tracingCommand(s Settings) *cobra.Command {
	r := newReader(s)
	c := tracing.Command(tracing.Settings{Dial: r.dial, Show: func(v any, text func() string) error { return r.print(os.Stdout, v, text) }})
	r.flags(c)
	NoVariable(c, "ratio", "slow", "reset")
	return c
}
