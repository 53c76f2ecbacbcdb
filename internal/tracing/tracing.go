// Package tracing is the command helve tracing: it shows and changes which requests of a node are sampled.
package tracing

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
)

// Settings are the arguments of [Command].
type Settings struct {
	// Dial finds the node of the flags.
	Dial func(ctx context.Context) (*rest.Client, error)
	// Show writes a value in the form that the flags name, with text for people.
	Show func(v any, text func() string) error
}

// Command makes the command. Its caller adds the flags that name the node.
func Command(s Settings) *cobra.Command {
	var ratio float64
	var slow time.Duration
	var reset bool
	c := &cobra.Command{
		Use: "tracing", Short: "Show or change which requests of a running node are sampled",
		Long: "Show which part of the requests is sampled, from which time on a request is slow, and where spans go. With a flag, change that for the requests to come, without a restart.\n" +
			"A durable node keeps the change; a file with a tracing_config, and --reset, are over it.",
		Example: "  helve tracing --ratio 1           sample all requests\n" +
			"  helve tracing --slow 200ms        keep requests that take 200 ms or more\n" +
			"  helve tracing --reset             as the node was started",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("tracing takes no arguments: it is of the whole node; --ratio %s sets the part of the requests", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error {
			change, err := changeOf(c, ratio, slow, reset)
			if err != nil {
				return err
			}
			node, err := s.Dial(c.Context())
			if err != nil {
				return err
			}
			t, err := node.Tracing(c.Context(), change)
			if err != nil {
				return err
			}
			return s.Show(t, func() string { return Text(t) })
		},
	}
	c.Flags().Float64Var(&ratio, "ratio", 0, "the part of the requests that are sampled, 0 to 1")
	c.Flags().DurationVar(&slow, "slow", 0, "the time from which on a request is slow and kept, such as 200ms; 0 for none")
	c.Flags().BoolVar(&reset, "reset", false, "the ratio, the time and the receiver with which the node was started")
	return c
}

// usage is the mistake of a user in a flag or an argument.
func usage(format string, args ...any) error {
	return &helvetype.OperationError{Code: helvetype.CodeInvalidArgument, Message: fmt.Sprintf(format, args...)}
}

// changeOf is the change that the flags ask for; nil for none.
func changeOf(c *cobra.Command, ratio float64, slow time.Duration, reset bool) (*helvetype.TracingChange, error) {
	change := helvetype.TracingChange{Reset: reset}
	if c.Flags().Changed("ratio") {
		if !(ratio >= 0 && ratio <= 1) { // also NaN
			return nil, usage("--ratio %v: must be from 0 to 1", ratio)
		}
		change.Ratio = &ratio
	}
	if c.Flags().Changed("slow") {
		if slow < 0 {
			return nil, usage("--slow %s: must be at least 0", slow)
		}
		change.SlowFrom = new(slow.Seconds())
	}
	switch {
	case reset && (change.Ratio != nil || change.SlowFrom != nil):
		return nil, usage("--reset: must be alone: it drops all changes")
	case change == helvetype.TracingChange{}:
		return nil, nil //nolint:nilnil // nothing is to change
	}
	return &change, nil
}

// Text is the tracing of a node for people.
func Text(t helvetype.Tracing) string {
	sampled := strconv.FormatFloat(100*t.Ratio, 'g', 4, 64) + " % of the requests whose client does not say it"
	if t.Ratio == 0 {
		sampled = "only requests whose client says so"
	}
	slow := "none"
	if t.SlowFrom > 0 {
		slow = "requests of " + time.Duration(t.SlowFrom*float64(time.Second)).String() + " or more"
	}
	receiver := "none (--otlp-endpoint, or a file with a tracing_config)"
	if t.Endpoint != "" {
		receiver = shown.Safe(t.Endpoint)
	}
	return fmt.Sprintf("sampled    %s\nslow       %s\nreceiver   %s\nspans      %d sent, %d dropped\n", sampled, slow, receiver, t.Sent, t.Dropped)
}
