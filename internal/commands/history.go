package commands

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/answer"
	"github.com/helve-serve/helve/internal/layout"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
)

func historyCommand(s Settings) *cobra.Command {
	r := newReader(s)
	c := &cobra.Command{
		Use: "history APP", Short: "Show the revisions of an application",
		Long:              "Show the revisions of an application that are kept, the newest first: when, by whom and from which file, and what has become of each.",
		ValidArgsFunction: r.complete(anApp),
		RunE: func(c *cobra.Command, args []string) error {
			of, err := anApp.one(c, args, false)
			if err != nil {
				return err
			}
			node, err := r.dial(c.Context())
			if err != nil {
				return err
			}
			h, err := node.History(c.Context(), of.app)
			if err != nil {
				return err
			}
			return shown.Print(os.Stdout, r.output, h, func() string { return answer.History(h, layout.Width(os.Stdout)) })
		},
	}
	r.flags(c)
	return c
}

func rollbackCommand(s Settings) *cobra.Command {
	r := newReader(s)
	var dry, wait bool
	var message string
	c := &cobra.Command{
		Use: "rollback APP [REVISION]", Short: "Deploy a former revision of an application again",
		Long: "Deploy a former revision of an application again, as a new revision: its code, arguments and options. Without REVISION it is the one before the present\n" +
			"one; after a deploy that went back by itself it is the one that serves, which starts no replica. Numbers of replicas that were set with helve scale stay.",
		ValidArgsFunction: r.completeRevision,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usage("rollback takes an application, and the number of a revision: helve history APP lists them")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			of, err := anApp.parse(args[0])
			if err != nil {
				return err
			}
			revision := 0
			if len(args) > 1 {
				if revision, err = strconv.Atoi(args[1]); err != nil || revision < 1 {
					return usage("revision %q: must be a number from 1; %s history %s lists them", args[1], r.program, of.app)
				}
			}
			ctx, stop := interruptible(c.Context())
			defer stop()
			node, err := r.dial(ctx)
			if err != nil {
				return err
			}
			if dry {
				plan, err := node.PlanRollback(ctx, of.app, revision)
				if err != nil {
					return err
				}
				return r.printPlan(plan)
			}
			return r.revise(ctx, node, of.app, "", wait, func(ctx context.Context) (helvetype.Outcome, error) {
				return node.Rollback(ctx, of.app, revision, message)
			})
		},
	}
	r.flags(c)
	c.Flags().BoolVar(&dry, "dry-run", false, "show what would change, and change nothing")
	c.Flags().BoolVar(&wait, "wait", false, "wait until the application runs or has failed")
	c.Flags().StringVarP(&message, "message", "m", "", "a note for the history")
	NoVariable(c, "dry-run", "wait", "message")
	return c
}

// completeRevision gives the names of applications to a shell, and then the numbers of the revisions that are kept.
func (r *reader) completeRevision(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return r.complete(anApp)(c, args, typed)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), completeTime)
	defer cancel()
	var all []string
	if node, err := r.dial(ctx); err == nil {
		if h, err := node.History(ctx, args[0]); err == nil {
			for _, e := range h.Revisions {
				all = append(all, cobra.CompletionWithDesc(strconv.Itoa(e.Number), strings.TrimSpace(e.State+" "+e.Message)))
			}
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// revise asks for a change that makes a new revision of an application, or changes one deployment of it ("" for more), waits for it where that is wanted, and shows its outcome.
func (r *reader) revise(ctx context.Context, node *rest.Client, app, deployment string, wait bool, do func(context.Context) (helvetype.Outcome, error)) error {
	var outcome helvetype.Outcome
	err := r.during(ctx, node, wait, func(ctx context.Context) (err error) {
		if outcome, err = do(ctx); err == nil && wait && outcome.Error == "" {
			outcome, err = settled(ctx, node, app, deployment, outcome)
		}
		return err
	})
	if err != nil {
		return err
	}
	all := map[string]helvetype.Outcome{app: outcome}
	err = shown.Print(os.Stdout, r.output, outcome, func() string {
		return outcomeText(helvetype.ApplyAnswer{Applications: all, Warnings: outcome.Warnings}, wait, r.program, layout.Width(os.Stdout))
	})
	if err != nil {
		return err
	}
	return failed(all, r.program)
}

// settleTime is after how long a revision that starts is looked at again.
const settleTime = 300 * time.Millisecond

// roomTime is how long a replica may wait for room on the node: another replica that stops may make the room.
const roomTime = 10 * time.Second

// settled waits until the revision of an outcome runs, and the deployment ("" for all of the application) has its replicas, or until one of them has failed: the outcome has the error then.
func settled(ctx context.Context, node *rest.Client, app, deployment string, of helvetype.Outcome) (helvetype.Outcome, error) {
	again := time.NewTicker(settleTime)
	defer again.Stop()
	short := time.Now() // the last time at which no replica waited for room
	for {
		h, err := node.History(ctx, app)
		if err != nil {
			return of, err
		}
		i := slices.IndexFunc(h.Revisions, func(e helvetype.RevisionEntry) bool { return e.Number == of.Revision })
		if i < 0 {
			of.Error, of.Code = fmt.Sprintf("revision %d is no longer kept", of.Revision), helvetype.CodeUnknown
			return of, nil
		}
		e := h.Revisions[i]
		switch e.State {
		case "retired": // it ran, and another change came
			return of, nil
		case "running":
			over, failed, err := node.Scaled(ctx, app, deployment)
			if over || failed == "" {
				short = time.Now()
			}
			if over || err != nil || time.Since(short) > roomTime {
				if of.Error = failed; failed != "" {
					of.Code = helvetype.CodeUnknown
				}
				return of, err
			}
		case "failed", "superseded", "paused":
			of.Error, of.Code = strings.TrimSpace(e.State+": "+e.Reason), helvetype.CodeUnknown
			if e.State == "superseded" {
				of.Code = helvetype.CodeAborted
			}
			return of, nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return of, context.Cause(ctx)
		}
	}
}
