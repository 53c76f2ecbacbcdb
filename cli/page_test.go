package cli

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/commands"
)

var update = flag.Bool("update", false, "write the tables of docs/command.md")

const page = "../docs/command.md"

// TestCommandPage: the tables of docs/command.md have every command and flag with its variable.
func TestCommandPage(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), "<!-- flags: go test ./cli -run TestCommandPage -update -->\n")
	_, after, end := strings.Cut(rest, "<!-- end of flags -->")
	if !ok || !end {
		t.Fatal("the page has no place for the tables")
	}
	want := before + "<!-- flags: go test ./cli -run TestCommandPage -update -->\n" + tables() + "<!-- end of flags -->" + after
	before, rest, ok = strings.Cut(want, "<!-- exit statuses -->\n")
	_, after, end = strings.Cut(rest, "<!-- end of exit statuses -->")
	if !ok || !end {
		t.Fatal("the page has no place for the exit statuses")
	}
	want = before + "<!-- exit statuses -->\n" + statuses() + "<!-- end of exit statuses -->" + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if want != string(b) {
		t.Errorf("%s is not as the help; run go test ./cli -run TestCommandPage -update", page)
	}
}

// below are the commands below one, each followed by its own.
func below(c *cobra.Command) (all []*cobra.Command) {
	for _, sub := range c.Commands() {
		all = append(append(all, sub), below(sub)...)
	}
	return all
}

// tables are the flags of all commands.
func tables() string {
	var b strings.Builder
	for _, c := range below(command(nil)) {
		if c.Hidden || c.DisableFlagParsing || c.Name() == "help" || c.Name() == "completion" || c.Name() == "version" {
			continue
		}
		fmt.Fprintf(&b, "\n### helve %s\n\n%s.\n", strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" "), c.Short)
		for _, g := range groupsOf(c) {
			if len(g.flags) == 0 {
				continue
			}
			if c.Name() == "run" {
				fmt.Fprintf(&b, "\n**%s**\n", g.title)
			}
			b.WriteString("\n| flag | variable | |\n|---|---|---|\n")
			for _, f := range g.flags {
				name := "`--" + f.Name + "`"
				if f.Shorthand != "" {
					name = "`-" + f.Shorthand + "`, " + name
				}
				v := variable(f)
				if v != "" {
					v = "`" + v + "`"
				}
				fmt.Fprintf(&b, "| %s | %s | %s |\n", name, v, strings.ReplaceAll(f.Usage, "|", `\|`))
			}
		}
	}
	return b.String() + "\n"
}

// statuses is the table of exit statuses.
func statuses() string {
	var b strings.Builder
	b.WriteString("\n| exit status | |\n|---|---|\n")
	for _, e := range commands.ExitStatuses() {
		fmt.Fprintf(&b, "| %d | %s |\n", e.Status, e.Meaning)
	}
	return b.String() + "\n"
}
