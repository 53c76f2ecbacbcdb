// Package deploy describes an application to deploy: its graph and code, the mistakes in it that can be seen before anything starts, the
// identity of its code, and the host of each of its deployments. It starts nothing.
package deploy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/inprocess"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/policy"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/secret"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/worker"
)

// App is an application to deploy.
type App struct {
	Graph   spec.Graph
	Classes map[string]*instance.Class // the Go deployments, by name
	Python  host.Python                // where the Python deployments come from
	// CodeVersions say for a Python deployment which code it runs: two deploys with equal versions run the same code. A deployment
	// without one has new code in each deploy.
	CodeVersions map[string]string
	// Bound is told each deployment before anything starts, so that handles lead somewhere when constructors run. May be nil.
	Bound func(name string, d *serving.Deployment)
	// Policies make the routing policies that the deployments' own code brings, anew for every Deploy.
	Policies map[string]func() router.Policy
	policies map[string]router.Policy // made by Check
	// Scaling are the autoscaling policies that the code of this process brings, by the names of their deployments; that of the application has the name "".
	Scaling  map[string]policy.Policy
	archives map[string][]string // digests of the archives of each Python deployment, by Check
	digest   string              // of the executable of Program, by KeepBuild
	identity string              // of an application that a record describes, see [Load]; "" for others
	Home     any                 // goes into the places of calls that the node makes itself, for handles of their methods
	// Program starts the Go worker of an application that lives in another executable; nil for the node's own.
	Program *host.Program
	// Build is the executable of Program, which is copied into the node's private directory, so that its file may be replaced.
	Build *build.Build
	// Parts are the builds that have some of the Go deployments, by the Import of these; see [Part].
	Parts map[string]*Part
	// Arguments are the arguments that deployments of Parts were bound with, by the names of the deployments, as in [protocol.Code].
	Arguments map[string][]byte
	// Runner is a Go worker on a goroutine of this process, for tests. nil starts a process.
	Runner host.Runner
	// Replace says that an application of this name that runs already changes to this one. One that is still being deployed is given up for
	// this one: the last deploy wins, and the other one fails with [ErrSuperseded].
	Replace bool
	// Retry says that failed starts are made again, as often as the reference does, before Deploy fails.
	Retry bool
	// Attempts says that a start that fails is made again until its deployment has failed as often as [planner.MaxFailures] says. Then Deploy
	// fails, also if other replicas of the deployment run by then: a program waits for it.
	Attempts bool
	// KeepFailed says that an application that was not there before, and fails to start, stays in the status as DEPLOY_FAILED with its error,
	// without any replica. It is gone with Delete, and with the next Deploy of its name.
	KeepFailed bool
	// Author is the person or program that deploys it, and Message its note for the history.
	Author  helvetype.Author
	Message string
	// Source is the source of the apply that deploys it, as in [helvetype.ApplyRequest]; "" for programs. From is the file or the directory that it comes from; "" for the
	// host and directory of [App.Origin]. Submitted is the configuration as it was submitted, as JSON; nil for none.
	Source    string
	From      string
	Submitted json.RawMessage
	// Layers has the overrides that the options of Graph have, and the options below.
	Layers Layers
	// Changes is the number of the revision whose options this application changes, and whose code it has; 0 for others. Replicas of that revision go on also if nothing
	// else identifies the code. The deploy is refused with [ErrChanged] if another revision is the target by then. For example, an operator sets an option of
	// revision 3 while another deploys 4: the change is refused, because it would bring back the code of 3.
	Changes int
	// Cleared are the deployments whose number of replicas becomes that of their options, in place of one that an operator has set. For example, num_replicas is 2 and an operator has scaled to 5:
	// a deploy of the same options leaves 5, and one with the deployment in Cleared has 2.
	Cleared map[string]bool
	// Number is that of the revision, of an application that is deployed; 0 for others. A deploy does not look at it.
	Number int
	// RollbackOf is the revision that this application repeats; 0 for none. The numbers of replicas stay then.
	RollbackOf uint64
	// Undoes is for an automatic rollback: the revision that has failed after its rollout. nil for others.
	Undoes *Undo
	// Restored says that the node before has run the application, which was deployed at the time At: its start is never given up.
	Restored bool
	At       time.Time
	// Added is called when the application is the target, perhaps before anything of it has started. A program that gives it waits for no more, so that the log has the
	// errors of starts. nil for a program that waits for Deploy.
	Added func()
	// Taken says that another deploy has taken the place of this one before it was the target: it fails with [ErrSuperseded]. May be nil.
	Taken func() bool
	// Unchanged is called instead of any change if the application runs already as it is described here; before Added. May be nil.
	Unchanged func()
}

