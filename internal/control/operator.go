package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/access"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/claim"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/profiler"
	"github.com/helve-serve/helve/internal/pyenv"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/restore"
	"github.com/helve-serve/helve/internal/secret"
	"github.com/helve-serve/helve/internal/settings"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/trace"
	"github.com/helve-serve/helve/internal/why"
	"github.com/helve-serve/helve/internal/worker"
)

// Operated is the node that an [Operator] changes.
type Operated interface {
	Node
	// Status is a copy of the present state.
	Status() helvetype.Status
	// Calls lists the calls that wait and run at an application, a deployment or a replica; with empty names at all.
	Calls(at helvetype.Object, limit int) helvetype.CallList
	// Deployed is the application as it is deployed now, and, if this process keeps its code, as a revision has it.
	Deployed(app string, revision int) (now deploy.App, then *deploy.App, ok bool)
	// Compare looks at an application as a deploy of it would, and deploys nothing.
	Compare(ctx context.Context, def deploy.App) (deploy.Comparison, error)
	// Missing says why there is no application of the name that serves.
	Missing(app string) error
	// Absent says why there is no deployment of the name.
	Absent(app, deployment string) error
	// PauseRollout stops the rollout of an application where it is, and ResumeRollout goes on with it, or ends the wait of a step. by is for people.
	PauseRollout(ctx context.Context, app, by string) error
	ResumeRollout(ctx context.Context, app, by string) error
	// Restart replaces replicas by new ones of the same revision, within the budgets of rollouts. by is for people.
	Restart(app, deployment, replica, by string) error
	// Asked is a replica, or the process in which it starts, for questions to its process.
	Asked(app, deployment, replica string) (host.Asked, error)
	// Readiness has the applications of the node, and says of each whether it answers requests.
	Readiness() map[string]bool
	// UseSettings makes settings those of the node; starts says that it has no listener yet. The warnings are about options that it does not take now.
	UseSettings(s settings.Node, starts bool) (warnings []string, err error)
	// Receiver is the receiver of spans, and the numbers of spans; the other fields are zero.
	Receiver() helvetype.Tracing
	// SettingsNow has the settings of the node as they hold now: its listeners and options of HTTP, its store, keeper and process. The other fields are zero.
	SettingsNow() helvetype.Settings
	// CheckSettings says what UseSettings would, and changes nothing. Of the paths in later, such as "http_options.port", the values hold from a start of the node on
	// that its operator makes with other flags.
	CheckSettings(s settings.Node) (later, warnings []string, err error)
	// NoteFailedDeploy keeps a deploy that has left its application as it was, for the status, until the application is deployed or deleted.
	// prefix is its route prefix in the file.
	NoteFailedDeploy(app, prefix string, failed helvetype.FailedDeploy)
	// BeginDelete takes an application out of the target; [deploy.ErrChanged] if source is not "" and not the source of the application. The function that it gives
	// drains the application and stops its replicas.
	BeginDelete(ctx context.Context, app, source string) (end func(context.Context) error, err error)
}

// Settings are the arguments of [NewOperator].
type Settings struct {
	Node Operated
	Log  *slog.Logger
	// Target has the records of applications, and of the numbers of their replicas.
	Target *records.Target
	// Restorer deploys older revisions again.
	Restorer *restore.Restorer
	// Claims are those that the drivers of the node have too; nil without drivers.
	Claims *claim.Claims
	// Events are the events of the node.
	Events why.Events
	// Trace has the requests that are kept; nil for none.
	Trace *trace.Recorder
	// Profiler takes profiles of replicas; nil for one of this operator.
	Profiler *profiler.Profiler
	// Lines has the newest lines of replicas, and of the node itself.
	Lines *logs.Ring
	// Access has the newest lines of the access log; nil without one.
	Access *access.Kept
	// Secrets puts values in the place of placeholders, and takes them out of lines and errors of builders. May be nil.
	Secrets *secret.Resolver
	// Program starts the Go workers of the executable of the node. Builders of applications have its environment.
	Program host.Program
	// Python is the interpreter of applications; "" for HELVE_PYTHON, else the first on PATH.
	Python string
}

