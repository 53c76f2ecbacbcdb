package helve_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// This file is the code of the guides in docs/: TestGuides holds that every Go block there is in a file that compiles, and the other
// tests run it.

// Scorer is the model of the guides.
type Scorer struct {
	batcher *helve.Batcher[string, int]
	cache   sync.Map
	limit   atomic.Int64
}

type ScorerConfig struct {
	Limit int `json:"limit"`
}

// supervised are the options of a worker in docs/workers.md.
func supervised() helve.Options {
	return helve.Options{
		Isolation:       helve.Process,
		Env:             map[string]string{"OMP_NUM_THREADS": "1"},
		Dir:             "/srv/scorer",
		Limits:          helve.Limits{Memory: 2 << 30, CPUs: 1.5, OpenFiles: 1024},
		MaxUnresponsive: new(time.Minute),
	}
}

// followsLoad are the options of docs/autoscaling.md.
func followsLoad() helve.Options {
	return helve.Options{
		Autoscaling: &helvetype.AutoscalingOptions{MinReplicas: new(1), MaxReplicas: 20, TargetOngoingRequests: 2},
	}
}

// byTokens is the policy of docs/policies.md.
func byTokens(ctx context.Context, v helvetype.AutoscalingView) (replicas float64, err error) {
	var tokens float64
	for _, n := range v.Metrics["tokens"] {
		tokens += n
	}
	return tokens / 5000, nil
}

// followsTokens is the deployment of docs/policies.md.
func followsTokens(app *helve.App, NewModel func(context.Context) (*struct{}, error)) helve.Handle[*struct{}] {
	model := helve.Deploy(app, "Model", NewModel, helve.Options{
		Autoscaling: &helvetype.AutoscalingOptions{MaxReplicas: 8, Policy: helvetype.Policy(byTokens)},
	})
	return model
}

// TestPolicyOfTheGuide: the policy asks for a replica for each 5,000 tokens.
func TestPolicyOfTheGuide(t *testing.T) {
	t.Parallel()
	if got, err := byTokens(t.Context(), helvetype.AutoscalingView{Metrics: map[string]map[string]float64{"tokens": {"a": 4000, "b": 6000}}}); got != 2 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	app := helve.NewApp("guide")
	followsTokens(app, func(context.Context) (*struct{}, error) { return &struct{}{}, nil })
}

// serveInProgram is a program that runs an application itself.
func serveInProgram(ctx context.Context, logger *slog.Logger, Build helve.Build) error {
	sys, err := helve.Config{Logger: logger}.Run(ctx, Build)
	if err != nil {
		return err // every mistake in names, options and bindings, or the first constructor that failed
	}
	url, failed, err := sys.Serve("127.0.0.1:8000")
	_, _ = url, failed
	return errors.Join(err, sys.Close(ctx))
}

// deployToNode is a program that deploys its application at a node, which goes on with it when the program has ended.
func deployToNode(ctx context.Context, Build helve.Build) error {
	helve.WorkerMain(Build) // the node starts this program again as a worker
	sys, err := helve.Connect(ctx, "")
	if err != nil {
		return err // no node runs here, or several: the error lists them
	}
	err = sys.Deploy(ctx, Build)
	return errors.Join(err, sys.Close(ctx))
}

func TestDeployToNode(t *testing.T) {
	t.Setenv("HELVE_NODE", t.TempDir())
	if err := deployToNode(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "no node runs at") {
		t.Errorf("without a node: %v", err)
	}
}

func TestServeInProgram(t *testing.T) {
	t.Parallel()
	if err := serveInProgram(t.Context(), nil, nil); err == nil {
		t.Error("a Build that is nil was run")
	}
}

func TestSupervisedOptions(t *testing.T) {
	t.Parallel()
	if _, err := followsLoad().Effective(); err != nil {
		t.Error(err)
	}
	if e, err := supervised().Effective(); err != nil || *e.MaxUnresponsive != time.Minute || e.Limits.OpenFiles != 1024 {
		t.Errorf("%+v, %v", e, err)
	}
}