// KeepBuild keeps the executables of an application by the function, which gives the path of the copy that their workers run: the files may be
// replaced after that.
func (a *App) KeepBuild(keep func(*build.Build) (path string, err error)) error {
	kept := func(b *build.Build, p host.Program) (host.Program, error) {
		path, err := keep(b)
		if err != nil {
			return p, fmt.Errorf("%s cannot be kept: %w", b.Path, err)
		}
		p.Path = path
		return p, nil
	}
	for _, p := range a.Parts {
		var err error
		if p.Program, err = kept(&p.Build, p.Program); err != nil {
			return err
		}
	}
	if a.Build == nil {
		return nil
	}
	p, err := kept(a.Build, *a.Program)
	if err != nil {
		return err
	}
	a.Program, a.digest, a.Build = &p, a.Build.Digest, nil
	return nil
}

// Origin says where the application was deployed from: host and directory. node is the program of the node.
func (a *App) Origin(node host.Program) string {
	dir := node.Dir
	if a.Python.Dir != "" {
		dir = a.Python.Dir
	} else if a.Program != nil {
		dir = a.Program.Dir
	}
	name, err := os.Hostname()
	if err != nil {
		return dir
	}
	return name + ":" + dir
}

// Policy makes the routing policy of a deployment; nil for the default.
func (a *App) Policy(d *host.Deployment) router.Policy {
	switch r := d.Options.RequestRouter; r.Policy {
	case spec.RoundRobin:
		return router.NewRoundRobin()
	case spec.ConsistentHash:
		return router.NewConsistentHash(r.VirtualNodes, r.FallbackReplicas)
	case spec.Custom:
		if p := a.policies[d.Name]; p != nil {
			return p
		}
	}
	return nil
}

// Settings are the settings of the node for hosts.
type Settings struct {
	Node    string // its id
	Codec   *codec.Codec
	Program host.Program // of the Go workers of this executable
	// Drains, Metrics, Strict and OutOfLine are for replicas in this process: see [inprocess.Host].
	Drains    *instance.Drains
	Metrics   *telemetry.UserMetrics
	Strict    call.Codec
	OutOfLine bool
	// Host replaces the host of a deployment, for tests; nil, or a nil result, for the one of its kind.
	Host func(d *host.Deployment) host.Host
}

// Placement is the host of a deployment.
type Placement struct {
	Host host.Host
	Code Code
	// GoKey is the key of the Go worker that has its replicas; "" for other hosts.
	GoKey string
}

// Code identifies the code of a deployment and the process of its replicas, in two ways.
type Code struct {
	// Compared is equal for deploys of the same files; "" is equal to no other.
	Compared string
	// Kept is the code as the revision keeps it, for a revision that repeats another; "" is equal to no other. For example, two runs of one script make two
	// cloudpickles, and nothing says that they do the same; a rollback to the first run has the cloudpickle that the replicas of the first run have.
	Kept string
}

// Same says whether replicas of a deployment with one code are as good as replicas with the other. repeats says that one of the two was made from the record of a
// revision before.
func (c Code) Same(other Code, repeats bool) bool {
	return c.Compared != "" && c.Compared == other.Compared || repeats && c.Kept != "" && c.Kept == other.Kept
}

