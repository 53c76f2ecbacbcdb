package commands

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/layout"
)

func whyCommand(s Settings) *cobra.Command {
	r := newReader(s)
	var revision int
	c := &cobra.Command{
		Use: "why APP[/DEPLOYMENT[/REPLICA]]", Short: "Say why an application, deployment or replica is as it is",
		Long: "Say why an application, a deployment or a replica is as it is, what will be tried next and when, and the events that have led there. With --revision\n" +
			"it says what has become of a revision of an application.",
		ValidArgsFunction: r.complete(upReplica),
		RunE: func(c *cobra.Command, args []string) error {
			of, err := upReplica.one(c, args, false)
			if err != nil {
				return err
			}
			if revision < 0 || revision > 0 && of.deployment != "" {
				return usage("--revision: must be a number from 1, of an application")
			}
			node, err := r.dial(c.Context())
			if err != nil {
				return err
			}
			e, err := node.Explain(c.Context(), of.app, of.deployment, of.replica, revision)
			if err != nil {
				return err
			}
			return r.print(os.Stdout, e, func() string { return whyText(e, layout.Width(os.Stdout)) })
		},
	}
	r.flags(c)
	c.Flags().IntVar(&revision, "revision", 0, "explain the outcome of this revision")
	NoVariable(c, "revision")
	return c
}

// whyText is an explanation for people.
func whyText(e helvetype.Explanation, width int) string {
	var b strings.Builder
	layout.Paragraph(&b, "", "  ", e.Sentence, width)
	if e.Next != "" {
		layout.Paragraph(&b, "next: ", "  ", e.Next, width)
	}
	var rows [][]string
	for _, event := range e.Timeline {
		change := event.Reason
		if event.From != event.To && event.To != "" {
			change += " (" + event.To + ")"
		}
		if event.Message != "" {
			first, _, _ := strings.Cut(strings.TrimSpace(event.Message), "\n")
			change += ": " + first
		}
		rows = append(rows, []string{event.Time.Local().Format("15:04:05.000"), event.Object.String(), change})
	}
	if len(rows) > 0 {
		b.WriteString("\n")
		layout.Table(&b, "", width, []string{"TIME", "OBJECT", "EVENT"}, rows)
	}
	return b.String()
}