func NewScorer(ctx context.Context) (*Scorer, error) {
	s := &Scorer{}
	batcher, err := helve.NewBatcher(s.scoreAll, helve.BatchOptions[string]{MaxSize: 8, Wait: new(2 * time.Millisecond)})
	s.batcher = batcher
	return s, err
}

func (s *Scorer) Score(ctx context.Context, text string) (int, error) { return s.batcher.Do(ctx, text) }

func (s *Scorer) Answer(ctx context.Context, text string) (int, error) {
	if r, ok := helve.RequestFrom(ctx); ok && r.Path == "/dry-run" {
		head, _ := helve.ResponseFrom(ctx)
		return 0, head.SetStatus(http.StatusAccepted)
	}
	return s.Score(ctx, text)
}

// TestGuideRequest: the method of the guide that looks at its request.
func TestGuideRequest(t *testing.T) {
	t.Parallel()
	s := helvetest.Start(t, helve.Config{}, func() (*helve.App, error) {
		app := helve.NewApp("answer")
		h := helve.Deploy(app, "Scorer", NewScorer, helve.Options{UserConfig: ScorerConfig{Limit: 100}})
		app.Ingress(helve.MethodOf(h, (*Scorer).Answer))
		return app, nil
	})
	url, _, err := s.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/dry-run": "202 0", "/": "200 5"} {
		r, err := http.Post(url+path, "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if got := fmt.Sprint(r.StatusCode, " ", strings.TrimSpace(string(body))); got != want || err != nil {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

func (s *Scorer) scoreAll(ctx context.Context, texts []string) ([]int, error) {
	scores := make([]int, len(texts))
	for i, t := range texts {
		scores[i] = min(len(t), int(s.limit.Load()))
	}
	return scores, nil
}

func (s *Scorer) Words(ctx context.Context, text string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for w := range strings.FieldsSeq(text) {
			if !yield(w, nil) {
				return // nobody wants more
			}
		}
	}
}

func (s *Scorer) ResetCache(ctx context.Context, _ helve.None) error {
	s.cache.Clear()
	return nil
}

func (s *Scorer) Reconfigure(ctx context.Context, c ScorerConfig) error {
	if c.Limit < 1 {
		return fmt.Errorf("limit: must be at least 1, is %d", c.Limit)
	}
	s.limit.Store(int64(c.Limit)) // calls run meanwhile
	return nil
}

func (s *Scorer) CheckHealth(ctx context.Context) error { return nil }
func (s *Scorer) Close(ctx context.Context) error       { return nil }

func (s *Scorer) RoutingStats(ctx context.Context) (map[string]any, error) {
	return map[string]any{"free_blocks": s.limit.Load()}, nil
}

// readme is the code of the first page.
func readme(ctx context.Context, down helve.Handle[*Downstream]) (string, error) {
	sayHi := helve.MethodOf(down, (*Downstream).SayHi) // receiver, input and output are checked by the compiler
	greeting, err := sayHi.Call(ctx, "world")          // in process: a function call of a quarter of a microsecond
	return greeting, err
}

// Downstream is the example's.
type Downstream struct{}

func (*Downstream) SayHi(_ context.Context, name string) (string, error) {
	return "Hello " + name + "!", nil
}

func TestFirstPage(t *testing.T) {
	t.Parallel()
	s := helvetest.Start(t, helve.Config{}, func() (*helve.App, error) {
		app := helve.NewApp("first")
		h := helve.Deploy(app, "Downstream", func(context.Context) (*Downstream, error) { return &Downstream{}, nil }, helve.Options{})
		app.Ingress(helve.MethodOf(h, (*Downstream).SayHi))
		return app, nil
	})
	h, err := helve.HandleOf[*Downstream](s, "first", "Downstream")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readme(t.Context(), h); got != "Hello world!" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
}

// Embedder is written in Python.
type Embedder interface {
	Embed(ctx context.Context, text string) ([]float64, error)
}

func newRanker(context.Context) (*Judge, error) { return &Judge{}, nil }

func mixedGraph(app *helve.App) helve.Method[string, []float64] {
	rank := helve.Deploy(app, "Ranker", newRanker, helve.Options{})
	emb := helve.Python[Embedder](app, "Embedder", "embed:Embedder", helve.Args{
		Positional: []any{"small"}, Named: map[string]any{"ranker": rank},
	}, helve.Options{Uses: []helve.Target{rank}})
	embed := helve.MethodOf(emb, Embedder.Embed) // calls embed() of class Embedder in embed.py
	return embed
}

// TestGuideMixedGraph: the graph has no mistakes; there is no embed.py.
func TestGuideMixedGraph(t *testing.T) {
	t.Parallel()
	_, err := helve.Config{Logger: slog.New(slog.DiscardHandler)}.Run(t.Context(), func() (*helve.App, error) {
		app := helve.NewApp("mixed")
		app.Ingress(mixedGraph(app))
		return app, nil
	})
	if err == nil || !strings.Contains(err.Error(), "No module named 'embed'") {
		t.Errorf("%v", err)
	}
}

// Judge takes two scores.
type Judge struct{}

type Scores struct{ A, B int }

func (*Judge) Better(ctx context.Context, s Scores) (string, error) {
	if s.A >= s.B {
		return "the first", nil
	}
	return "the second", nil
}

// Guide is the ingress of the guides.
type Guide struct {
	score  helve.Method[string, int]
	words  helve.Stream[string, string]
	reset  helve.Method[helve.None, helve.None]
	better helve.Method[Scores, string]
}

func (g *Guide) Compare(ctx context.Context, texts []string) (string, error) {
	if len(texts) != 2 {
		return "", helve.Public(helve.InvalidArgument, "two texts are needed")
	}
	a, b := g.score.Remote(ctx, texts[0]), g.score.Remote(ctx, texts[1]) // both are under way
	return g.better.RemoteWith(ctx, Scores{},
		helve.Fill(func(s *Scores) *int { return &s.A }, a),
		helve.Fill(func(s *Scores) *int { return &s.B }, b)).Result(ctx)
}

func (g *Guide) Longest(ctx context.Context, text string) (string, error) {
	longest := ""
	for word, err := range g.words.Call(ctx, text) {
		if err != nil {
			return "", err
		}
		if len(word) > len(longest) {
			longest = word
		}
	}
	return longest, nil
}

func (g *Guide) First(ctx context.Context, text string) (string, error) {
	words := g.words.Remote(ctx, text) // runs at once, up to 64 items or 1 MB ahead
	defer words.Close()
	for word, err := range words.All() {
		return word, err // breaking out cancels the method
	}
	return "", nil
}

func (g *Guide) ResetAll(ctx context.Context, _ helve.None) (int, error) {
	entries, err := g.reset.Broadcast(ctx, helve.None{}).Results(ctx)
	for _, e := range entries {
		if e.Err != nil {
			fmt.Println("replica", e.Replica, "of node", e.Node, "was not reset:", e.Err)
		}
	}
	return len(entries), err
}

func (g *Guide) Reserved(ctx context.Context, text string) (string, error) {
	sel, err := g.score.Choose(ctx)
	if err != nil {
		return "", err
	}
	defer sel.Release() // does nothing once it was dispatched
	n, err := g.score.Dispatch(ctx, sel, text).Result(ctx)
	return fmt.Sprintf("%s says %d", sel.Replica(), n), err
}

func (g *Guide) Audit(ctx context.Context, text string) (string, error) {
	g.score.Remote(helve.Detach(ctx), text) // survives the end of this request, whatever that is
	return "noted", nil
}

// Page is a handler of HTTP.
type Page struct{ score helve.Method[string, int] }

func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	score, err := p.score.Call(r.Context(), r.URL.Query().Get("text"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, score)
}

func buildPage() (*helve.App, error) {
	app := helve.NewApp("page")
	scorer := helve.Deploy(app, "Scorer", NewScorer, helve.Options{UserConfig: ScorerConfig{Limit: 50}})
	score := helve.MethodOf(scorer, (*Scorer).Score)
	page := helve.Deploy(app, "Page", func(context.Context) (*Page, error) { return &Page{score}, nil },
		helve.Options{Uses: []helve.Target{score}})
	app.Ingress(helve.HTTP(page)) // the compiler checks that it is an http.Handler
	return app, nil
}

func TestGuidePage(t *testing.T) {
	t.Parallel()
	s := helvetest.Start(t, helve.Config{}, buildPage)
	url, _, err := s.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := fixture.Request(t, t.Context(), http.MethodGet, url+"?text=abc", "")
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); string(body) != "3\n" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}

