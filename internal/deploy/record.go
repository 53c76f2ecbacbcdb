package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// Keep keeps the code of the application and describes it for the store. A durable node has blobs; for another one blobs is nil, and its executables are
// kept in the directory that dir gives.
func (a *App) Keep(ctx context.Context, own host.Program, blobs store.Blobs, dir func() (string, error)) (r store.Revision, err error) {
	keep := KeepInDir(dir)
	if blobs != nil {
		keep = KeepInBlobs(ctx, blobs)
	}
	if err := a.KeepBuild(keep); err != nil {
		return r, err
	}
	return a.Record(ctx, own, blobs)
}

// Record describes the application for the store, with all that starts it again: how its processes are started, and the digests of their code.
// The code goes into blobs. nil blobs keep no code: the record is then for people, and for the numbers of revisions. [Load] is the way back.
//
// For example, a script deploys a class of its own: the record has the interpreter and the sys.path of the script, and the digest of a blob with
// the cloudpickle of the class. An application of the node's own executable is Own, and has no code.
//
// KeepBuild must have been called. own starts the Go workers of the node's executable.
func (a *App) Record(ctx context.Context, own host.Program, blobs store.Blobs) (r store.Revision, err error) {
	r = store.Revision{
		Graph: a.Graph, From: cmp.Or(a.From, a.Origin(own)), Identity: a.Identity(own), RollbackOf: a.RollbackOf, By: a.Author.Name, Source: a.Source, Message: a.Message,
		Submitted: a.Submitted, Keep: a.Options().Effective().HistoryLimit, ExternalScaler: a.Options().Effective().ExternalScaler,
	}
	if err := a.Layers.record(a.Graph, &r); err != nil {
		return r, err
	}
	if blobs == nil {
		return r, nil
	}
	if r.Own = len(a.Classes) > 0 || len(a.Python.Code) > 0; r.Own {
		return r, nil
	}
	r.Versions, r.Archives = clone(a.CodeVersions), clone(a.archives)
	if a.Program != nil {
		r.Go = programRecord(*a.Program, a.digest)
	}
	if py := a.Python; py.Interpreter != "" {
		r.Python = &store.Program{Path: py.Interpreter, Dir: py.Dir, Env: clone(py.Env), SysPath: py.SysPath, Last: py.Last}
		for _, p := range py.Packed {
			r.Python.Packed = append(r.Python.Packed, store.Packed(p))
		}
		if py.File != "" { // of an older revision, which may be deleted meanwhile
			r.Python.Pickle, _, err = blobs.PutFile(ctx, py.File, false)
		} else {
			r.Python.Pickle, err = put(ctx, blobs, py.Blob)
		}
		if err != nil {
			return r, err
		}
		if err := usePickle(&a.Python, r.Python.Pickle, blobs); err != nil {
			return r, err
		}
	}
	for from, p := range a.Parts {
		program := programRecord(p.Program, p.Build.Digest)
		program.Env = nil // the worker has the environment of its node, whose secrets the store must not have
		set(&r.Parts, from, store.Part{Graph: p.Graph, Program: *program})
	}
	for name, args := range a.Arguments {
		digest, err := put(ctx, blobs, args)
		if err != nil {
			return r, err
		}
		set(&r.Arguments, name, digest)
	}
	r.Code = digests(r)
	return r, nil
}

// digests are those of the blobs of a record, each once.
func digests(r store.Revision) (all []string) {
	programs := []*store.Program{r.Go, r.Python}
	for _, p := range r.Parts {
		programs = append(programs, &p.Program)
	}
	for _, p := range programs {
		if p == nil {
			continue
		}
		all = append(all, p.Digest, p.Pickle)
		for _, packed := range p.Packed {
			all = append(all, packed.Digest)
		}
	}
	all = slices.AppendSeq(all, maps.Values(r.Arguments))
	slices.Sort(all)
	all = slices.Compact(all)
	return slices.DeleteFunc(all, func(digest string) bool { return digest == "" })
}

// programRecord describes the start of an executable.
func programRecord(p host.Program, digest string) *store.Program {
	r := &store.Program{Path: p.Path, Digest: digest, Args: p.Args, Dir: p.Dir}
	for _, v := range p.Env {
		if name, value, ok := strings.Cut(v, "="); ok {
			set(&r.Env, name, value)
		}
	}
	return r
}

// put keeps a value that is not empty.
func put(ctx context.Context, blobs store.Blobs, b []byte) (digest string, err error) {
	if len(b) == 0 {
		return "", nil
	}
	return store.PutBlob(ctx, blobs, b)
}

// ErrOwn is the error of [Load] for an application of the executable of a node.
var ErrOwn = errors.New("its code is in the executable of the node that it was deployed to")

