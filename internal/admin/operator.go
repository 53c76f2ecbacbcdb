package admin

import (
	"context"
	"encoding/json"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/profile"
)

// Operator does the operations of a node that operators ask for. This package has the REST API to it, and package control the implementation. All methods are safe for
// concurrent use. Their errors are *[helvetype.OperationError]; any other error is a failure of the node itself.
//
// The generation of a node is the store's revision of the last change of its target: applications, numbers of replicas, settings. A request with a
// generation changes something only if that is still the present one. For example, two operators read generation 7, and both change the
// number of replicas; the second one is told that the generation is 8 by now.
type Operator interface {
	// Apply makes the applications of a file the target. With Wait it returns when they run or have failed.
	Apply(ctx context.Context, by helvetype.Author, r helvetype.ApplyRequest) (helvetype.ApplyAnswer, error)
	// Plan says what Apply would do, and changes nothing.
	Plan(ctx context.Context, r helvetype.ApplyRequest) (helvetype.Plan, error)
	// PlanRollback says what Rollback would do. Revision 0 is the one before the present one.
	PlanRollback(ctx context.Context, app string, revision int) (helvetype.Plan, error)
	// Delete removes an application. It returns when the target is written, not when the last replica has stopped.
	Delete(ctx context.Context, by helvetype.Author, app string) error
	// Scale sets the number of replicas of a deployment, and why is a note for the plan.
	Scale(ctx context.Context, by helvetype.Author, app, deployment string, n int, why string) error
	// Restart replaces replicas by new ones of the same revision, within the budgets of rollouts: those of an application, of one deployment if that is
	// not "", or one replica if that is not "".
	Restart(ctx context.Context, by helvetype.Author, app, deployment, replica string) error
	// Rollback deploys a former revision again, as a new one. Revision 0 is the one before the present one.
	Rollback(ctx context.Context, by helvetype.Author, app string, revision int, message string) (helvetype.Outcome, error)
	// Pause stops the rollout of an application where it is, and Resume goes on with it. said is how the rollout stands then.
	Pause(ctx context.Context, by helvetype.Author, app string) error
	Resume(ctx context.Context, by helvetype.Author, app string) (said string, err error)
	// Patch sets options of the override layer. The options have those of the application at the top, and those of deployments by name:
	// {"deployments": {"Ranker": {"max_ongoing_requests": 10}}}. null clears an override. A generation of 0 is for any.
	Patch(ctx context.Context, by helvetype.Author, app string, options json.RawMessage, ifGeneration uint64) (helvetype.Outcome, error)
	// PlanPatch says what Patch would do, and changes nothing.
	PlanPatch(ctx context.Context, app string, options json.RawMessage) (helvetype.Plan, error)
	// History has the revisions of an application that are kept.
	History(ctx context.Context, app string) (helvetype.History, error)
	// Config has each option of an application with the source of its value.
	Config(ctx context.Context, app string) (helvetype.EffectiveConfig, error)
	// Submitted is the configuration of an application as it was submitted, as JSON and with secrets redacted; null for an application of a program.
	Submitted(ctx context.Context, app string) ([]byte, error)
	// Explain says why an object is as it is; with a revision that is not 0, what has become of that revision of an application.
	Explain(ctx context.Context, of helvetype.Object, revision int) (helvetype.Explanation, error)
	// Overview says what is wrong in the node now.
	Overview(ctx context.Context) (helvetype.Overview, error)
	// Logs gives lines to yield, the oldest first, until there are no more, ctx ends, or yield returns an error, which Logs returns. A number of missed
	// lines, which a slow reader has lost, comes before the line that follows them. A query that follows flushes after each call: yield with a nil line
	// says that the reader has all lines so far.
	Logs(ctx context.Context, q helvetype.LogQuery, yield func(line *helvetype.LogLine, missed uint64) error) error
	// Requests lists requests that the node keeps, the newest first, and Request has one of them with its spans.
	Requests(ctx context.Context, q helvetype.RequestQuery) (helvetype.RequestList, error)
	Request(ctx context.Context, id string) (helvetype.RequestTrace, error)
	// Profile takes a profile of the process of a replica over the time d, and gives it as a file of pprof. It ends early when ctx ends. A process takes one
	// profile at a time.
	Profile(ctx context.Context, of helvetype.Object, kind profile.Kind, d time.Duration) ([]byte, error)
	// LastProfile joins the continuous profiles of the last time d of the process of a replica. Profiling says whether continuous profiles of all replicas are taken, and SetProfiling
	// turns them on or off.
	LastProfile(ctx context.Context, of helvetype.Object, d time.Duration) ([]byte, error)
	Profiling(ctx context.Context) (profile.Continuous, error)
	SetProfiling(ctx context.Context, on bool) (profile.Continuous, error)
	// Tracing says which requests are sampled and slow, and where spans go, after a change of that if it is not nil.
	Tracing(ctx context.Context, by helvetype.Author, change *helvetype.TracingChange) (helvetype.Tracing, error)
	// Shutdown deletes all applications. The node goes on, empty.
	Shutdown(ctx context.Context, by helvetype.Author) error
	// Settings has the settings that files set, with secrets redacted.
	Settings(ctx context.Context) (helvetype.NodeSettings, error)
	// AllSettings has the settings of the node as they hold now, except for the admin interface. ChangeSettings changes some while the node runs, and PlanSettings says what
	// such a change would do.
	AllSettings(ctx context.Context) (helvetype.Settings, error)
	ChangeSettings(ctx context.Context, by helvetype.Author, c helvetype.SettingsChange) (helvetype.SettingsOutcome, error)
	PlanSettings(ctx context.Context, c helvetype.SettingsChange) (helvetype.SettingsPlan, error)
	// Generation is the generation of the target.
	Generation() uint64
}
