package commands

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/goccy/go-yaml"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/answer"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/shown"
)

// evil is a text of user code that clears the screen, names the window, and turns the direction of the text.
const evil = "boom\x1b[2J\x1b]0;root\x07\r\u009b31m\u202e\U000e0001 end"

// obeyed is the first character that a terminal would obey; 0 for none.
func obeyed(text string) rune {
	for _, r := range text {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) && !unicode.Is(unicode.Zs, r) {
			return r
		}
	}
	return 0
}

// TestTextsOfUserCode: a message of user code does not rule the terminal of an operator, in no form of the output; programs that read JSON or YAML get it whole.
func TestTextsOfUserCode(t *testing.T) {
	t.Parallel()
	event := helvetype.Event{ID: 1, Time: time.Unix(0, 0), Object: helvetype.Object{Kind: "replica", App: "shop"}, From: "a", To: "b", Message: evil}
	for _, output := range []string{"text", "json", "yaml"} {
		t.Run(output, func(t *testing.T) {
			t.Parallel()
			var whole, line strings.Builder
			r := reader{output: output}
			if err := errors.Join(shown.Print(&whole, r.output, event, func() string { return answer.Event(event) + "\n" }), r.event(&line, event)); err != nil {
				t.Fatal(err)
			}
			for _, text := range []string{whole.String(), line.String()} {
				if c := obeyed(text); c != 0 || !strings.Contains(text, " end") {
					t.Errorf("%q has %q", text, c)
				}
				var again helvetype.Event
				var err error
				switch output {
				case "json":
					err = json.Unmarshal([]byte(text), &again)
				case "yaml":
					var fields map[string]any
					err = yaml.Unmarshal([]byte(text), &fields)
					again.Message, _ = fields["message"].(string)
				default:
					continue
				}
				if err != nil || again.Message != evil {
					t.Errorf("%q, %v", again.Message, err)
				}
			}
		})
	}
	t.Run("an error", func(t *testing.T) {
		t.Parallel()
		for _, err := range []error{errors.New(evil), &helvetype.OperationError{Message: evil, Next: evil}, &helvetype.OperationError{Mistakes: []helvetype.Mistake{{File: evil, Message: "m", Excerpt: evil}}}} {
			if text := TextOf(err); obeyed(text) != 0 {
				t.Errorf("%q", text)
			}
		}
	})
	t.Run("the progress of a deploy", func(t *testing.T) {
		t.Parallel()
		in := details.Instance{Applications: map[string]details.AppDetails{"shop": {Deployments: map[string]details.DeploymentDetails{"D": {
			Name: "D", Replicas: []details.ReplicaDetails{{ReplicaID: "D#001", LastExit: &helvetype.Exit{Replica: "D#000", Reason: evil}}},
		}}}}}
		text := progressText(in, time.Now(), 200)
		if obeyed(text) != 0 || !strings.Contains(text, "end") {
			t.Errorf("%q", text)
		}
	})
}

// TestProgressOfEvents: the lines of a deploy that is waited for have the causes that they name.
func TestProgressOfEvents(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		of   helvetype.Event
		want bool
	}{
		{helvetype.Event{From: "HEALTHY", To: "HEALTHY", Reason: "autoscale_up"}, true},
		{helvetype.Event{From: "HEALTHY", To: "UPSCALING", Reason: "autoscaling"}, true},
		{helvetype.Event{From: "UPDATING", To: "UPDATING", Reason: "replica_startup_failed"}, false},
		{helvetype.Event{From: "RUNNING", Reason: "died"}, true},
	} {
		if got := progresses(x.of); got != x.want {
			t.Errorf("%+v: %t", x.of, got)
		}
	}
}
