package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
	"github.com/spf13/cobra"
)

func logsCommand(s Settings) *cobra.Command {
	r := newReader(s)
	var follow, access bool
	var tail int
	filters := map[string]*string{"replica": new(""), "request": new(""), "level": new(""), "since": new(""), "until": new(""), "text": new("")}
	c := &cobra.Command{
		Use: "logs [APP[/DEPLOYMENT]]", Short: "Show what replicas have logged and printed",
		Long: "Show the newest lines that replicas have logged and printed, also those that are gone, and those of the node itself, the oldest first: the time, the level,\n" +
			"the replica, and the request for which the line was written. The node keeps a bounded number of lines of each replica, and forgets them when it ends.\n" +
			"With -f the command goes on with the lines to come.",
		Example: "  helve logs shop --level warn --since 10m       what went wrong in the last ten minutes\n" +
			"  helve logs --request 5f0c4f0e-8f6a-4d1e-9f0b-2f6f8a1f7c55   all lines of one request, of all its deployments",
		ValidArgsFunction: r.complete(upDeployment),
		RunE: func(c *cobra.Command, args []string) error {
			of, err := upDeployment.one(c, args, true)
			if err != nil {
				return err
			}
			if tail < 0 {
				return usage("--tail %d: must be at least 0", tail)
			}
			ctx, stop := interruptible(c.Context())
			defer stop()
			node, err := r.dial(ctx)
			if err != nil {
				return err
			}
			query := url.Values{}
			filters["app"], filters["deployment"] = &of.app, &of.deployment
			for name, value := range filters {
				if *value != "" {
					query.Set(name, *value)
				}
			}
			if tail > 0 || c.Flags().Changed("tail") {
				query.Set("tail", strconv.Itoa(tail))
			}
			if access {
				query.Set("access", "true")
			}
			if follow {
				query.Set("follow", "true")
				return r.followLogs(ctx, node, query)
			}
			var list struct {
				Lines  []helvetype.LogLine `json:"lines"`
				Missed uint64              `json:"missed"`
			}
			if err := node.Get(ctx, "/api/v1/logs", query, &list); err != nil {
				return err
			}
			for _, line := range list.Lines {
				if err := r.logLine(line); err != nil {
					return err
				}
			}
			return nil
		},
	}
	r.flags(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with the lines to come")
	c.Flags().BoolVar(&access, "access", false, "the access log of HTTP, a line per request, in place of the lines of replicas")
	c.Flags().IntVarP(&tail, "tail", "n", 0, "only so many of the newest lines (default all that are kept)")
	for name, about := range map[string]string{
		"replica": "only lines of this replica, for example Ranker#003", "request": "only lines of the request with this id",
		"level": "only lines of this level and above: debug, info, warn or error", "text": "only lines with this text in the message or in the value of an attribute",
		"since": "only lines since this time, or since so long ago, such as 10m", "until": "only lines until then, as --since",
	} {
		c.Flags().StringVar(filters[name], name, "", about)
	}
	NoVariable(c, "access", "follow", "tail", "replica", "request", "level", "text", "since", "until")
	c.RegisterFlagCompletionFunc("replica", func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) { //nolint:errcheck // the flag is there
		return r.replicas(c, args), cobra.ShellCompDirectiveNoFileComp
	})
	return c
}

// replicas are the ids of the replicas of an application or a deployment, or of all, for a shell.
func (r *reader) replicas(c *cobra.Command, args []string) (ids []string) {
	var of object
	if len(args) > 0 {
		of, _ = upDeployment.parse(args[0])
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), completeTime)
	defer cancel()
	for _, name := range r.names(ctx, parts{3, 3}) {
		if o, err := upReplica.parse(name); err == nil && (of.app == "" || of.app == o.app) && (of.deployment == "" || of.deployment == o.deployment) {
			ids = append(ids, o.replica)
		}
	}
	return ids
}

// followLogs shows lines until the command is interrupted or the node has ended.
func (r *reader) followLogs(ctx context.Context, node *rest.Client, query url.Values) error {
	err := node.Lines(ctx, "/api/v1/logs", query, func(text []byte) error {
		var line struct {
			helvetype.LogLine
			rest.Missed
		}
		if err := json.Unmarshal(text, &line); err != nil {
			return fmt.Errorf("the node's line %q: %w", text, err)
		}
		if line.Missed.Missed > 0 {
			fmt.Fprintf(os.Stderr, "%d lines were missed here\n", line.Missed.Missed)
		}
		if line.Time.IsZero() {
			return nil
		}
		return r.logLine(line.LogLine)
	})
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (r *reader) logLine(line helvetype.LogLine) error {
	if r.output != "text" {
		return shown.Line(os.Stdout, r.output, line, nil)
	}
	_, err := os.Stdout.Write(logs.Show(&line, terminal(os.Stdout))) // the colours of a line stay on a terminal
	return err
}