var buildGuide = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("guide")
	scorer := helve.Deploy(app, "Scorer", NewScorer, helve.Options{
		NumReplicas:        new(2),
		MaxOngoingRequests: new(16),
		MaxQueuedRequests:  new(1000),
		UserConfig:         ScorerConfig{Limit: 50},
		HealthCheckPeriod:  new(5 * time.Second),
	})
	judge := helve.Deploy(app, "Judge", func(context.Context) (*Judge, error) { return &Judge{}, nil }, helve.Options{})
	g := Guide{
		score:  helve.MethodOf(scorer, (*Scorer).Score),
		words:  helve.StreamOf(scorer, (*Scorer).Words),
		reset:  helve.ActionOf(scorer, (*Scorer).ResetCache),
		better: helve.MethodOf(judge, (*Judge).Better),
	}
	guide := helve.Deploy(app, "Guide", func(context.Context) (*Guide, error) { own := g; return &own, nil },
		helve.Options{Uses: []helve.Target{scorer, judge}})
	app.Ingress(helve.MethodOf(guide, (*Guide).Compare))
	return app, nil
})

func TestGuide(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildGuide, func(t *testing.T, sys *helve.System) {
		h, err := helve.HandleOf[*Guide](sys, "guide", "Guide")
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		if got, err := helve.MethodOf(h, (*Guide).Compare).Call(ctx, []string{"abc", "abcd"}); got != "the second" || err != nil {
			t.Errorf("%s, %v", got, err)
		}
		if _, err := helve.MethodOf(h, (*Guide).Compare).Call(ctx, nil); helve.CodeOf(err) != helve.InvalidArgument {
			t.Errorf("%v", err)
		}
		for method, want := range map[helve.Method[string, string]]string{
			helve.MethodOf(h, (*Guide).Longest): "three", helve.MethodOf(h, (*Guide).First): "one", helve.MethodOf(h, (*Guide).Audit): "noted",
		} {
			if got, err := method.Call(ctx, "one two three"); got != want || err != nil {
				t.Errorf("%s, %v, want %s", got, err, want)
			}
		}
		if got, err := helve.MethodOf(h, (*Guide).Reserved).Call(ctx, "abc"); !strings.HasSuffix(got, " says 3") || err != nil {
			t.Errorf("%s, %v", got, err)
		}
		if n, err := helve.MethodOf(h, (*Guide).ResetAll).Call(ctx, helve.None{}); n != 2 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if err := sys.Reconfigure(ctx, "guide", "Scorer", ScorerConfig{Limit: 2}); err != nil {
			t.Error(err)
		}
		if err := sys.Reconfigure(ctx, "guide", "Scorer", ScorerConfig{Limit: 0}); err == nil {
			t.Error("a limit of 0 was accepted")
		}
		errs := guideErrors(ctx, helve.MethodOf(h, (*Guide).Compare))
		if errs != "two texts are needed" {
			t.Errorf("%s", errs)
		}
	})
}

