package commands

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/answer"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
	"github.com/helve-serve/helve/internal/tables"
)

// progress shows what a node does while a command waits for it. On a terminal it draws the applications that change, with the step that each
// replica waits for, and takes the drawing away at the end. Elsewhere, for example in the log of a script, it writes a line for each event, and one for each wait of a rollout
// that an operator can end.
type progress struct {
	node     *rest.Client
	out      io.Writer
	terminal bool
	width    int
	program  string
	drawn    int             // lines on the terminal
	said     map[string]bool // the lines about waits that were written
	waits    string          // an application whose rollout waits or is paused; "" for none
}

// progressTime is after how long the drawing is made again without an event.
const progressTime = time.Second

// show goes on until ctx ends. It closes ready when the events from then on are shown. A node that cannot be followed is shown no more; the request that
// waits says why.
func (p *progress) show(ctx context.Context, ready chan<- struct{}) {
	var newest rest.EventList
	err := p.node.Get(ctx, "/events", url.Values{"limit": {"1"}}, &newest)
	close(ready)
	if err != nil {
		return
	}
	changed := make(chan struct{}, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		query := url.Values{"follow": {"true"}, "after": {fmt.Sprint(newest.Next)}}
		p.node.Lines(ctx, "/events", query, func(line []byte) error { //nolint:errcheck // the request that waits has the error
			var e helvetype.Event
			if !p.terminal && json.Unmarshal(line, &e) == nil && e.ID > 0 && progresses(e) {
				fmt.Fprintln(p.out, shown.Safe(answer.Event(e)))
			}
			select {
			case changed <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	defer func() { <-ended }()
	defer func() { p.draw("") }()
	again := time.NewTicker(progressTime)
	defer again.Stop()
	for {
		in, err := p.node.Instance(ctx)
		if err != nil {
			return
		}
		var lines []string
		lines, p.waits = waitTexts(in, p.program)
		if p.terminal {
			p.draw(progressText(in, time.Now(), p.width))
		} else {
			p.say(lines)
		}
		select {
		case <-changed:
		case <-again.C:
		case <-ended:
			return
		}
	}
}

// progresses says that a line for the event helps. A state that stays has another message every few seconds, so its events are left out, but for the facts that later events have as their cause.
// For example, "UPSCALING (because of #26)" comes behind #26, the decision of the autoscaler with its reason.
func progresses(e helvetype.Event) bool {
	switch e.Reason {
	case "autoscale_up", "autoscale_down", "rolled_back", "restart_requested":
		return true
	}
	return e.From != e.To
}

// say writes each line once.
func (p *progress) say(lines []string) {
	for _, line := range lines {
		if !p.said[line] {
			if p.said == nil {
				p.said = map[string]bool{}
			}
			p.said[line] = true
			fmt.Fprintln(p.out, shown.Safe(line))
		}
	}
}

// waitTexts has the line of [answer.RolloutWait] for each application whose rollout waits, and the name of the first one.
func waitTexts(in details.Instance, program string) (lines []string, first string) {
	for _, name := range slices.Sorted(maps.Keys(in.Applications)) {
		if line := answer.RolloutWait(name, in.Applications[name].Rollout, program); line != "" {
			lines, first = append(lines, line), cmp.Or(first, name)
		}
	}
	return lines, first
}

// draw replaces the last drawing.
func (p *progress) draw(text string) {
	if p.drawn > 0 {
		fmt.Fprintf(p.out, "\x1b[%dA\x1b[J", p.drawn)
	}
	io.WriteString(p.out, text) //nolint:errcheck // a terminal
	p.drawn = strings.Count(text, "\n")
}

// progressText has the applications that are not as they should be, with each replica that waits. It has at most twenty lines, so that it fits a terminal.
func progressText(in details.Instance, now time.Time, width int) string {
	const most = 20
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(in.Applications)) {
		app := in.Applications[name]
		var below []string
		for _, d := range app.InOrder() {
			running := 0
			var waits []string
			for _, rep := range d.Replicas {
				if rep.State == helvetype.ReplicaRunning {
					running++
					continue
				}
				text := "    " + rep.ReplicaID + " " + string(rep.State)
				if n := tables.Note(rep, now); n != "" {
					text += ": " + n
				}
				waits = append(waits, text)
			}
			if d.Status != helvetype.DeploymentHealthy || len(waits) > 0 {
				below = append(append(below, fmt.Sprintf("  %s %s, %d replicas run, %d wanted", d.Name, d.Status, running, d.TargetNumReplicas)), waits...)
			}
		}
		if app.Status != helvetype.ApplicationRunning || app.Rollout != nil || len(below) > 0 {
			lines = append(lines, fmt.Sprintf("%s %s, revision %d", name, app.Status, app.Revision))
			if app.Rollout != nil {
				var text strings.Builder
				answer.Rollout(&text, app.Rollout, now, width)
				lines = append(lines, strings.Split(strings.TrimRight(text.String(), "\n"), "\n")...)
			}
			lines = append(lines, below...)
		}
	}
	if len(lines) > most {
		lines = append(lines[:most-1], fmt.Sprintf("... and %d more lines", len(lines)-most+1))
	}
	for i, line := range lines {
		lines[i] = shown.Safe(line)
		if text := []rune(lines[i]); len(text) >= width { // a line that wraps would be drawn over
			lines[i] = string(text[:width-1])
		}
	}
	if len(lines) == 0 {
		return "waiting for the node\n"
	}
	return strings.Join(lines, "\n") + "\n"
}
