package commands

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/browse"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
)

func dashboardCommand(s Settings) *cobra.Command {
	r := newReader(s)
	c := browse.Command(browse.Settings{
		Dial: r.dial, Access: func() rest.Access { return rest.Access{Token: r.token, CA: r.ca} }, Show: func(v any, text func() string) error { return shown.Print(os.Stdout, r.output, v, text) },
	})
	c.Args = NoArgs
	r.flags(c)
	NoVariable(c, "open", "no-token")
	return c
}