func guideErrors(ctx context.Context, compare helve.Method[[]string, string]) string {
	_, err := compare.Call(ctx, []string{"one"})
	switch {
	case helve.ReasonOf(err) == helve.Backpressure:
		return "too many calls wait; try again later"
	case errors.Is(err, context.DeadlineExceeded):
		return "it took too long, in the queue or in the method"
	case helve.CodeOf(err) == helve.InvalidArgument:
		var e *helve.Error
		errors.As(err, &e)
		return e.Message()
	}
	return ""
}

// Adapter has models.
type Adapter struct{ models *helve.Models[*Weights] }

type Weights struct{ language string }

func (w *Weights) Close() error { return nil }

func NewAdapter(ctx context.Context) (*Adapter, error) {
	models, err := helve.NewModels(ctx, loadWeights, helve.ModelsOptions[*Weights]{Max: 4})
	return &Adapter{models}, err
}

func (a *Adapter) Greet(ctx context.Context, name string) (string, error) {
	weights, release, err := a.models.Get(ctx) // the model id travels with the call
	if err != nil {
		return "", err
	}
	defer release() // until here it is not unloaded
	return weights.language + ": " + name, nil
}

func loadWeights(ctx context.Context, id string) (*Weights, error) { return &Weights{id}, nil }

var buildAdapter = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("adapter")
	adapter := helve.Deploy(app, "Adapter", NewAdapter, helve.Options{NumReplicas: new(3)})
	app.Ingress(helve.MethodOf(adapter, (*Adapter).Greet))
	return app, nil
})