// noteSecrets makes the values of the application's placeholders known, because workers may print them, those of a killed node too. A file that cannot be read has none: the start of a replica
// says so.
func (a *App) noteSecrets(s *secret.Resolver) {
	s.Note(string(a.Submitted))
	s.NotePickle(a.Python.Digest, func() []byte {
		if a.Python.File == "" {
			return a.Python.Blob
		}
		b, _ := os.ReadFile(a.Python.File)
		return b
	})
}

// Place gives a deployment the host of its kind: the one place where the kinds are told apart.
func (a *App) Place(s spec.Deployment, hosts *host.App, set Settings) (*host.Deployment, Placement) {
	a.noteSecrets(hosts.Secrets())
	d := &host.Deployment{App: a.Graph.App, Name: s.Name, Spec: s, Options: s.Options.Effective(), Class: a.Classes[s.Name]}
	version := ""
	if d.Options.Version != "" {
		version = "version " + d.Options.Version
	}
	if set.Host != nil {
		if h := set.Host(d); h != nil {
			return d, Placement{Host: h, Code: Code{version, keptClass(d.Class)}}
		}
	}
	switch {
	case s.Language == "python":
		return d, Placement{Host: &host.PythonWorker{Deployment: d, App: hosts, Python: a.Python, Env: set.Program.Env}, Code: a.pythonCode(s.Name, version)}
	case d.Options.Isolation == spec.Process || a.Program != nil:
		g := a.goWorker(d, hosts, set.Program)
		key := g.Key()
		code := "worker " + key + " " + version
		if s.Class != "" {
			code += fmt.Sprintf(" %s %x", s.Class, sha256.Sum256(g.Args))
		}
		return d, Placement{Host: g, Code: Code{Compared: code}, GoKey: key}
	}
	return d, Placement{Host: &inprocess.Host{Deployment: d, Node: set.Node, Codec: set.Codec, Drains: set.Drains, Metrics: set.Metrics, Secrets: hosts.Secrets(), Trace: hosts.Trace(), Strict: set.Strict, OutOfLine: set.OutOfLine}, Code: Code{version, keptClass(d.Class)}}
}

// keptClass identifies a class of this process, for as long as the class is there; "" for none.
func keptClass(class *instance.Class) string {
	if class == nil {
		return ""
	}
	return fmt.Sprintf("class %p", class)
}

// goWorker is the host of a deployment in a Go worker.
func (a *App) goWorker(d *host.Deployment, hosts *host.App, own host.Program) *host.GoWorker {
	g := &host.GoWorker{Deployment: d, App: hosts, Graph: &a.Graph, Program: own, Runner: a.Runner}
	if a.Program != nil {
		g.Program = *a.Program
	}
	if p := a.Parts[d.Spec.Import]; p != nil {
		g.Built, g.Program, g.Args = &p.Graph, p.Program, a.Arguments[d.Name]
		g.Program.Env = worker.WithVariables(own.Env, variables(p.Program.Env))
	}
	for _, s := range a.Graph.Deployments {
		if o := s.Options.Effective(); s.Language != "python" && s.Import == d.Spec.Import && (o.Isolation == spec.Process || a.Program != nil) {
			g.Shared = append(g.Shared, &host.Deployment{App: d.App, Name: s.Name, Options: o})
		}
	}
	return g
}

// variables are the variables of an environment, by name.
func variables(env []string) map[string]string {
	all := map[string]string{}
	for _, v := range env {
		if name, value, ok := strings.Cut(v, "="); ok {
			all[name] = value
		}
	}
	return all
}

