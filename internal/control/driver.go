// Package control has the operations that people and programs ask of a node. A connected driver asks for them by the requests of
// package protocol.
package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/claim"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/pack"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/spec"
)

// Node is the node whose operations a [Driver] asks for.
type Node interface {
	Deploy(ctx context.Context, app deploy.App) error
	// LoadPart looks into an executable with Go applications.
	LoadPart(ctx context.Context, path, app string, c build.Command) (*deploy.Part, error)
	// LoadBuild looks into an executable for one of its applications, to deploy it.
	LoadBuild(ctx context.Context, path, app string, c build.Command) (deploy.App, error)
	// Deployed gives an application as it was deployed, and a revision of it; ok is false if there is none. See [fleet.Fleet.Deployed].
	Deployed(app string, revision int) (now deploy.App, then *deploy.App, ok bool)
	// Durable says that applications outlive the node, and Keep packs a directory or file of a program for that.
	Durable() bool
	Keep(ctx context.Context, path string, leave []pack.Excludes) (kept pack.Packed, notice string, err error)
	// WouldKeep is the answer of Keep, and keeps nothing.
	WouldKeep(ctx context.Context, path string, leave []pack.Excludes) (kept pack.Packed, notice string, err error)
	// NoteUnstored records that the store has refused a change of an application.
	NoteUnstored(app string, err error)
	Delete(ctx context.Context, name string) error
	// Scale sets the number of replicas of a deployment. by and why are for people.
	Scale(ctx context.Context, app, deployment string, n int, by, why string) error
	// Rollback deploys an application again as a revision before has it; 0 is the one that ran before the present one. by is for people.
	Rollback(ctx context.Context, app string, revision int, by string) error
	// Reconfigure gives all replicas of a deployment another user config.
	Reconfigure(ctx context.Context, app, deployment string, config json.RawMessage) error
	// OpenHTTP opens the HTTP ingress if port is set and it is not open yet, and gives its URL; "" without one.
	OpenHTTP(host string, port *int, o proxy.Options, idle time.Duration) (url string, err error)
}

// Driver answers the requests of a connected driver: a process that holds handles, deploys applications, and hosts no replica.
type Driver struct {
	node   Node
	owners *Owners
	claims *claim.Claims
	table  protocol.Table

	// Name is the name of the driver in records, for people. It is set before the first request.
	Name string
	// Changed is told each change that the driver has asked for, when it is over, for the audit log; nil for none. It is set before the first request.
	Changed func(operation, object, detail string, err error)
}

// note tells of a change. Tasks and actors are applications that come and go all the time, and are left out.
func (d *Driver) note(operation, object, detail string, err error) {
	if d.Changed != nil && !strings.HasPrefix(object, spec.HiddenApps) {
		d.Changed(operation, object, detail, err)
	}
}

// NewDriver makes the operations of a driver of a node. All drivers of the node have the same owners and claims.
func NewDriver(n Node, o *Owners, c *claim.Claims) *Driver {
	d := &Driver{node: n, owners: o, claims: c, Name: "driver"}
	d.table = protocol.NewTable("drivers", protocol.On(d.deploy), protocol.On(d.deployBuild), protocol.On(d.delete), protocol.On(d.scale),
		protocol.On(d.rollback), protocol.On(d.configure), protocol.On(d.http))
	return d
}

// author is the author of the deploys of the driver. name is the name that the driver gives for itself; "" for none.
func (d *Driver) author(name string) helvetype.Author {
	return helvetype.Author{Name: cmp.Or(name, d.Name), Role: helvetype.RoleDeploy, Via: "driver"}
}

// Control answers one request.
func (d *Driver) Control(ctx context.Context, op string, body json.RawMessage) (any, error) {
	return d.table.Serve(ctx, op, body)
}

func (d *Driver) delete(ctx context.Context, r protocol.Delete) (protocol.Done, error) {
	d.owners.Forget(r.Name)
	d.claims.Drop(r.Name, d.Name) // a build of it that is under way is given up
	err := d.node.Delete(ctx, r.Name)
	d.note(r.Op(), r.Name, "", err)
	return protocol.Done{}, err
}