func TestGuideModels(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildAdapter, func(t *testing.T, sys *helve.System) {
		h, err := helve.HandleOf[*Adapter](sys, "adapter", "Adapter")
		if err != nil {
			t.Fatal(err)
		}
		greet := helve.MethodOf(h, (*Adapter).Greet)
		french := greet.With(helve.ModelID("fr"))
		if got, err := french.Call(t.Context(), "Ada"); got != "fr: Ada" || err != nil {
			t.Errorf("%s, %v", got, err)
		}
	})
}

func TestGuideRouting(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, func() (*helve.App, error) {
		app := helve.NewApp("routed")
		h := helve.Deploy(app, "Judge", func(context.Context) (*Judge, error) { return &Judge{}, nil }, helve.Options{
			NumReplicas: new(4),
			Routing:     helve.ConsistentHash{},
		})
		better := helve.MethodOf(h, (*Judge).Better)
		app.Ingress(better.With(helve.SessionID("user-17"), helve.PreferLocal))
		helve.Deploy(app, "Other", func(context.Context) (*Judge, error) { return &Judge{}, nil }, helve.Options{
			Routing: helve.CustomRouting(func() helve.RoutingPolicy { return idlest{} }),
		})
		return app, nil
	}, func(t *testing.T, sys *helve.System) {
		for _, name := range []string{"Judge", "Other"} {
			h, err := helve.HandleOf[*Judge](sys, "routed", name)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := helve.MethodOf(h, (*Judge).Better).Call(t.Context(), Scores{2, 1}); got != "the first" || err != nil {
				t.Errorf("%s: %s, %v", name, got, err)
			}
		}
	}, helvetest.Local)
}

// idlest looks at every replica, which costs the more the more there are.
type idlest struct{}

func (idlest) Rank(c helve.RoutedCall, replicas []helve.ReplicaView, ranks []int) ([]int, bool) {
	for i := range replicas {
		ranks = append(ranks, i)
	}
	slices.SortFunc(ranks, func(i, j int) int { return replicas[i].Ongoing() - replicas[j].Ongoing() })
	return ranks, false // false: if all of them are full, the call waits for any
}

// roomiest goes by what replicas say of themselves.
type roomiest struct{}

func (roomiest) Rank(c helve.RoutedCall, replicas []helve.ReplicaView, ranks []int) ([]int, bool) {
	best, most := 0, int64(-1)
	for i, r := range replicas {
		stats, _ := r.Stats() // and when it said so
		if free, _ := stats["free_blocks"].(int64); free > most {
			best, most = i, free
		}
	}
	return append(ranks, best), false
}

// byPrefix sends prompts that begin alike to the same replica.
type byPrefix struct{}

func (byPrefix) Rank(c helve.RoutedCall, replicas []helve.ReplicaView, ranks []int) ([]int, bool) {
	prompt, ok := helve.InputOf[string](c)
	if !ok || prompt == "" {
		return ranks, false
	}
	h := fnv.New32a()
	h.Write([]byte(prompt[:min(len(prompt), 64)]))
	return append(ranks, int(h.Sum32())%len(replicas)), false // a full one is passed over
}

