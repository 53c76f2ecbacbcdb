package commands

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/helvetype"
)

func callsCommand(s Settings) *cobra.Command {
	r := newReader(s)
	var app, deployment string
	c := &cobra.Command{
		Use: "calls", Short: "Show the calls that wait and run in a running node", Args: NoArgs,
		Long: "Show the calls that wait and run in a running node, the oldest first, and the reason of each wait. A call that runs on the\n" +
			"goroutine of its caller is only counted.",
		RunE: func(c *cobra.Command, _ []string) error {
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
			var raw json.RawMessage
			if err := node.Get(ctx, "/calls", query, &raw); err != nil {
				return err
			}
			var list helvetype.CallList
			if err := json.Unmarshal(raw, &list); err != nil {
				return err
			}
			if len(list.Calls) == 0 && list.Unlisted == 0 {
				if err := r.known(ctx, node, app, deployment); err != nil {
					return err
				}
			}
			if r.output == "json" {
				fmt.Fprintf(os.Stdout, "%s\n", raw)
				return nil
			}
			fmt.Print(CallTable(list, time.Now()))
			return nil
		},
	}
	r.flags(c)
	c.Flags().StringVar(&app, "app", "", "only calls to this application")
	c.Flags().StringVar(&deployment, "deployment", "", "only calls to this deployment")
	return c
}

// CallTable is a list of calls for people.
func CallTable(list helvetype.CallList, now time.Time) string {
	var b strings.Builder
	if len(list.Calls) > 0 {
		w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
		fmt.Fprintln(w, "AGE\tSTATE\tMETHOD\tREPLICA\tORIGIN\tREQUEST\tWAITS FOR")
		for _, c := range list.Calls {
			fmt.Fprintf(w, "%s\t%s\t%s/%s.%s\t%s\t%s\t%s\t%s\n", ago(now.Sub(c.Since)), c.State, c.App, c.Deployment, cmp.Or(c.Method, "(default)"),
				cmp.Or(c.Replica, "-"), cmp.Or(c.Origin, "-"), c.RequestID, cmp.Or(c.WaitsFor, "-"))
		}
		w.Flush()
	}
	switch {
	case list.Unlisted > 0:
		fmt.Fprintf(&b, "%d more calls wait or run\n", list.Unlisted)
	case len(list.Calls) == 0:
		b.WriteString("no call waits or runs\n")
	}
	return b.String()
}