func (d *Driver) scale(ctx context.Context, r protocol.Scale) (protocol.Done, error) {
	err := d.node.Scale(ctx, r.App, r.Deployment, *r.Replicas, d.Name, r.Reason)
	d.note(r.Op(), r.App+"/"+r.Deployment, strings.TrimSuffix(fmt.Sprintf("%d replicas: %s", *r.Replicas, r.Reason), ": "), err)
	return protocol.Done{}, err
}

func (d *Driver) rollback(ctx context.Context, r protocol.Rollback) (protocol.Done, error) {
	err := d.wait(ctx, func() error { return d.node.Rollback(ctx, r.App, r.Revision, d.Name) })
	d.note(r.Op(), r.App, fmt.Sprint("to revision ", r.Revision), err)
	return protocol.Done{}, err
}

func (d *Driver) configure(ctx context.Context, r protocol.Configure) (protocol.Done, error) {
	err := d.node.Reconfigure(ctx, r.App, r.Deployment, r.UserConfig)
	d.note(r.Op(), r.App+"/"+r.Deployment, "", err)
	return protocol.Done{}, err
}

func (d *Driver) http(_ context.Context, r protocol.HTTP) (protocol.Address, error) {
	o := proxy.Options{
		RequestTimeout: seconds(r.RequestTimeout), RootPath: r.RootPath,
		TLS: listen.Files{Certificate: r.Certificate, Key: r.Key, KeyPassword: r.KeyPassword, ClientCA: r.ClientCA},
	}
	url, err := d.node.OpenHTTP(r.Host, r.Port, o, seconds(r.KeepAliveTimeout))
	return protocol.Address{URL: url}, err
}

// seconds is a time of JSON; 0 for null.
func seconds(s *float64) time.Duration {
	if s == nil {
		return 0
	}
	return time.Duration(min(max(*s, -1), spec.MaxDuration.Seconds()) * float64(time.Second))
}

// claim takes an application over from the requests that build it: the deploy that was asked for last wins. Applications of tasks and actors have programs only.
func (d *Driver) claim(app, by string) *claim.Claim {
	if strings.HasPrefix(app, spec.HiddenApps) {
		return nil
	}
	all, _ := d.claims.Take(by, app)
	return all[app]
}

func (d *Driver) deploy(ctx context.Context, r protocol.Deploy) (done protocol.Deployed, err error) {
	c := d.claim(r.App.Name, d.author(r.App.Author).Name)
	app, err := pythonApplication(ctx, d.node, r.App)
	if err != nil {
		return done, call.NewError(helvetype.ReasonBadInput, err.Error())
	}
	if done.Left, done.Notices, err = keep(ctx, d.node, d.node.Keep, &app, r.App.Own); err != nil {
		return done, err
	}
	done.Notices = append(done.Notices, app.Warnings()...)
	if c.Taken() { // while its directories were packed
		err := c.Error(app.Graph.App)
		d.note(r.Op(), app.Graph.App, "", err)
		return done, call.NewError(helvetype.ReasonDeploymentUnavailable, err.Error())
	}
	app.Author = d.author(r.App.Author)
	if now, _, ok := d.node.Deployed(app.Graph.App, 0); ok && now.Source != "" {
		done.Notices = append(done.Notices, fmt.Sprintf("application %q was deployed by source %s, and belongs to this program with this deploy; the next deploy from there takes it back", app.Graph.App, now.Source))
	}
	var unchanged atomic.Bool
	app.Unchanged, app.Taken = func() { unchanged.Store(true) }, c.Taken
	deploy := func() error { return d.node.Deploy(ctx, app) }
	switch {
	case r.App.EndsWithDriver:
		err = d.wait(ctx, func() error { return d.deployOwned(ctx, app.Graph.App, deploy) })
	case r.Background:
		err = d.deployInBackground(ctx, app)
	default:
		err = d.wait(ctx, deploy)
	}
	at, err := d.deployed(err)
	done.URL, done.Unchanged = at.URL, unchanged.Load()
	d.note(r.Op(), app.Graph.App, "", err)
	return done, err
}