func TestGuidePolicies(t *testing.T) {
	t.Parallel()
	for _, p := range []helve.RoutingPolicy{roomiest{}, byPrefix{}} {
		s := helvetest.Start(t, helve.Config{}, func() (*helve.App, error) {
			app := helve.NewApp("scores")
			h := helve.Deploy(app, "Scorer", NewScorer, helve.Options{
				UserConfig: ScorerConfig{Limit: 50}, NumReplicas: new(2), Routing: helve.CustomRouting(func() helve.RoutingPolicy { return p }),
			})
			app.Ingress(helve.MethodOf(h, (*Scorer).Score))
			return app, nil
		})
		h, err := helve.HandleOf[*Scorer](s, "scores", "Scorer")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := helve.MethodOf(h, (*Scorer).Score).Call(t.Context(), "abc"); n != 3 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
}

// Code that holds methods is tested without an application.
func TestGuideCompare(t *testing.T) {
	t.Parallel()
	g := &Guide{
		score:  helve.MethodFunc(func(_ context.Context, text string) (int, error) { return len(text), nil }),
		better: helve.MethodFunc((&Judge{}).Better),
	}
	if got, err := g.Compare(t.Context(), []string{"abc", "ab"}); got != "the first" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
}

// Time in a test is fake inside of a bubble of testing/synctest, for a whole application.
func TestGuideDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := helve.MethodFunc(func(ctx context.Context, _ helve.None) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := slow.Call(ctx, helve.None{}); helve.ReasonOf(err) != helve.Deadline {
			t.Errorf("%v", err)
		}
	})
}

// TestGuides holds that the Go code of the guides is code of this repository that compiles: each block stands in one file,
// line after line; what "// ..." leaves out stands between.
func TestGuides(t *testing.T) {
	t.Parallel()
	var files [][]string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == "python" || path == "bench" || path == ".venv" || path == ".git" || d.Name() == "testdata"):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".go"):
			b, err := os.ReadFile(path)
			files = append(files, plainLines(string(b)))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	guides, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, guide := range append(guides, "README.md", "ARCHITECTURE.md") {
		b, err := os.ReadFile(guide)
		if err != nil {
			t.Fatal(err)
		}
		for i, part := range strings.Split(string(b), "```go\n")[1:] {
			block, _, _ := strings.Cut(part, "```")
			blocks++
			if !slices.ContainsFunc(files, func(file []string) bool { return stands(file, plainLines(block)) }) {
				t.Errorf("%s, Go block %d: no file has the lines\n%s", guide, i+1, block)
			}
		}
	}
	if blocks < 30 {
		t.Errorf("%d blocks of Go code in %d guides", blocks, len(guides))
	}
	for block, want := range map[string]bool{"a\nb": true, "b\na": false, "a\nc": false, "a\n// ...\nc": true, "c\n// ...\na": false, "  a\n\n\tb  ": true, "a": true, "d": false} {
		if got := stands([]string{"a", "b", "c"}, plainLines(block)); got != want {
			t.Errorf("%q: %t", block, got)
		}
	}
}

// plainLines are the lines that say something, without how they are set.
func plainLines(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if plain := strings.Join(strings.Fields(line), " "); plain != "" {
			lines = append(lines, plain)
		}
	}
	return lines
}

// stands says whether the pieces of block between ellipses stand in file, each in one piece and in this order.
func stands(file, block []string) bool {
	for len(block) > 0 {
		piece := block
		if i := slices.Index(block, "// ..."); i >= 0 {
			piece, block = block[:i], block[i+1:]
		} else {
			block = nil
		}
		for ; len(file) >= len(piece) && !slices.Equal(file[:len(piece)], piece); file = file[1:] {
		}
		if len(file) < len(piece) {
			return false
		}
		file = file[len(piece):]
	}
	return true
}

// TestReadme holds what the first page says of the first program.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("examples/hello/main.go")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("[examples/hello/main.go](examples/hello/main.go), %d lines", strings.Count(string(program), "\n")); !strings.Contains(string(readme), want) {
		t.Errorf("the README does not say %q", want)
	}
	for part := range strings.SplitSeq(string(readme), "](") { // its links lead somewhere
		link, _, ok := strings.Cut(part, ")")
		if !ok || strings.Contains(link, "://") || strings.ContainsAny(link, " \n") {
			continue
		}
		path, _, _ := strings.Cut(link, "#")
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%v", err)
		}
	}
}
