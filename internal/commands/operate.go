package commands

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
)

// change is a command that asks for a change and prints one line.
func (r *reader) change(p parts, use, short, long string, do func(ctx context.Context, node *rest.Client, of object) (said string, err error)) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Long: long, ValidArgsFunction: r.complete(p),
		RunE: func(c *cobra.Command, args []string) error {
			of, err := p.one(c, args, false)
			if err != nil {
				return err
			}
			node, err := r.dial(c.Context())
			if err != nil {
				return err
			}
			said, err := do(c.Context(), node, of)
			if err != nil {
				return err
			}
			return shown.Print(os.Stdout, r.output, map[string]string{"object": of.String(), "message": said}, func() string { return said + "\n" })
		},
	}
	r.flags(c)
	return c
}

func scaleCommand(s Settings) *cobra.Command {
	r := newReader(s)
	var message string
	c := &cobra.Command{
		Use: "scale APP/DEPLOYMENT REPLICAS", Short: "Set the number of replicas of a deployment",
		Long: "Set the number of replicas of a deployment. The number stays until a file changes its own num_replicas: a deploy of the same file does not take it back,\n" +
			"and helve plan shows both numbers.",
		ValidArgsFunction: r.complete(aDeployment),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usage("scale takes a deployment and a number, for example shop/Ranker 3")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			of, err := aDeployment.parse(args[0])
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return usage("%q is no whole number: scale takes the number of replicas, for example %s 3", args[1], of)
			}
			if n < 0 {
				return usage("%q: the number of replicas must be at least 0", args[1])
			}
			node, err := r.dial(c.Context())
			if err != nil {
				return err
			}
			if err := node.Scale(c.Context(), of.app, of.deployment, n, message); err != nil {
				return err
			}
			said := fmt.Sprintf("%s wants %s", of, several(n, "replica"))
			return shown.Print(os.Stdout, r.output, map[string]any{"object": of.String(), "replicas": n, "message": said}, func() string { return said + "\n" })
		},
	}
	r.flags(c)
	c.Flags().StringVarP(&message, "message", "m", "", "a note, which helve plan shows")
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { // -1 has the form of a flag
		if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok && unicode.IsDigit([]rune(unknown.GetSpecifiedName() + " ")[0]) {
			return usage("-%s: the number of replicas must be at least 0", unknown.GetSpecifiedShortnames())
		}
		return c.Parent().FlagErrorFunc()(c, err)
	})
	NoVariable(c, "message")
	return c
}

func several(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func restartCommand(s Settings) *cobra.Command {
	r := newReader(s)
	return r.change(upReplica, "restart APP[/DEPLOYMENT[/REPLICA]]", "Replace replicas by new ones of the same revision",
		"Replace the replicas of an application or a deployment by new ones of the same revision, a few at a time: the budgets of rollouts hold. One replica that is\n"+
			"named is replaced alone.",
		func(ctx context.Context, node *rest.Client, of object) (string, error) {
			return fmt.Sprintf("%s restarts; follow it with %s status -w", of, r.program), node.Restart(ctx, of.app, of.deployment, of.replica)
		})
}

func pauseCommand(s Settings) *cobra.Command {
	r := newReader(s)
	return r.change(anApp, "pause APP", "Stop the rollout of an application where it is",
		"Stop the rollout of an application where it is: replicas of both revisions serve, and those that die are replaced.",
		func(ctx context.Context, node *rest.Client, of object) (string, error) {
			return fmt.Sprintf("the rollout of %s is paused; %s resume %s goes on", of, r.program, of), node.Pause(ctx, of.app)
		})
}

func resumeCommand(s Settings) *cobra.Command {
	r := newReader(s)
	return r.change(anApp, "resume APP", "Go on with the rollout of an application", "Go on with a rollout that was paused, or that waits between two steps.",
		func(ctx context.Context, node *rest.Client, of object) (string, error) {
			return node.Resume(ctx, of.app)
		})
}

func deleteCommand(s Settings) *cobra.Command {
	r := newReader(s)
	return r.change(anApp, "delete APP", "Delete an application", "Delete an application: its calls that run are finished, its history goes with it.",
		func(ctx context.Context, node *rest.Client, of object) (string, error) {
			return fmt.Sprintf("%s is being deleted", of), node.Delete(ctx, of.app)
		})
}

func shutdownCommand(s Settings) *cobra.Command {
	r := newReader(s)
	var yes bool
	c := &cobra.Command{
		Use: "shutdown", Short: "Delete all applications", Args: NoArgs,
		Long: "Delete all applications of a node, with their histories. Their calls that run are finished. The node itself goes on without applications: helve stop ends\n" +
			"a service of helve start, and Ctrl-C or SIGTERM a program. The command asks first; --yes, or y on the standard input, is the answer.",
		Example: "  helve shutdown --yes\n  helve shutdown --yes --address https://node-1:8265",
		RunE: func(c *cobra.Command, _ []string) error {
			node, err := r.dial(c.Context())
			if err != nil {
				return err
			}
			if err := confirm(c, yes, "Delete all applications of "+node.Address()+"?"); err != nil {
				return err
			}
			if err := node.Shutdown(c.Context()); err != nil {
				return err
			}
			const said = "all applications are being deleted"
			return shown.Print(os.Stdout, r.output, map[string]string{"message": said}, func() string { return said + "\n" })
		},
	}
	r.flags(c)
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	NoVariable(c, "yes")
	return c
}

// confirm asks the user for a yes on the standard input, which may be a pipe, as in `echo y | helve shutdown`. A script may give --yes.
func confirm(c *cobra.Command, yes bool, question string) error {
	if yes {
		return nil
	}
	fmt.Fprint(os.Stderr, question+" [y/N] ")
	answer, err := bufio.NewReader(c.InOrStdin()).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	switch {
	case answer == "y" || answer == "yes":
		return nil
	case err != nil && answer == "": // the end of the input
		fmt.Fprintln(os.Stderr)
		return usage("nothing was done: the question has no answer; add --yes")
	}
	return coded{exitFailed, errors.New("nothing was done: the answer was not y")}
}