// deployBuild deploys as a program does that has a node of its own.
func (d *Driver) deployBuild(ctx context.Context, r protocol.DeployBuild) (protocol.Address, error) {
	app, err := d.node.LoadBuild(ctx, r.Path, r.App, build.Command{Args: r.Args, Env: r.Env, Dir: r.Dir})
	if err != nil {
		return protocol.Address{}, call.NewError(helvetype.ReasonBadInput, err.Error())
	}
	app.Retry, app.Replace, app.Author = true, true, d.author("")
	d.claim(app.Graph.App, app.Author.Name)
	at, err := d.deployed(d.wait(ctx, func() error { return d.node.Deploy(ctx, app) }))
	d.note(r.Op(), app.Graph.App, r.Path, err)
	return at, err
}

// wait runs a deploy and returns its error. In a durable node it returns when the driver has gone too: the deploy goes on from when the store has it, and the end of the
// connection, which waits for all replies, must not come later. For example, a driver is killed whose application loads a model for five minutes: its slots are given
// back at once.
func (d *Driver) wait(ctx context.Context, deploy func() error) error {
	if !d.node.Durable() {
		return deploy()
	}
	over := make(chan error, 1)
	go func() { over <- deploy() }()
	select {
	case err := <-over:
		return err
	case <-ctx.Done():
		return call.EndOf(ctx)
	}
}

// deployed is the reply to a deploy that has ended with an error, or well.
func (d *Driver) deployed(err error) (protocol.Address, error) {
	if errors.Is(err, deploy.ErrClosing) { // the next node of one that hands over deploys it
		return protocol.Address{}, err
	}
	if err != nil { // the driver shows the text alone: it has to say where
		e := call.NewError(call.AsError(err).Reason, err.Error())
		if _, ok := errors.AsType[*deploy.RouteTakenError](err); ok {
			e.Type = routeTaken
		}
		return protocol.Address{}, e
	}
	url, err := d.node.OpenHTTP("", nil, proxy.Options{}, 0)
	return protocol.Address{URL: url}, err
}

// routeTaken is the type of the error of a driver's deploy whose route belongs to another application. Python has an exception of its own
// for it.
const routeTaken = "route_taken"

// deployInBackground returns when the application is the target, or the error that keeps it from that. The deploy goes on until it is over,
// also when the driver has gone.
func (d *Driver) deployInBackground(ctx context.Context, app deploy.App) error {
	added, over := make(chan struct{}), make(chan error, 1)
	app.Added = func() { close(added) }
	go func() { over <- d.node.Deploy(context.WithoutCancel(ctx), app) }()
	select {
	case <-added:
		return nil
	case err := <-over:
		return err
	}
}

// pythonApplication is an application as a driver sends it, with all that is wrong with it.
func pythonApplication(ctx context.Context, n Node, a protocol.PythonApp) (deploy.App, error) {
	g := spec.Graph{App: a.Name, Ingress: &spec.IngressSpec{Deployment: a.Ingress, DocsPath: a.DocsPath}}
	if a.RoutePrefix != nil {
		g.RoutePrefix = *a.RoutePrefix
	}
	var mistakes []error
	versions := map[string]string{}
	app := deploy.App{Graph: g, Replace: true, Attempts: true, KeepFailed: true, CodeVersions: versions, From: a.Program, Python: host.Python{
		Interpreter: a.Python, SysPath: a.SysPath, Dir: a.Dir, Env: a.Env, Blob: a.Blob,
	}}
	loaded := parts{}
	for _, s := range a.Deployments {
		if s.Go != nil {
			if err := addPart(ctx, n, loaded, &app, a, s); err != nil {
				mistakes = append(mistakes, spec.InDeployment(s.Name, err)...)
			}
			continue
		}
		if s.CodeVersion != "" {
			versions[s.Name] = s.CodeVersion
		}
		p := spec.Deployment{Name: s.Name, Language: "python", Import: s.Class, Uses: s.Uses}
		options, err := deploy.UnderApplication(a.RuntimeEnv, s.Options)
		if err != nil {
			mistakes = append(mistakes, spec.InDeployment(s.Name, err)...)
		}
		if len(options) > 0 {
			if err := json.Unmarshal(options, &p.Options); err != nil {
				mistakes = append(mistakes, spec.InDeployment(s.Name, err)...)
			}
		}
		app.Graph.Deployments = append(app.Graph.Deployments, p)
	}
	if len(mistakes) == 0 {
		mistakes = append(app.AddUsed(), app.Graph.Validate()...)
	}
	return app, errors.Join(mistakes...)
}
