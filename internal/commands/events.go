package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/answer"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
)

func eventsCommand(s Settings) *cobra.Command {
	r := newReader(s)
	var follow bool
	var limit int
	var app, deployment string
	c := &cobra.Command{
		Use: "events [APP[/DEPLOYMENT]]", Short: "Show what has happened in a running node", ValidArgsFunction: r.complete(upDeployment),
		Long: "Show the newest transitions of applications, deployments and replicas, the oldest first, each with its reason and the event that\n" +
			"caused it. With -f the command goes on with those to come. -o json is a line of JSON per event.",
		RunE: func(c *cobra.Command, args []string) error {
			if err := filter(c, args, &app, &deployment); err != nil {
				return err
			}
			if limit < 1 {
				return usage("--limit %d: must be at least 1", limit)
			}
			ctx, stop := interruptible(c.Context())
			defer stop()
			node, err := r.dial(ctx)
			if err != nil {
				return err
			}
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			for name, value := range map[string]string{"app": app, "deployment": deployment} {
				if value != "" {
					query.Set(name, value)
				}
			}
			if !follow {
				var list rest.EventList
				if err := node.Get(ctx, "/events", query, &list); err != nil {
					return err
				}
				if len(list.Events) == 0 { // an application that is gone may have some
					return r.known(ctx, node, app, deployment)
				}
				for _, e := range list.Events {
					if err := r.event(os.Stdout, e); err != nil {
						return err
					}
				}
				return nil
			}
			query.Set("follow", "true")
			err = node.Lines(ctx, "/events", query, func(line []byte) error {
				var e struct {
					helvetype.Event
					rest.Missed
				}
				if err := json.Unmarshal(line, &e); err != nil {
					return fmt.Errorf("the node's line %q: %w", line, err)
				}
				if e.Missed.Missed > 0 {
					fmt.Fprintf(os.Stderr, "%d events were missed here\n", e.Missed.Missed)
					return nil
				}
				return r.event(os.Stdout, e.Event)
			})
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
	r.flags(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with the events to come")
	c.Flags().IntVarP(&limit, "limit", "n", 100, "how many of the newest events are shown")
	c.Flags().StringVar(&app, "app", "", "only events of this application")
	c.Flags().StringVar(&deployment, "deployment", "", "only events of this deployment and its replicas")
	r.completeNames(c)
	return c
}

// filter sets the filters of a command from its argument, which may stand in place of its flags.
func filter(c *cobra.Command, args []string, app, deployment *string) error {
	of, err := upDeployment.one(c, args, true)
	if err != nil || len(args) == 0 {
		return err
	}
	if *app != "" || *deployment != "" {
		return usage("%s: give %s or the flags --app and --deployment", c.Name(), upDeployment.forms())
	}
	*app, *deployment = of.app, of.deployment
	return nil
}

// event writes one event.
func (r *reader) event(w io.Writer, e helvetype.Event) error {
	return shown.Line(w, r.output, e, func() string { return answer.Event(e) })
}
