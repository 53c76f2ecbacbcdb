package commands

import (
	"os"

	"github.com/helve-serve/helve/internal/shown"
	"github.com/helve-serve/helve/internal/tracing"
	"github.com/spf13/cobra"
)

func tracingCommand(s Settings) *cobra.Command {
	r := newReader(s)
	c := tracing.Command(tracing.Settings{Dial: r.dial, Show: func(v any, text func() string) error { return shown.Print(os.Stdout, r.output, v, text) }})
	r.flags(c)
	NoVariable(c, "ratio", "slow", "reset")
	return c
}
