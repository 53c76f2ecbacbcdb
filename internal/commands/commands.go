// Package commands is the part of the command line that asks a node that runs: its status, events and calls, and the operations of its operators.
// Each command is one question to the admin interface of the node; the answer is text for people, or JSON or YAML with the types of package helvetype.
package commands

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/helve-serve/helve/internal/attach"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/worker"
	"github.com/spf13/cobra"
)

// Settings are the arguments of [New].
type Settings struct {
	// Program is the name of the executable, for commands that errors name.
	Program string
	// Applications are the names of the applications that the executable contains.
	Applications []string
}

// New makes the commands.
func New(s Settings) []*cobra.Command {
	return []*cobra.Command{
		deployCommand(s), planCommand(s), statusCommand(s), configCommand(s), historyCommand(s), rollbackCommand(s), scaleCommand(s), setCommand(s),
		restartCommand(s), pauseCommand(s), resumeCommand(s), logsCommand(s), eventsCommand(s), profileCommand(s), whyCommand(s), callsCommand(s), dumpCommand(s), deleteCommand(s),
		shutdownCommand(s), dashboardCommand(s), auditCommand(s), tokenCommand(s), tracingCommand(s), schemaCommand(), buildCommand(), autoscaleCommand(s),
	}
}

// reader is a command that asks a running node.
type reader struct {
	address string
	token   string
	ca      string
	output  string
	all     bool   // with the applications that are tasks and actors
	start   string // a way to start a node, for a user who has none
	program string
}

// newReader makes a reader of an executable.
func newReader(s Settings) *reader {
	r := &reader{program: s.Program, start: strconv.Quote(s.Program + " run")}
	switch len(s.Applications) {
	case 0:
		r.start = strconv.Quote(s.Program+" run PROGRAM") + " (in Python app:app or script.py, in Go exec:PATH of an executable that contains an application)"
	case 1:
	default:
		r.start = strconv.Quote(s.Program + " run " + s.Applications[0])
	}
	return r
}

func (r *reader) flags(c *cobra.Command) {
	r.nodeFlags(c)
	c.Flags().StringVarP(&r.output, "output", "o", "text", "text, json or yaml")
	c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp)) //nolint:errcheck // the flag is there
}

// nodeFlags adds the flags that name a node.
func (r *reader) nodeFlags(c *cobra.Command) {
	c.Flags().StringVar(&r.address, "address", "", "admin address of the node, such as 127.0.0.1:8265 or https://node-1:8265, or its state directory, or the path of its socket (default: the node of HELVE_NODE, else the only one of this user)")
	c.Flags().StringVar(&r.token, "token", "", "token for a node at an address (default: that of a node of this user on this machine)")
	c.Flags().StringVar(&r.ca, "ca", "", "file of the authorities that the certificate of a node at https:// must be from")
}

// dial finds the node: the one at the address, else the one of HELVE_NODE, else the only durable one, else the only one of this user.
func (r *reader) dial(ctx context.Context) (*rest.Client, error) {
	if !slices.Contains([]string{"text", "json", "yaml"}, r.output) {
		return nil, usage("--output %q: must be text, json or yaml", r.output)
	}
	if st, err := os.Stat(r.address); r.address == "" || err == nil && st.IsDir() {
		socket, err := attach.AdminSocket(r.address)
		if err != nil {
			return nil, coded{exitUnreachable, err}
		}
		if socket != "" {
			return rest.Dial(socket)
		}
	}
	if r.address != "" {
		c, err := rest.Open(r.address, rest.Access{Token: r.token, CA: r.ca, Tokens: attach.Tokens(r.address)})
		if err != nil {
			return nil, UsageError{fmt.Errorf("--%w", err)}
		}
		return c, nil
	}
	sockets := worker.AdminSockets("")
	switch len(sockets) {
	case 0:
		return nil, coded{exitUnreachable, fmt.Errorf("no node of this user runs here: start one with %s, or give --address of one that runs elsewhere "+
			"(nodes are looked for in $%s, else in $TMPDIR or /tmp; it must be the same for both)\n"+
			"next: a durable node that has ended comes back with its applications: %s start --state-dir DIR", r.start, worker.RuntimeDirEnv, r.program)}
	case 1:
		return rest.Dial(sockets[0])
	}
	return nil, usage("%d nodes of this user run here, choose one:\n%s", len(sockets), NodeTable(ctx, sockets))
}

// NodeTable has a line for each node of some admin sockets: its address for commands, its process, and its applications.
func NodeTable(ctx context.Context, sockets []string) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	for _, socket := range sockets {
		line := "it does not answer"
		if c, err := rest.Dial(socket); err == nil {
			if a, err := c.About(ctx); err == nil {
				a.Applications = slices.DeleteFunc(a.Applications, func(name string) bool { return strings.HasPrefix(name, spec.HiddenApps) })
				line = fmt.Sprintf("pid %d\t%s\tsince %s\t%s", a.PID, cmp.Or(strings.Join(a.Applications, ", "), "no application"), shown.Ago(time.Since(a.StartedAt)), a.HTTP)
			}
		}
		fmt.Fprintf(w, "  --address %s\t%s\n", socket, line)
	}
	w.Flush()
	return strings.TrimRight(text.String(), "\n")
}

// known gives an error if the node has no application of the name, or no deployment of the name in it. An empty name is none in particular.
func (r *reader) known(ctx context.Context, node *rest.Client, app, deployment string) error {
	if app == "" && deployment == "" {
		return nil
	}
	var in details.Instance
	if err := node.Get(ctx, applicationsPath, nil, &in); err != nil {
		return err
	}
	apps := slices.Sorted(maps.Keys(in.Applications))
	if app != "" {
		if !slices.Contains(apps, app) {
			return coded{exitNotFound, fmt.Errorf("no application %q is running; there is %s\nnext: %s status lists the applications", app, cmp.Or(strings.Join(apps, ", "), "none"), r.program)}
		}
		apps = []string{app}
	}
	var deployments []string
	for _, name := range apps {
		deployments = append(deployments, slices.Sorted(maps.Keys(in.Applications[name].Deployments))...)
	}
	if deployment != "" && !slices.Contains(deployments, deployment) {
		return coded{exitNotFound, fmt.Errorf("no deployment %q is running; there is %s\nnext: %s status lists the deployments", deployment, cmp.Or(strings.Join(deployments, ", "), "none"), r.program)}
	}
	return nil
}

// interruptible gives a context that ends with SIGINT and SIGTERM, which is no failure of a command that follows.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// NoArgs gives an error for a command line with arguments, which the command does not take.
func NoArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%s takes no arguments, got %s", c.Name(), strings.Join(args, " "))
	}
	return nil
}
