package commands

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/answer"
	"github.com/helve-serve/helve/internal/layout"
	"github.com/helve-serve/helve/internal/shown"
)

// drawnID is the form of the ids of requests that nodes draw.
var drawnID = regexp.MustCompile(`^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$`)

func whyCommand(s Settings) *cobra.Command {
	r := newReader(s)
	var revision int
	var id string
	var failed, slow, application bool
	c := &cobra.Command{
		Use: "why [APP[/DEPLOYMENT[/REPLICA]] | REQUEST-ID]", Short: "Say why an application, deployment, replica or request is as it is",
		Long: "Say why an application, a deployment or a replica is as it is, what will be tried next and when, and the events that have led there. With --revision\n" +
			"it says what has become of a revision of an application. With the id of a request it says why that has failed, or what took its time, with its\n" +
			"calls; the id is in the header X-Request-ID of the answer and in logs. A name without a slash is the id of a request that is kept or runs, else an\n" +
			"application. Without an argument it says what is wrong in the node now, the worst first.\n" +
			"With --failed or --slow it lists the requests that the node keeps.",
		ValidArgsFunction: r.complete(upReplica),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 && id == "" && drawnID.MatchString(args[0]) {
				id, args = args[0], nil
			}
			maybe := "" // the id of a request, or the name of an application
			if len(args) == 1 && id == "" && !application && revision == 0 && !failed && !slow && !strings.Contains(args[0], "/") {
				maybe = args[0]
			}
			list := len(args) == 0 && id == "" || failed || slow
			of, err := upReplica.one(c, args, list || id != "")
			switch {
			case err != nil:
				return err
			case failed && slow || id != "" && (list || len(args) > 0) || list && of.deployment != "":
				return usage("why takes one of these: an object, a request, --failed or --slow with an application or without")
			case revision < 0 || revision > 0 && (of.app == "" || of.deployment != "" || list):
				return usage("--revision: must be a number from 1, of an application")
			}
			node, err := r.dial(c.Context())
			if err != nil {
				return err
			}
			var all helvetype.Overview
			if overview := list && of.app == "" && !failed && !slow; overview {
				if all, err = node.Overview(c.Context()); err != nil {
					return err
				}
			}
			if list {
				l, err := node.Requests(c.Context(), of.app, map[bool]string{failed: helvetype.KeptFailed, slow: helvetype.KeptSlow}[true])
				if err != nil {
					return err
				}
				if all.Sentence != "" {
					both := struct {
						helvetype.Overview
						helvetype.RequestList
					}{all, l}
					return shown.Print(os.Stdout, r.output, both, func() string { return answer.Overview(all, l, layout.Width(os.Stdout)) })
				}
				return shown.Print(os.Stdout, r.output, l, func() string { return answer.Requests(l, layout.Width(os.Stdout)) })
			}
			if id != "" {
				t, err := node.Request(c.Context(), id)
				if err != nil {
					return err
				}
				return shown.Print(os.Stdout, r.output, t, func() string { return answer.Request(t, layout.Width(os.Stdout)) })
			}
			e, err := node.Explain(c.Context(), of.app, of.deployment, of.replica, revision)
			if maybe != "" {
				t, absent := node.Request(c.Context(), maybe)
				if absent == nil && (err != nil || t.Kept != "" || t.Running) {
					return shown.Print(os.Stdout, r.output, t, func() string {
						text := answer.Request(t, layout.Width(os.Stdout))
						if err == nil {
							text += fmt.Sprintf("\n%s is the name of an application too: helve why --application %[1]s\n", maybe)
						}
						return text
					})
				}
			}
			if err != nil {
				return err
			}
			return shown.Print(os.Stdout, r.output, e, func() string { return answer.Explanation(e, layout.Width(os.Stdout)) })
		},
	}
	r.flags(c)
	c.Flags().IntVar(&revision, "revision", 0, "explain the outcome of this revision")
	c.Flags().StringVar(&id, "request", "", "explain the request of this id, for an id that a client has chosen")
	c.Flags().BoolVar(&failed, "failed", false, "list the requests that have failed")
	c.Flags().BoolVar(&slow, "slow", false, "list the requests that were slow")
	c.Flags().BoolVar(&application, "application", false, "the argument is the name of an application, also if a request has it as its id")
	for _, flag := range []string{"revision", "request", "application", "failed", "slow"} {
		NoVariable(c, flag)
	}
	return c
}
