package deploy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// fileBlobs are blobs in memory of which the executables have files.
type fileBlobs struct {
	store.Blobs
	files map[string]string
}

func (b fileBlobs) PutFile(ctx context.Context, path string, executable bool) (string, int64, error) {
	digest, size, err := b.Blobs.PutFile(ctx, path, executable)
	b.files[digest] = path
	return digest, size, err
}

func (b fileBlobs) Path(digest string) (string, error) {
	if path, ok := b.files[digest]; ok {
		return path, nil
	}
	return b.Blobs.Path(digest)
}

// executable is a file that stands for an executable.
func executable(t *testing.T, content string) build.Build {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte(content), 0o500); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(content))
	return build.Build{Path: path, Digest: hex.EncodeToString(sum[:])}
}

// randomApp is an application of any kind that a durable node starts again.
func randomApp(t *testing.T, r *rand.Rand) App {
	t.Helper()
	word := func() string {
		return []string{"a", "b/c", "ü", "x y", `"`, "--flag=1", "/srv/hello"}[r.IntN(7)] + fmt.Sprint(r.IntN(100))
	}
	words := func() (all []string) {
		for range r.IntN(4) {
			all = append(all, word())
		}
		return all
	}
	environment := func() (env []string) {
		for i := range 1 + r.IntN(4) {
			env = append(env, fmt.Sprintf("NAME%d=%s=", i, word()))
		}
		return env
	}
	options := func() spec.Options {
		o, err := spec.Options{}.Merge(fmt.Appendf(nil, `{"num_replicas": %d, "max_ongoing_requests": %d, "user_config": {"a": [%d, null, %q]}}`,
			1+r.IntN(4), 1+r.IntN(5), r.IntN(9), word()), spec.FromCode)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	a := App{Graph: spec.Graph{App: word(), RoutePrefix: "/" + word(), Ingress: &spec.IngressSpec{Deployment: "D0"}}}
	for i := range 1 + r.IntN(3) {
		a.Graph.Deployments = append(a.Graph.Deployments, spec.Deployment{Name: fmt.Sprintf("D%d", i), Language: "python", Import: "m:D", Options: options()})
	}
	if r.IntN(3) == 0 { // an external executable
		for i := range a.Graph.Deployments {
			a.Graph.Deployments[i].Language, a.Graph.Deployments[i].Import = "go", ""
		}
		b := executable(t, word())
		a.Build, a.Program = &b, &host.Program{Path: b.Path, Args: words(), Env: environment(), Dir: word()}
		return a
	}
	blob := make([]byte, r.IntN(1000))
	for i := range blob {
		blob[i] = byte(r.Uint32())
	}
	a.Python = host.Python{Interpreter: "/usr/bin/python3", SysPath: words(), Last: words(), Dir: word(), Blob: blob}
	for range r.IntN(3) {
		a.Python.Packed = append(a.Python.Packed, host.Packed{Path: word(), Digest: strings.Repeat("ab", 32)})
		set(&a.Python.Env, word(), word())
		set(&a.CodeVersions, "D0", word())
		set(&a.archives, "D0", []string{word()})
	}
	for range r.IntN(3) {
		b := executable(t, word())
		from := "exec:" + word()
		set(&a.Parts, from, &Part{Graph: a.Graph, Program: host.Program{Path: b.Path, Args: words()}, Build: b})
		set(&a.Arguments, "D0", []byte(word()))
	}
	return a
}

// same are the parts of an application that start it. Lists and maps without entries are equal to none.
func same(t *testing.T, a App) string {
	t.Helper()
	env := func(p host.Program) host.Program {
		p.Env = slices.Sorted(slices.Values(p.Env))
		return p
	}
	parts := map[string]any{}
	for from, p := range a.Parts {
		parts[from] = []any{p.Graph, env(p.Program), p.Build.Digest}
	}
	var program any
	if a.Program != nil {
		program = env(*a.Program)
	}
	py := a.Python
	b, err := json.Marshal([]any{
		a.Graph, py.Interpreter, slices.Collect(slices.Values(py.SysPath)), slices.Collect(slices.Values(py.Last)), py.Dir, slices.Sorted(maps.Keys(py.Env)),
		slices.Sorted(maps.Values(py.Env)), append([]byte{}, py.Blob...), slices.Collect(slices.Values(py.Packed)), program, a.digest, parts, clone(a.Arguments), clone(a.CodeVersions),
		clone(a.archives), a.Identity(host.Program{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestRecordRoundTrip: an application that is loaded from its record starts the same processes with the same code, and has the same identity.
func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		blobs := fileBlobs{store.NewMemoryBlobs(), map[string]string{}}
		a := randomApp(t, r)
		if err := a.KeepBuild(KeepInBlobs(t.Context(), blobs)); err != nil {
			t.Fatal(err)
		}
		record, err := a.Record(t.Context(), host.Program{}, blobs)
		if err != nil {
			t.Fatal(err)
		}
		op, err := store.Encode(store.RevisionKey(a.Graph.App, 1), record)
		if err != nil {
			t.Fatal(err)
		}
		read, err := store.Decode[store.Revision](store.KV{Key: op.Key, Value: op.Value})
		if err != nil {
			t.Fatal(err)
		}
		again, err := Load(read, read.Graph, blobs)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := same(t, again), same(t, a); got != want {
			t.Fatalf("seed %d:\n got %s\nwant %s", seed, got, want)
		}
		if err := again.KeepBuild(KeepInBlobs(t.Context(), blobs)); err != nil {
			t.Fatal(err)
		}
		back, err := again.Record(t.Context(), host.Program{}, blobs) // of a roll-back
		if back.From = record.From; err != nil || !reflect.DeepEqual(back, read) {
			t.Fatalf("seed %d:\n got %+v, error %v\nwant %+v", seed, back, err, read)
		}
		named := map[string]bool{}
		for _, digest := range read.Blobs() {
			named[digest] = true
		}
		if len(a.Python.Blob) > 0 && !named[store.Digest(a.Python.Blob)] || a.digest != "" && !named[a.digest] {
			t.Fatalf("seed %d: the record names the blobs %v", seed, read.Blobs())
		}
	}
}

// TestPickleIsAFile: a durable node does not hold the code of an application in memory, and the identity stays.
func TestPickleIsAFile(t *testing.T) {
	t.Parallel()
	pickle := executable(t, "the pickle")
	blobs := fileBlobs{store.NewMemoryBlobs(), map[string]string{pickle.Digest: pickle.Path}}
	a := App{Graph: spec.Graph{App: "a"}, Python: host.Python{Interpreter: "/usr/bin/python3", Blob: []byte("the pickle")}}
	before := a.Identity(host.Program{})
	record, err := a.Record(t.Context(), host.Program{}, blobs)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(record, record.Graph, blobs)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := again.Record(t.Context(), host.Program{}, blobs); err != nil || back.Python.Pickle != pickle.Digest {
		t.Errorf("the record of a roll-back has %+v, error %v", back.Python, err)
	}
	for name, py := range map[string]host.Python{"deployed": a.Python, "loaded": again.Python} {
		if py.File != pickle.Path || py.Digest != pickle.Digest || py.Blob != nil {
			t.Errorf("%s: %+v", name, py)
		}
	}
	if after := a.Identity(host.Program{}); after != before || again.Identity(host.Program{}) != before {
		t.Errorf("identity %s and then %s", before, after)
	}
}

// TestRecordOfOwn: an application of the node's own executable is recorded as such, and has no code.
func TestRecordOfOwn(t *testing.T) {
	t.Parallel()
	a := App{
		Graph:   spec.Graph{App: "a", Ingress: &spec.IngressSpec{Deployment: "D"}, Deployments: []spec.Deployment{{Name: "D", Language: "go"}}},
		Classes: map[string]*instance.Class{"D": {}},
	}
	record, err := a.Record(t.Context(), host.Program{Path: "/srv/hello"}, store.NewMemoryBlobs())
	if err != nil || !record.Own || record.Identity == "" || len(record.Blobs()) > 0 {
		t.Errorf("%+v, error %v", record, err)
	}
	if _, err := Load(record, record.Graph, store.NewMemoryBlobs()); !errors.Is(err, ErrOwn) {
		t.Error(err)
	}
}

// TestRecordWithoutBlobs: a node that is not durable keeps no code.
func TestRecordWithoutBlobs(t *testing.T) {
	t.Parallel()
	a := App{Python: host.Python{Interpreter: "/usr/bin/python3", Blob: []byte("x")}, RollbackOf: 3}
	record, err := a.Record(t.Context(), host.Program{}, nil)
	if err != nil || record.Python != nil || record.Identity == "" || record.RollbackOf != 3 || !reflect.DeepEqual(record.Graph, a.Graph) {
		t.Errorf("%+v, error %v", record, err)
	}
}

// TestLoadWithoutItsBlobs: the error names the part of the application whose code is gone.
func TestLoadWithoutItsBlobs(t *testing.T) {
	t.Parallel()
	gone := strings.Repeat("ab", 32)
	for name, r := range map[string]store.Revision{
		"executable": {Go: &store.Program{Path: "/srv/ranker", Digest: gone}},
		"pickle":     {Python: &store.Program{Path: "/usr/bin/python3", Pickle: gone}},
		"part":       {Parts: map[string]store.Part{"exec:/srv/ranker": {Program: store.Program{Path: "/srv/ranker", Digest: gone}}}},
		"arguments":  {Arguments: map[string]string{"D": gone}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(r, spec.Graph{}, fileBlobs{store.NewMemoryBlobs(), map[string]string{}})
			if !errors.Is(err, store.ErrNoBlob) || r.Go != nil && !strings.Contains(err.Error(), "/srv/ranker") {
				t.Error(err)
			}
		})
	}
}

// TestExecutableIsReplacedMeanwhile: a file that is no longer the one that was looked at is not deployed.
func TestExecutableIsReplacedMeanwhile(t *testing.T) {
	t.Parallel()
	b := executable(t, "one")
	b.Digest = strings.Repeat("ab", 32)
	a := App{Build: &b, Program: &host.Program{Path: b.Path}}
	err := a.KeepBuild(KeepInBlobs(t.Context(), fileBlobs{store.NewMemoryBlobs(), map[string]string{}}))
	if err == nil || !strings.Contains(err.Error(), "deploy it again") {
		t.Error(err)
	}
}

// TestRecordOfAPart: the store has no environment of the node, in which secrets are; a worker of a part has that of the node that starts it.
func TestRecordOfAPart(t *testing.T) {
	t.Parallel()
	blobs := fileBlobs{store.NewMemoryBlobs(), map[string]string{}}
	b := executable(t, "#!/bin/sh\n")
	g := spec.Graph{App: "shop", Ingress: &spec.IngressSpec{Deployment: "D"}, Deployments: []spec.Deployment{{Name: "D", Language: "go", Import: "exec:/srv/rank"}}}
	a := App{Graph: g, Parts: map[string]*Part{"exec:/srv/rank": {Graph: g, Program: host.Program{Path: b.Path, Env: []string{"KEY=k-1"}}, Build: b}}}
	r, err := a.Record(t.Context(), host.Program{}, blobs)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(r); err != nil || strings.Contains(string(text), "k-1") {
		t.Errorf("%s, %v", text, err)
	}
}
