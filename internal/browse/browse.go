// Package browse is the command helve dashboard: it prints the address of the dashboard of a node, with a token that signs its reader in, and opens it in a
// browser.
//
// The token is in the fragment of the address, behind #, which a browser sends to no server; the page takes it out of the address at once. For example,
// http://127.0.0.1:8265/ui/#token=helve_x becomes http://127.0.0.1:8265/ui/ in the tab and in the history of the browser.
package browse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/attach"
	"github.com/helve-serve/helve/internal/dashboard"
	"github.com/helve-serve/helve/internal/rest"
)

// Settings are the arguments of [Command].
type Settings struct {
	// Dial finds the node of the flags.
	Dial func(ctx context.Context) (*rest.Client, error)
	// Access has the token and the authorities of the flags.
	Access func() rest.Access
	// Show writes a value in the form that the flags name, with text for people.
	Show func(v any, text func() string) error
}

// Address is the answer of the command.
type Address struct {
	// URL has the token in its fragment, if there is one.
	URL string `json:"url"`
	// Name is the name of the token; "" without one.
	Name string `json:"name"`
	// Role is the role of the token; read without one, over the loopback interface.
	Role helvetype.Role `json:"role"`
}

// Command makes the command. Its caller adds the flags that name the node.
func Command(s Settings) *cobra.Command {
	var open, plain bool
	c := &cobra.Command{
		Use: "dashboard", Short: "Print the address of the dashboard of a node, and open it",
		Long: "Print the address of the dashboard of a node: a page with its applications, charts, requests, events and logs, and with buttons for operators. The address has a token,\n" +
			"which the page keeps until its tab is closed: hand it on to no one. Without a token the page only reads.",
		Example: "  helve dashboard --open\n  helve dashboard --no-token\n  helve dashboard --address https://node-1:8265 --token $TOKEN",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			node, err := s.Dial(c.Context())
			if err != nil {
				return err
			}
			access := s.Access()
			if plain {
				access = rest.Access{CA: access.CA}
			}
			at, err := find(c.Context(), node, access, plain)
			if err != nil {
				return err
			}
			if err := s.Show(at, func() string { return at.URL + "\n" }); err != nil || !open {
				return err
			}
			return newBrowser().open(c.Context(), at)
		},
	}
	c.Flags().BoolVar(&open, "open", false, "open the address in the browser of this user: that of $BROWSER, else the default one")
	c.Flags().BoolVar(&plain, "no-token", false, "without a token, for a page that only reads")
	return c
}

// find is the address of the dashboard of a node, with the first token that the node knows: that of the access, else one in the files of this user.
func find(ctx context.Context, node *rest.Client, access rest.Access, plain bool) (at Address, err error) {
	about, err := node.About(ctx)
	if err != nil {
		return at, err
	}
	base := node.URL()
	switch {
	case !slices.Contains(about.Paths, dashboard.Root):
		return at, &helvetype.OperationError{Code: helvetype.CodeUnimplemented, Message: "the node is helve " + about.Version + ", which has no dashboard", Next: "helve upgrade gives a durable node the version of this command"}
	case base == "" && len(about.Admin) == 0:
		return at, &helvetype.OperationError{
			Code: helvetype.CodeFailedPrecondition, Message: "the admin interface of the node is on its socket alone, which no browser reaches", Next: "start the node with --admin 127.0.0.1:8265",
		}
	case base == "":
		base = about.Admin[0]
	}
	base = dashboard.Reachable(base)
	at = Address{URL: base + dashboard.Root, Role: helvetype.RoleRead}
	tokens := []string{access.Token}
	if access.Token == "" && !plain {
		tokens = attach.Tokens(base)()
	}
	for _, token := range tokens {
		if token == "" {
			continue
		}
		c, err := rest.Open(base, rest.Access{Token: token, CA: access.CA})
		if err != nil {
			return at, err
		}
		who, err := c.Who(ctx)
		if refused, ok := errors.AsType[*helvetype.OperationError](err); ok && (access.Token != "" || refused.Code == helvetype.CodeUnauthenticated) {
			if access.Token != "" {
				return at, err
			}
			continue
		} // else the node is known by its files, and its certificate need not be known to this command
		at.Name, at.Role = who.Name, who.Role
		at.URL += "#token=" + url.QueryEscape(token)
		break
	}
	return at, nil
}

// browser starts the browser of a user.
type browser struct {
	// command is the program with its arguments; the address comes behind them.
	command []string
	// reads is how long a browser may take to read a file after its program has ended.
	reads time.Duration
}

// readTime is how long a browser may take to read the file of an address.
const readTime = 10 * time.Second

// newBrowser has the program of $BROWSER, else that of the system.
func newBrowser() browser {
	program := "xdg-open"
	if runtime.GOOS == "darwin" {
		program = "open"
	}
	first, _, _ := strings.Cut(os.Getenv("BROWSER"), ":")
	return browser{command: strings.Fields(cmp.Or(strings.TrimSpace(first), program)), reads: readTime}
}

// open opens an address. Each user of the machine sees the arguments of a process, so the browser gets a file of this user that leads to an address with a token.
func (b browser) open(ctx context.Context, at Address) error {
	target := at.URL
	if strings.Contains(target, "#") {
		dir, err := os.MkdirTemp("", "helve-dashboard-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		target = filepath.Join(dir, "dashboard.html")
		page := `<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0; url=` + html.EscapeString(at.URL) + `"><title>Helve</title>`
		if err := os.WriteFile(target, []byte(page), 0o600); err != nil {
			return err
		}
	}
	c := exec.CommandContext(ctx, b.command[0], append(b.command[1:], target)...)
	if out, err := c.CombinedOutput(); err != nil {
		return &helvetype.OperationError{
			Code: helvetype.CodeUnavailable, Message: fmt.Sprintf("%s opens no browser: %s", b.command[0], cmp.Or(strings.TrimSpace(string(out)), err.Error())),
			Next: "open the address in a browser, or name one with $BROWSER",
		}
	}
	if target != at.URL {
		read := time.NewTimer(b.reads)
		defer read.Stop()
		select {
		case <-read.C:
		case <-ctx.Done():
		}
	}
	return nil
}
