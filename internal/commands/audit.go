package commands

import (
	"net/url"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/answer"
	"github.com/helve-serve/helve/internal/config"
	"github.com/helve-serve/helve/internal/layout"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
)

func auditCommand(s Settings) *cobra.Command {
	r := newReader(s)
	limit := 100
	c := &cobra.Command{
		Use: "audit", Short: "Show the changes of a running node, and who has asked for them", Args: NoArgs,
		Long: "Show the newest changes that people and programs have asked a node for, the oldest first, also those that were refused.",
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 {
				return usage("--limit %d: must be at least 1", limit)
			}
			node, err := r.dial(c.Context())
			if err != nil {
				return err
			}
			var list rest.AuditList
			if err := node.Get(c.Context(), "/api/v1/audit", url.Values{"limit": {strconv.Itoa(limit)}}, &list); err != nil {
				return err
			}
			return shown.Print(os.Stdout, r.output, list.Entries, func() string { return answer.Audit(list.Entries, layout.Width(os.Stdout)) })
		},
	}
	r.flags(c)
	c.Flags().IntVarP(&limit, "limit", "n", limit, "how many of the newest changes are shown")
	NoVariable(c, "limit")
	return c
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of files, for editors", Args: NoArgs,
		Long: "Print the JSON Schema of the files that deploy takes. An editor with a language server for YAML completes and checks with it a file that begins with\n" +
			"# yaml-language-server: $schema=helve.schema.json",
		RunE: func(*cobra.Command, []string) error {
			_, err := os.Stdout.Write(config.Schema())
			return err
		},
	}
}