// Load is the application that a record describes, with its code from the blobs. g is its graph. Failed starts of it are made again.
func Load(r store.Revision, g spec.Graph, blobs store.Blobs) (a App, err error) {
	if r.Own {
		return a, ErrOwn
	}
	a = App{Graph: g, At: r.At, Author: helvetype.Author{Name: r.By}, Message: r.Message, Source: r.Source, From: r.From, Submitted: r.Submitted, CodeVersions: clone(r.Versions), archives: clone(r.Archives), identity: r.Identity, Replace: true, Retry: true, Attempts: true, KeepFailed: true}
	if a.Graph, a.Layers, err = layersOf(r, g); err != nil {
		return a, err
	}
	if r.Go != nil {
		p, err := program(*r.Go, blobs)
		if err != nil {
			return a, err
		}
		a.Program, a.digest = &p, r.Go.Digest
	}
	if py := r.Python; py != nil {
		a.Python = host.Python{Interpreter: py.Path, Dir: py.Dir, Env: clone(py.Env), SysPath: py.SysPath, Last: py.Last}
		for _, p := range py.Packed {
			a.Python.Packed = append(a.Python.Packed, host.Packed(p))
		}
		if err := usePickle(&a.Python, py.Pickle, blobs); err != nil {
			return a, err
		}
	}
	for from, p := range r.Parts {
		of, err := program(p.Program, blobs)
		if err != nil {
			return a, err
		}
		of.Env = nil // the record may be of a node that kept its environment there
		set(&a.Parts, from, &Part{Graph: p.Graph, Program: of, Build: build.Build{Path: of.Path, Digest: p.Program.Digest}})
	}
	for name, digest := range r.Arguments {
		args, err := get(blobs, digest)
		if err != nil {
			return a, err
		}
		set(&a.Arguments, name, args)
	}
	return a, nil
}

// Describe gives an application whose code is in the executable of the node the author, message, source and overrides of a record. An override that does
// not fit the executable any more is dropped.
func (a *App) Describe(r store.Revision) {
	a.Author.Name, a.Message, a.Source, a.From, a.Submitted = r.By, r.Message, r.Source, r.From, r.Submitted
	a.Override(r.Overrides)
}

// program is the executable of a record: the blob, if there is one.
func program(r store.Program, blobs store.Blobs) (p host.Program, err error) {
	p = host.Program{Path: r.Path, Args: r.Args, Dir: r.Dir}
	for _, name := range slices.Sorted(maps.Keys(r.Env)) {
		p.Env = append(p.Env, name+"="+r.Env[name])
	}
	if r.Digest == "" {
		return p, nil
	}
	if p.Path, err = blobs.Path(r.Digest); err != nil {
		return p, fmt.Errorf("the executable %s: %w", r.Path, err)
	}
	return p, nil
}

// usePickle has workers read the cloudpickle of an application from the file of its blob, or from memory where blobs are no files.
func usePickle(py *host.Python, digest string, blobs store.Blobs) (err error) {
	if digest == "" {
		return nil
	}
	switch py.File, err = blobs.Path(digest); {
	case err == nil:
		py.Digest, py.Blob = digest, nil
	case errors.Is(err, store.ErrNoFile):
		py.Blob, err = get(blobs, digest)
	}
	return err
}

// get reads a blob; nil for the digest "".
func get(blobs store.Blobs, digest string) ([]byte, error) {
	if digest == "" {
		return nil, nil
	}
	return store.ReadBlob(blobs, digest)
}

func clone[M ~map[K]V, K comparable, V any](m M) M {
	if len(m) == 0 {
		return nil
	}
	return maps.Clone(m)
}

// some is a slice as the store gives it back: nil for one without elements.
func some[E any](all []E) []E { return append([]E(nil), all...) }

func set[K comparable, V any](m *map[K]V, key K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[key] = v
}

// KeepInDir keeps the executable of a build in a directory. See [App.KeepBuild].
func KeepInDir(dir func() (string, error)) func(*build.Build) (path string, err error) {
	return func(b *build.Build) (string, error) {
		at, err := dir()
		if err != nil {
			return "", err
		}
		return b.Keep(at)
	}
}

// Kept finds the executable of a build where [KeepInDir] or [KeepInBlobs] has kept it, and keeps nothing: one that is not kept is at its own path. blobs is nil for a
// directory. See [App.KeepBuild].
func Kept(dir func() (string, error), blobs store.Blobs) func(*build.Build) (path string, err error) {
	return func(b *build.Build) (string, error) {
		if blobs != nil {
			if at, err := blobs.Path(b.Digest); err == nil {
				return at, nil
			}
		} else if in, err := dir(); err == nil {
			if at, ok := b.Kept(in); ok {
				return at, nil
			}
		}
		return b.Path, nil
	}
}

// KeepInBlobs keeps the executable of a build in the blobs, from where its workers run. See [App.KeepBuild].
func KeepInBlobs(ctx context.Context, blobs store.Blobs) func(*build.Build) (path string, err error) {
	return func(b *build.Build) (string, error) {
		digest, _, err := blobs.PutFile(ctx, b.Path, true)
		if err != nil {
			return "", err
		}
		if digest != b.Digest {
			return "", fmt.Errorf("%s was replaced while it was being deployed: deploy it again", b.Path)
		}
		return blobs.Path(digest)
	}
}
