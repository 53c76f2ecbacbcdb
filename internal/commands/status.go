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
	"strconv"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/answer"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/keeper"
	"github.com/helve-serve/helve/internal/layout"
	"github.com/helve-serve/helve/internal/shown"
	"github.com/helve-serve/helve/internal/spec"
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
func (r *reader) status(ctx context.Context, node *admin.Client, app string, out io.Writer) error {
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
func (r *reader) watch(ctx context.Context, node *admin.Client, app string) error {
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
			if _, gone := errors.AsType[*admin.UnreachableError](err); gone && drawn {
				return admin.ErrEnded
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
			if _, gone := errors.AsType[*admin.UnreachableError](err); gone { // the node has answered before, so it has ended
				return admin.ErrEnded
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
func keeperVersion(ctx context.Context, about admin.About) string {
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
func statusTable(about admin.About, ofKeeper string, in details.Instance, curl string, now time.Time, width int) string {
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
	if c := in.TargetCapacity; c != nil && *c != 100 {
		layout.Paragraph(&b, "target capacity: ", "  ", fmt.Sprintf("%g %% of all numbers of replicas", *c), width)
	}
	if len(in.Applications) == 0 {
		b.WriteString("no application runs\n")
	}
	for _, name := range slices.Sorted(maps.Keys(in.Applications)) {
		appTable(&b, name, in.Applications[name], now, width)
	}
	return b.String()
}

// appTable writes the status of one application for people.
func appTable(b *strings.Builder, name string, app details.AppDetails, now time.Time, width int) {
	route := ""
	if app.RoutePrefix != nil {
		route = "   route " + *app.RoutePrefix
	}
	runs := fmt.Sprintf("revision %d, deployed", app.Revision)
	if app.Revision == 0 && app.FailedDeploy != nil {
		runs = "never deployed, failed"
	}
	fmt.Fprintf(b, "\napplication %s   %s   %s %s ago%s\n", name, app.Status, runs, shown.Ago(now.Sub(at(app.LastDeployedTimeS))), route)
	told := tracebacks{}
	message(b, "  ", "  ", told.once(app.Message), width)
	if app.FailedDeploy != nil {
		layout.Paragraph(b, "  next: ", "    ", "helve why "+name+" has the whole error; correct the code or the file, and deploy it again", width)
	}
	if app.Rollout != nil {
		answer.Rollout(b, app.Rollout, now, width)
	}
	var rows [][]string
	columns := []string{"DEPLOYMENT", "STATUS", "REPLICAS", "QUEUED", "RUNNING", "CALLS", "ERRORS"}
	rejects := slices.ContainsFunc(app.InOrder(), func(d details.DeploymentDetails) bool { return d.Calls.Rejected > 0 })
	if rejects { // few applications have a limit
		columns = append(columns, "REJECTED")
	}
	for _, d := range app.InOrder() {
		ready := 0
		for _, rep := range d.Replicas {
			if rep.State == helvetype.ReplicaRunning {
				ready++
			}
		}
		replicas := fmt.Sprintf("%d/%d", ready, d.TargetNumReplicas)
		if d.Stopping > 0 {
			replicas += fmt.Sprintf(" (%d stopping)", d.Stopping)
		}
		rows = append(rows, []string{d.Name, string(d.Status), replicas, fmt.Sprint(d.Calls.Queued), fmt.Sprint(d.Calls.Running), fmt.Sprint(d.Calls.Total), fmt.Sprint(d.Calls.Errors)})
		if rejects {
			rows[len(rows)-1] = append(rows[len(rows)-1], fmt.Sprint(d.Calls.Rejected))
		}
	}
	if len(rows) == 0 {
		return
	}
	layout.Table(b, "  ", width, columns, rows)
	for _, d := range app.InOrder() {
		message(b, "  "+d.Name+": ", "    ", told.once(d.Message), width)
	}
	rows = nil
	for _, d := range app.InOrder() {
		for _, rep := range d.Replicas {
			said := answer.OfRevision(rep.Revision, app.Rollout, note(rep, now))
			rows = append(rows, []string{rep.ReplicaID, string(rep.State), pidOf(rep), shown.Ago(now.Sub(at(rep.StartTimeS))), strconv.Itoa(rep.Restarts), said})
		}
	}
	if len(rows) > 0 {
		layout.Table(b, "  ", width, []string{"REPLICA", "STATE", "PID", "AGE", "RESTARTS", ""}, rows)
	}
}

// tracebacks are those that a text has already.
type tracebacks map[string]bool

// once is a message without its traceback if the text has that already. For example, an application fails because its deployment Ranker does, and both messages have the
// traceback of the constructor.
func (all tracebacks) once(text string) string {
	i := strings.Index(text, "Traceback (most recent call last):")
	if i < 0 {
		return text
	}
	if trace := strings.TrimSpace(text[i:]); !all[trace] {
		all[trace] = true
		return text
	}
	return strings.TrimSpace(text[:i])
}

// message writes the first lines of a message: the first line after begin, the others after indent.
func message(b *strings.Builder, begin, indent, text string, width int) {
	const most = 10
	if text == "" {
		return
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		if i == most {
			fmt.Fprintf(b, "%s... (%d more lines, see -o json)\n", indent, len(lines)-most)
			return
		}
		layout.Paragraph(b, begin, indent, line, width)
		begin = indent
	}
}

func pidOf(r details.ReplicaDetails) string {
	switch {
	case r.InNode:
		return "(node)"
	case r.PID == nil:
		return "-"
	}
	return strconv.Itoa(*r.PID)
}

// note is the last column of a replica: its trouble, the wait of its start, its drain, or the end of the replica before it.
func note(r details.ReplicaDetails, now time.Time) string {
	switch {
	case r.Unresponsive != nil:
		return "does not answer since " + shown.Ago(now.Sub(r.Unresponsive.Since))
	case r.Ejected != nil:
		return answer.Condition("gets no calls", r.Ejected, now)
	case r.NotReady != nil && r.NotReady.Kept != "":
		return answer.Condition("kept ("+r.NotReady.Kept+"), not ready", r.NotReady, now)
	case r.NotReady != nil:
		return answer.Condition("is not ready", r.NotReady, now)
	case r.Waits != nil:
		return fmt.Sprintf("waits for %s, since %s", r.Waits.For, shown.Ago(now.Sub(r.Waits.Since)))
	case r.State == helvetype.ReplicaStopping:
		return "finishes its calls"
	case r.LastExit != nil:
		first, _, _ := strings.Cut(r.LastExit.Reason, "\n")
		return fmt.Sprintf("%s ended: %s", r.LastExit.Replica, first)
	}
	return ""
}

func at(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1000)) }