// Operator has the operations that operators ask of the node, by the REST API and the command line. A file for each group
// of operations: apply.go (Apply, Delete, Scale, Shutdown, Settings), history.go (revisions and plans), rollout.go (pauses, restarts), explain.go, logs.go, requests.go, profile.go.
type Operator struct {
	set Settings

	turns    sync.RWMutex  // see turn
	patching sync.Mutex    // held from the look at the overrides of an application until the store has other ones
	setting  sync.Mutex    // held while settings are read, changed and written
	claims   *claim.Claims // applications that requests build or deploy
	cache    func() (*pyenv.Cache, error)
}

// NewOperator makes the operator of a node.
func NewOperator(s Settings) *Operator {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Events == nil {
		s.Events = telemetry.NewEvents(nil)
	}
	if s.Trace == nil {
		s.Trace = trace.New()
	}
	if s.Claims == nil {
		s.Claims = new(claim.Claims)
	}
	if s.Profiler == nil {
		s.Profiler = profiler.New(context.Background(), s.Node)
	}
	o := &Operator{set: s, claims: s.Claims}
	o.cache = sync.OnceValues(func() (*pyenv.Cache, error) {
		dir, err := pyenv.CacheDir(func(name string) string { return worker.Variable(s.Program.Env, name) })
		if err != nil {
			return nil, err
		}
		return pyenv.NewCache(dir), nil
	})
	return o
}

// turn lets a change of the target begin whose author has seen a generation; 0 for any. A change with a generation is alone until it calls done, so that no other
// change comes between the look at the generation and the write. For example, two operators scale with generation 7: the second one waits until the first has
// written, sees generation 8, and is refused. Changes without a generation wait for one with a generation only.
func (o *Operator) turn(seen uint64) (done func(), err error) {
	if seen == 0 {
		o.turns.RLock()
		return o.turns.RUnlock, nil
	}
	o.turns.Lock()
	if now := o.set.Target.Newest(); now != seen {
		o.turns.Unlock()
		return nil, otherGeneration(seen, now)
	}
	return o.turns.Unlock, nil
}

// otherGeneration is the error of a change that was made for another generation than the present one.
func otherGeneration(seen, now uint64) error {
	return &helvetype.OperationError{
		Code:    helvetype.CodeFailedPrecondition,
		Message: fmt.Sprintf("the generation is %d by now, and the change was made for generation %d", now, seen),
		Next:    "read the state again, and repeat the change if it is still right",
	}
}

// refusal is an error of the node as the error of an operation. The code is that of its reason; an error without a reason stays as it is.
func refusal(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*helvetype.OperationError](err); ok {
		return e
	}
	code := helvetype.CodeOK
	if e, ok := errors.AsType[*call.Error](err); ok {
		switch e.Reason {
		case helvetype.ReasonBadInput:
			code = helvetype.CodeInvalidArgument
		}
	}
	switch {
	case errors.Is(err, deploy.ErrSuperseded), errors.Is(err, deploy.ErrChanged):
		code = helvetype.CodeAborted
	case errors.Is(err, deploy.ErrNoRollout), errors.Is(err, deploy.ErrRollout), errors.Is(err, deploy.ErrAutoscaled):
		code = helvetype.CodeFailedPrecondition
	case errors.Is(err, deploy.ErrClosing):
		code = helvetype.CodeUnavailable
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code = helvetype.CodeUnavailable
	}
	if code == helvetype.CodeOK {
		return err
	}
	return &helvetype.OperationError{Code: code, Message: err.Error(), Err: err}
}

// absent is the error for an application, or a deployment of it if that is not "", that is not there; nil if it is.
func (o *Operator) absent(app, deployment string) error {
	now, _, ok := o.set.Node.Deployed(app, 0)
	if !ok {
		return &helvetype.OperationError{Code: helvetype.CodeNotFound, Message: o.set.Node.Missing(app).Error(), Next: "helve status lists the applications"}
	}
	if deployment == "" {
		return nil
	}
	for _, d := range now.Graph.Deployments {
		if d.Name == deployment {
			return nil
		}
	}
	return &helvetype.OperationError{Code: helvetype.CodeNotFound, Message: o.set.Node.Absent(app, deployment).Error(), Next: "helve status lists the deployments"}
}

// unimplemented is the error of an operation that the node does not have.
func unimplemented(operation string) error {
	return &helvetype.OperationError{Code: helvetype.CodeUnimplemented, Message: "this node does not have the operation " + operation + " yet"}
}
