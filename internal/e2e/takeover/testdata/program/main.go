// Program is the executable that the tests of builds deploy. The linker sets its version.
package main

import (
	"context"
	"errors"
	"iter"
	"os"
	"strconv"
	"strings"

	"github.com/helve-serve/helve"
)

var version = "0"

type counter struct{}

func (counter) Count(_ context.Context, n int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
	}
}

// Say repeats a text, or what comes out of a pipe, when that ends.
func (counter) Say(_ context.Context, text string) (string, error) {
	if pipe, ok := strings.CutPrefix(text, "pipe:"); ok {
		b, err := os.ReadFile(pipe)
		return version + ": " + string(b), err
	}
	return version + ": " + text, nil
}

func (counter) Exit(_ context.Context, code int) error {
	os.Exit(code)
	return nil
}

type front struct{ say helve.Method[string, string] }

func (f *front) Say(ctx context.Context, text string) (string, error) { return f.say.Call(ctx, text) }

func build(name string, o helve.Options) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp(name)
		down := helve.Deploy(app, "Counter", func(context.Context) (counter, error) {
			if version == "broken" {
				return counter{}, errors.New("broken on purpose")
			}
			return counter{}, nil
		}, o)
		say := helve.MethodOf(down, counter.Say)
		ingress := helve.Deploy(app, "Front", func(context.Context) (*front, error) { return &front{say}, nil },
			helve.Options{Uses: []helve.Target{say}, NumReplicas: new(2), MaxOngoingRequests: new(20), MaxConstructorRetries: new(1)})
		app.Ingress(helve.MethodOf(ingress, (*front).Say))
		return app, nil
	}
}

// mixed has a deployment in Python, which no other node can start.
func mixed() (*helve.App, error) {
	app := helve.NewApp("mixed")
	emb := helve.Python[interface {
		Embed(ctx context.Context, text string) (int, error)
	}](app, "Embedder", "embed:Embedder", helve.Args{}, helve.Options{})
	app.Ingress(helve.MethodNamed[string, int](emb, "embed"))
	return app, nil
}

type anywhere struct{}

func (anywhere) Rank(helve.RoutedCall, []helve.ReplicaView, []int) ([]int, bool) { return nil, false }

func main() {
	if len(os.Args) > 1 && os.Args[1] == "-silent" {
		return
	}
	for _, arg := range os.Args[1:] {
		if v, ok := strings.CutPrefix(arg, "-version="); ok {
			version = v
		}
		if arg == "-forget-token" && os.Getenv("HELVE_TOKEN_FD") != "" { // as somebody would who guesses
			r, w, err := os.Pipe()
			if err != nil {
				panic(err)
			}
			w.Write(make([]byte, 32)) //nolint:errcheck // it fits into the pipe
			os.Setenv("HELVE_TOKEN_FD", strconv.Itoa(int(r.Fd())))
		}
	}
	helve.WorkerMain(
		build("program", helve.Options{NumReplicas: new(2), MaxConstructorRetries: new(1)}),
		build("mistaken", helve.Options{NumReplicas: new(-1)}),
		build("withRoute", helve.Options{Routing: helve.CustomRouting(func() helve.RoutingPolicy { return anywhere{} })}),
		mixed,
	)
}
