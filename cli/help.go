package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/helve-serve/helve/internal/commands"
)

func asError[E error](err error, to *E) bool { return errors.As(err, to) }

// flagGroups are the flags of `run` by subject, in the order of its help. Flags of no group stand at the end.
var flagGroups = []struct { //nolint:gochecknoglobals // a constant
	title string
	flags []string
}{
	{"Python programs", []string{"name", "route-prefix", "app-dir", "reload", "reload-dir", "dry-run", "ray-compat"}},
	{"Applications in Go", []string{"isolation"}},
	{"State", []string{"state-dir", "recover", "node-watchdog", "worker-grace"}},
	{"Resources of the node", []string{"num-cpus", "memory", "resources", "labels"}},
	{"HTTP", []string{"http", "host", "port", "request-timeout", "http-root-path", "drain-delay", "trust-forwarded", "access-log"}},
	{"TLS", []string{"tls-certificate", "tls-key", "tls-key-password-file", "tls-client-ca"}},
	{"Operators", []string{"admin", "admin-cert", "admin-key", "log-format", "otlp-endpoint", "trace-ratio"}},
	{"Limits", []string{
		"http-connections", "http-streams", "http-memory", "http-max-body", "http-max-header", "http-header-timeout", "http-body-timeout", "http-stall-timeout",
		"http-idle-timeout", "max-body", "arena-size", "log-memory", "log-memory-deployment",
	}},
}

// exitCodes is the end of the help of the root.
func exitCodes() string {
	var b strings.Builder
	b.WriteString("Exit status:\n")
	for _, e := range commands.ExitStatuses() {
		fmt.Fprintf(&b, "  %-5d%s\n", e.Status, strings.ReplaceAll(e.Meaning, "`", ""))
	}
	b.WriteString("\nA flag is over its variable, which is over a file; variables are in brackets.")
	return b.String()
}

// group is one subject of a help text.
type group struct {
	title string
	flags []*pflag.Flag
}

// groupsOf are the flags of a command by subject.
func groupsOf(c *cobra.Command) []group {
	c.InitDefaultHelpFlag()
	in := map[string]int{}
	groups := make([]group, 0, len(flagGroups)+1)
	for i, g := range flagGroups {
		groups = append(groups, group{title: g.title})
		for _, name := range g.flags {
			in[name] = i + 1
			if f := c.Flags().Lookup(name); f != nil && !f.Hidden {
				groups[i].flags = append(groups[i].flags, f)
			}
		}
	}
	rest := group{title: "Other flags"}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if in[f.Name] == 0 && !f.Hidden {
			rest.flags = append(rest.flags, f)
		}
	})
	groups = append(groups, rest)
	if len(rest.flags) == 1 && !c.HasAvailableSubCommands() { // --help alone: a subject is no help for the few others
		var all []*pflag.Flag
		for _, g := range groups {
			all = append(all, g.flags...)
		}
		return []group{{rest.title, all}}
	}
	return groups
}

// usage is the text of a command's usage: its forms, its commands and its flags by subject, each with its variable.
func usage(c *cobra.Command) string {
	var b strings.Builder
	line := c.UseLine()
	if c.HasAvailableSubCommands() && !c.HasParent() {
		line = c.CommandPath() + " COMMAND [flags]"
	}
	fmt.Fprintf(&b, "Usage:\n  %s\n", line)
	if c.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", c.Example)
	}
	if c.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, "  %-12s%s\n", sub.Name(), sub.Short)
			}
		}
	}
	shown := 0
	for _, g := range groupsOf(c) {
		if len(g.flags) == 0 {
			continue
		}
		shown++
		set := pflag.NewFlagSet("", pflag.ContinueOnError)
		set.SortFlags = false
		for _, f := range g.flags {
			copied := *f
			if v := variable(f); v != "" {
				copied.Usage += " [" + v + "]"
			}
			set.AddFlag(&copied)
		}
		title := g.title
		if shown == 1 && title == "Other flags" {
			title = "Flags"
		}
		fmt.Fprintf(&b, "\n%s:\n%s", title, set.FlagUsagesWrapped(120))
	}
	if !c.HasParent() {
		fmt.Fprintf(&b, "\n%s\n", exitCodes())
	}
	return b.String()
}

// describe has the help of a command and its subcommands written by [usage].
func describe(root *cobra.Command) {
	root.SetUsageFunc(func(c *cobra.Command) error {
		_, err := fmt.Fprint(c.OutOrStdout(), usage(c))
		return err
	})
}
