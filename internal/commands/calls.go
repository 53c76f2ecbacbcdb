package commands

import (
	"net/url"
	"os"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/answer"
	"github.com/helve-serve/helve/internal/shown"
	"github.com/spf13/cobra"
)

func callsCommand(s Settings) *cobra.Command {
	r := newReader(s)
	var app, deployment string
	c := &cobra.Command{
		Use: "calls [APP[/DEPLOYMENT]]", Short: "Show the calls that wait and run in a running node", ValidArgsFunction: r.complete(upDeployment),
		Long: "Show the calls that wait and run in a running node, the oldest first, and the reason of each wait. A call that runs on the\n" +
			"goroutine of its caller is only counted.",
		RunE: func(c *cobra.Command, args []string) error {
			if err := filter(c, args, &app, &deployment); err != nil {
				return err
			}
			ctx, stop := interruptible(c.Context())
			defer stop()
			node, err := r.dial(ctx)
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, value := range map[string]string{"app": app, "deployment": deployment} {
				if value != "" {
					query.Set(name, value)
				}
			}
			var list helvetype.CallList
			if err := node.Get(ctx, "/calls", query, &list); err != nil {
				return err
			}
			if len(list.Calls) == 0 && list.Unlisted == 0 {
				if err := r.known(ctx, node, app, deployment); err != nil {
					return err
				}
			}
			return shown.Print(os.Stdout, r.output, list, func() string { return answer.Calls(list, time.Now()) })
		},
	}
	r.flags(c)
	c.Flags().StringVar(&app, "app", "", "only calls to this application")
	c.Flags().StringVar(&deployment, "deployment", "", "only calls to this deployment")
	r.completeNames(c)
	return c
}
