package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/internal/dashboard"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/keeper"
	"github.com/helve-serve/helve/internal/layout"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/tables"
	"github.com/spf13/cobra"
)

func statusCommand(s Settings) *cobra.Command {
	r := newReader(s)
	var watch bool
	c := &cobra.Command{
		Use: "status [APP]", Short: "Show what a running node runs",
		Long: "Show the applications, deployments and replicas of a running node, or one application. With -w the table is drawn again whenever something changes. " +
			"Tasks and actors of programs for Ray Serve are shown with --all only.",
		ValidArgsFunction: r.complete(anApp),
		RunE: func(c *cobra.Command, args []string) error {
			of, err := anApp.one(c, args, true)
			if err != nil {
				return err
			}
			ctx, stop := interruptible(c.Context())
			defer stop()
			node, err := r.dial(ctx)
			if err != nil {
				return err
			}
			if watch {
				return r.watch(ctx, node, of.app)
			}
			return r.status(ctx, node, of.app, os.Stdout)
		},
	}
	r.flags(c)
	c.Flags().BoolVarP(&r.all, "all", "a", false, "show tasks and actors of programs for Ray Serve too")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on, and draw again whenever something changes")
	return c
}

const applicationsPath = "/api/v1/instance"

// status shows the status of an application, or of all where app is "".
func (r *reader) status(ctx context.Context, node *rest.Client, app string, out io.Writer) error {
	var raw json.RawMessage
	if err := node.Get(ctx, applicationsPath, nil, &raw); err != nil {
		return err
	}
	raw, err := without(raw, func(name string) bool {
		return app != "" && name != app || app == "" && !r.all && strings.HasPrefix(name, spec.HiddenApps)
	})
	if err != nil {
		return err
	}
	var in details.Instance
	if err := json.Unmarshal(raw, &in); err != nil {
		return err
	}
	if app != "" && len(in.Applications) == 0 {
		return r.known(ctx, node, app, "")
	}
	switch r.output {
	case "json":
		_, err = fmt.Fprintf(out, "%s\n", shown.JSON(bytes.TrimSpace(raw)))
		return err
	case "yaml":
		b, err := shown.YAML(raw)
		if err != nil {
			return err
		}
		_, err = out.Write(b)
		return err
	}
	about, err := node.About(ctx)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, shown.Safe(statusTable(about, keeperVersion(ctx, about), in, node.Curl("/calls"), time.Now(), layout.Width(os.Stdout))))
	return err
}

// without is the status in JSON without some applications. A status that has none of these stays as it is, with its order.
func without(raw json.RawMessage, drop func(name string) bool) (json.RawMessage, error) {
	var whole, apps map[string]json.RawMessage
	if err := json.Unmarshal(raw, &whole); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(whole["applications"], &apps); err != nil {
		return nil, err
	}
	n := len(apps)
	maps.DeleteFunc(apps, func(name string, _ json.RawMessage) bool { return drop(name) })
	if len(apps) == n {
		return raw, nil
	}
	var err error
	if whole["applications"], err = json.Marshal(apps); err != nil {
		return nil, err
	}
	return json.Marshal(whole)
}

// watch draws the status, and again after every event, until it is interrupted or the node has ended. Events that come together are
// one drawing, because the status is read after all of them. A terminal shows the newest drawing alone; elsewhere, for example in a file, each
// drawing has a line with its time above it.
func (r *reader) watch(ctx context.Context, node *rest.Client, app string) error {
	changed := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- node.Lines(ctx, "/events", url.Values{"follow": {"true"}, "limit": {"1"}}, func([]byte) error {
			select {
			case changed <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	again := time.NewTicker(watchTime) // counts and ages change without events
	defer again.Stop()
	for drawn := false; ; drawn = true {
		var text strings.Builder
		if err := r.status(ctx, node, app, &text); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if _, gone := errors.AsType[*rest.UnreachableError](err); gone && drawn {
				return rest.ErrEnded
			}
			return err
		}
		switch {
		case r.output == "yaml":
			fmt.Println("---")
		case r.output != "text":
		case terminal(os.Stdout):
			text.WriteString("\x1b[J") // clears the rest of the last drawing
			fmt.Print("\x1b[H\x1b[2J")
		default:
			fmt.Printf("--- %s\n", time.Now().Format(time.RFC3339))
		}
		fmt.Print(text.String())
		select {
		case <-changed:
		case <-again.C:
		case err := <-ended:
			if ctx.Err() != nil {
				return nil
			}
			if _, gone := errors.AsType[*rest.UnreachableError](err); gone { // the node has answered before, so it has ended
				return rest.ErrEnded
			}
			return err
		}
	}
}

// watchTime is after how long the status is drawn again although nothing has happened.
const watchTime = 2 * time.Second

func terminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// keeperTime is how long the keeper of a durable node may take to give its version.
const keeperTime = time.Second

// keeperVersion is the version of the keeper of a durable node; "" if there is none, or if it does not answer this user. The keeper is asked and not the
// node, because the program of the keeper may change while the node runs.
func keeperVersion(ctx context.Context, about rest.About) string {
	if about.State == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, keeperTime)
	defer cancel()
	s, err := keeper.StatusOf(ctx, about.State)
	if err != nil {
		return ""
	}
	return s.Version
}

// statusTable is the status for people. ofKeeper is the version of the node's keeper, "" for none; curl is a command line that reads the admin interface.
func statusTable(about rest.About, ofKeeper string, in details.Instance, curl string, now time.Time, width int) string {
	var b strings.Builder
	node := fmt.Sprintf("helve %s, pid %d, since %s", about.Version, about.PID, shown.Ago(now.Sub(about.StartedAt)))
	urls := about.URLs
	if len(urls) == 0 && about.HTTP != "" { // of a node before this version
		urls = []string{about.HTTP}
	}
	for _, url := range urls {
		node += ", " + url
	}
	if about.State != "" {
		node += ", durable: its state is in " + about.State
	}
	if ofKeeper != "" && ofKeeper != about.Version {
		node += ", its keeper is helve " + ofKeeper
	}
	if about.Draining {
		node += ", drains: it ends when its calls have ended"
	}
	layout.Paragraph(&b, "node: ", "  ", node, width)
	fmt.Fprintf(&b, "admin: %s\n", curl)
	for _, url := range about.Admin {
		if !strings.Contains(curl, url) {
			fmt.Fprintf(&b, "admin over TCP: %s\n", url)
		}
	}
	if len(about.Admin) > 0 && slices.Contains(about.Paths, dashboard.Root) {
		fmt.Fprintf(&b, "dashboard: %s\n", dashboard.Reachable(about.Admin[0])+dashboard.Root)
	}
	if text := tables.Resources(in.Resources); text != "" {
		layout.Paragraph(&b, "resources: ", "  ", text, width)
	}
	if c := in.TargetCapacity; c != nil && *c != 100 {
		layout.Paragraph(&b, "target capacity: ", "  ", fmt.Sprintf("%g %% of all numbers of replicas", *c), width)
	}
	if len(in.Applications) == 0 {
		b.WriteString("no application runs\n")
	}
	for _, name := range slices.Sorted(maps.Keys(in.Applications)) {
		tables.Application(&b, name, in.Applications[name], now, width)
	}
	return b.String()
}
