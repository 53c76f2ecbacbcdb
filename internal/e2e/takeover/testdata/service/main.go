// Service is the executable that the tests of upgrades start and upgrade. The linker sets its version.
package main

import (
	"context"
	"os"
	"strings"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/cli"
)

var version = "1"

type voice struct{}

// newVoice waits for the file that the variable SERVICE_GATE_VERSION names, a pipe of the test, if there is one.
func newVoice(context.Context) (*voice, error) {
	if gate := os.Getenv("SERVICE_GATE_" + version); gate != "" {
		if _, err := os.ReadFile(gate); err != nil {
			return nil, err
		}
	}
	return &voice{}, nil
}

// Say repeats a text, or, for "pipe:" and a path, what comes out of that pipe when it ends.
func (*voice) Say(_ context.Context, text string) (string, error) {
	if pipe, ok := strings.CutPrefix(text, "pipe:"); ok {
		b, err := os.ReadFile(pipe)
		return version + ": " + string(b), err
	}
	return version + ": " + text, nil
}

type front struct{ say helve.Method[string, string] }

func (f *front) Say(ctx context.Context, text string) (string, error) { return f.say.Call(ctx, text) }

func build() (*helve.App, error) {
	app := helve.NewApp("service")
	down := helve.Deploy(app, "Voice", newVoice, helve.Options{MaxOngoingRequests: new(20)})
	say := helve.MethodOf(down, (*voice).Say)
	in := helve.Deploy(app, "Front", func(context.Context) (*front, error) { return &front{say}, nil },
		helve.Options{Uses: []helve.Target{say}, MaxOngoingRequests: new(20)})
	app.Ingress(helve.MethodOf(in, (*front).Say))
	return app, nil
}

func main() { cli.Main(cli.App("service", build)) }