// Identity tells whether a worker that was started for an application can serve it as it is defined here: the graph, the code, and
// the inputs of its process. Options that may change while it runs, like the number of replicas, are not part of it.
func (a *App) Identity(own host.Program) string {
	if a.identity != "" {
		return a.identity
	}
	p := own
	if a.Program != nil {
		p = *a.Program
	}
	env, dir, limits := a.Graph.GoWorker("")
	var python []any
	for _, d := range a.Graph.Deployments {
		if d.Language == "python" {
			o := d.Options
			python = append(python, d.Name, o.Env, o.Dir, o.Limits, o.Resources, o.PyModules, o.Pip, a.archives[d.Name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.Parts)) {
		part := a.Parts[name]
		env, dir, limits := a.Graph.GoWorker(name)
		python = append(python, name, part.Graph.Digest(), part.Program.Path, env, dir, limits)
	}
	pickle := a.Python.Digest
	if pickle == "" {
		pickle = store.Digest(a.Python.Blob)
	}
	b, err := json.Marshal([]any{
		a.Graph.Digest(), p.Path, worker.Fingerprint(p.Path), p.Args, p.Dir, env, dir, limits,
		python, a.Arguments, a.Python.Interpreter, a.Python.SysPath, a.Python.Last, a.Python.Dir, a.Python.Env, pickle, a.Python.Code, a.CodeVersions,
	})
	if err != nil {
		return "" // equal to no other
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// pythonCode identifies the code of a Python deployment and the process that runs it. The code of two deploys is equal when both come from one import path whose
// module files have the same bytes, or when both set the same version. The directories of the program's own modules are no part of it: a file that is applied again from another
// checkout restarts nothing. Directories of installed packages are. Pickles of two deploys are never compared: they differ from run to run.
func (a *App) pythonCode(name, version string) (c Code) {
	py := a.Python
	identify := func(code string, more ...any) string {
		b, err := json.Marshal(append([]any{code, py.Interpreter, some(packages(py.SysPath)), some(packages(py.Last)), clone(py.Env), py.Code[name], some(a.archives[name])}, more...))
		if code == "" || err != nil {
			return ""
		}
		return "python " + string(b)
	}
	return Code{Compared: identify(cmp.Or(version, a.CodeVersions[name])), Kept: identify(py.Digest, some(py.SysPath), some(py.Last), py.Dir, some(py.Packed))}
}

// SameFiles names the Python deployments whose working_dir has the same files in two applications, under another path perhaps. For example, an operator copies /srv/v1 to
// /srv/v2 and changes the path in the file: the replicas run from the node's copy, and go on.
func SameFiles(now, next *App) map[string]bool {
	return sameFiles(now.Graph, next.Graph, now.packed, next.packed)
}

// SameFilesOf is [SameFiles] of two records.
func SameFilesOf(now, next store.Revision) map[string]bool {
	in := func(r store.Revision) func(path string) host.Packed {
		var a App
		if r.Python != nil {
			for _, p := range r.Python.Packed {
				a.Python.Packed = append(a.Python.Packed, host.Packed(p))
			}
		}
		return a.packed
	}
	return sameFiles(now.Graph, next.Graph, in(now), in(next))
}

func sameFiles(now, next spec.Graph, before, after func(path string) host.Packed) map[string]bool {
	same := map[string]bool{}
	for _, is := range next.Deployments {
		was := slices.IndexFunc(now.Deployments, func(d spec.Deployment) bool { return d.Name == is.Name && d.Language == is.Language })
		if was < 0 || is.Language != "python" {
			continue
		}
		b, a := before(now.Deployments[was].Options.Dir), after(is.Options.Dir)
		same[is.Name] = b.Content != "" && b.Content == a.Content || b.Digest != "" && b.Digest == a.Digest
	}
	return same
}

// packages are the entries of sys.path that have installed packages.
func packages(path []string) []string {
	return slices.DeleteFunc(slices.Clone(path), func(entry string) bool {
		parts := strings.Split(entry, "/")
		return !slices.Contains(parts, "site-packages") && !slices.Contains(parts, "dist-packages")
	})
}

// SamePlaces says that the replicas of an application that runs may start where they start now, for a deploy of the same code: the directories are the same, or the node has
// copies of those that now has. Otherwise the deploy needs a revision of its own, whose new replicas start in the other directory, because the operator may
// remove the first one.
func SamePlaces(now, next *App) bool {
	packed := func(path string) bool {
		return slices.ContainsFunc(now.Python.Packed, func(p host.Packed) bool { return p.Path == path })
	}
	for _, path := range append(slices.Clone(now.Python.SysPath), now.Python.Dir) {
		if path != "" && path != next.Python.Dir && !slices.Contains(next.Python.SysPath, path) && !packed(path) {
			return false
		}
	}
	return true
}
