package commands

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/layout"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
	"github.com/spf13/cobra"
)

const tokensPath = "/api/v1/tokens"

// tokenCommand is `helve token`: the tokens of a node.
func tokenCommand(s Settings) *cobra.Command {
	c := &cobra.Command{
		Use: "token COMMAND", Short: "Make, list and remove tokens of a node", SuggestionsMinimumDistance: 2,
		Long: "Make, list and remove the tokens with which programs and people on other machines ask a node. The node keeps a digest of each alone: the text of a token is\n" +
			"shown once, when it is made.",
	}
	c.AddCommand(tokenAdd(s), tokenList(s), tokenRemove(s))
	return c
}

func tokenAdd(s Settings) *cobra.Command {
	r := newReader(s)
	role := string(helvetype.RoleRead)
	c := &cobra.Command{
		Use: "add NAME", Short: "Make a token, and print it",
		Long: "Make a token, and print it: it cannot be shown again. The role read may look at everything; operate may scale, restart, pause and roll back too; deploy may\n" +
			"do everything, and run code on the node. The name is in the history and the audit log.",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("token add takes a name, for example ci")
			}
			node, err := r.dial(c.Context())
			if err != nil {
				return err
			}
			var made rest.NewToken
			if err := node.Do(c.Context(), http.MethodPost, tokensPath, nil, map[string]string{"name": args[0], "role": role}, &made); err != nil {
				return err
			}
			return shown.Print(os.Stdout, r.output, made, func() string { return made.Token + "\n" })
		},
	}
	r.flags(c)
	c.Flags().StringVar(&role, "role", role, "read, operate or deploy")
	NoVariable(c, "role")
	c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"read", "operate", "deploy"}, cobra.ShellCompDirectiveNoFileComp)) //nolint:errcheck // the flag is there
	return c
}

func tokenList(s Settings) *cobra.Command {
	r := newReader(s)
	c := &cobra.Command{
		Use: "list", Short: "List the tokens, without their texts", Args: NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			node, err := r.dial(c.Context())
			if err != nil {
				return err
			}
			var list rest.TokenList
			if err := node.Get(c.Context(), tokensPath, nil, &list); err != nil {
				return err
			}
			return shown.Print(os.Stdout, r.output, list.Tokens, func() string {
				var b strings.Builder
				var rows [][]string
				for _, t := range list.Tokens {
					rows = append(rows, []string{t.Name, string(t.Role), t.CreatedAt.Local().Format("2006-01-02 15:04:05")})
				}
				layout.Table(&b, "", layout.Width(os.Stdout), []string{"NAME", "ROLE", "MADE"}, rows)
				return b.String()
			})
		},
	}
	r.flags(c)
	return c
}

func tokenRemove(s Settings) *cobra.Command {
	r := newReader(s)
	c := &cobra.Command{
		Use: "remove NAME", Short: "Remove a token: it is refused from then on",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("token remove takes a name; %s token list has them", s.Program)
			}
			node, err := r.dial(c.Context())
			if err != nil {
				return err
			}
			if err := node.Do(c.Context(), http.MethodDelete, tokensPath+"/"+url.PathEscape(args[0]), nil, nil, nil); err != nil {
				return err
			}
			said := fmt.Sprintf("the token %s is removed", args[0])
			return shown.Print(os.Stdout, r.output, map[string]string{"message": said}, func() string { return said + "\n" })
		},
	}
	r.flags(c)
	return c
}
