package helve

import (
	"context"
	"reflect"
	"strings"

	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/models"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/trace"
)

// ModelsOptions are the options of [Models].
type ModelsOptions[M any] struct {
	// Max is how many models are loaded at most. A model that loads for the first time is not counted. Default 3; -1 for no limit.
	Max int
	// MaxBytes is how much they hold at most, by Size, which it needs. 0 for no limit. A model that was loaded before has
	// its room before it loads again; for others as much is kept as the largest so far held, and one loads at a time. If that
	// was too little and the rest is in use, it is closed and loaded again when there is room.
	MaxBytes int64
	// Size is how many bytes a model holds.
	Size func(M) int64
	// MaxLoads is how many load at a time. Default 4.
	MaxLoads int
	// Close gives a model back. nil: its own Close(context.Context) error or Close() error, if it has one.
	Close func(ctx context.Context, m M) error
	// CloseFailed receives the error or panic of a Close. It may be nil. No call fails with that error.
	CloseFailed func(id string, err error)
}

// Models are the loaded models of one replica (multiplexing). The least recently used model makes room for a new one, but no model
// that a call uses. Different models load in parallel, one load serves all calls that wait for it, and a load that failed is
// tried again by the next call. Loads, unloads and models are in the metrics of the node. Calls with a [ModelID] go to replicas that have the model or are loading it.
// It is safe for concurrent use.
type Models[M any] struct{ c *models.Cache[M] }

// NewModels makes the models of a replica. ctx must be the context that the constructor received; then the router learns which
// models the replica has, and the end of the replica unloads them. With another context, as in a unit test, the router does not
// learn of the models, and [Models.Close] unloads them. The context of load ends when no call waits for the model any more. Mistakes in the options are returned together.
func NewModels[M any](ctx context.Context, load func(ctx context.Context, id string) (M, error), o ModelsOptions[M]) (*Models[M], error) {
	hooks := models.Hooks[M]{Size: o.Size, Close: o.Close, Report: o.CloseFailed, Waits: waitsForModel}
	scope, loader := instance.ScopeFrom(ctx), (*instance.Loader)(nil)
	if scope != nil {
		loader = scope.AddLoader(reflect.TypeFor[M]().String())
		hooks.Changed = loader.SetIDs
		hooks.Measures = telemetry.NewModels(scope.Metrics)
	}
	c, err := models.New(load, models.Options{Max: o.Max, MaxBytes: o.MaxBytes, MaxLoads: o.MaxLoads}, hooks)
	if err != nil {
		return nil, err
	}
	if scope != nil {
		loader.Has(c)
		scope.OnClose(c.Close)
	}
	return &Models[M]{c}, nil
}

// waitsForModel begins the span of a call that waits for the load of a model, as Python's multiplexed functions have it: the answers to why know it by its name and its attributes.
func waitsForModel(ctx context.Context, id string) (ended func(unloaded []string, err error)) {
	_, a := trace.Begin(ctx, graph.Traces(ctx), "load of model "+id)
	a.Set("model", id)
	return func(unloaded []string, err error) {
		if len(unloaded) > 0 {
			a.Set("unloaded", strings.Join(unloaded, ", "))
		}
		if err != nil {
			a.Fail(err)
		}
		a.End()
	}
}

// Get gives the model of the call that ctx belongs to ([ModelIDFrom]), loaded if it was not. It stays loaded until release
// is called, which is never nil and may be called more than once. A call without a model id is an error with reason
// bad_input. If every model that is loaded is in use and there may be no more, Get waits its turn, until ctx ends.
func (m *Models[M]) Get(ctx context.Context) (model M, release func(), err error) {
	return m.GetID(ctx, ModelIDFrom(ctx))
}

// GetID is [Models.Get] of a model by its id.
func (m *Models[M]) GetID(ctx context.Context, id string) (model M, release func(), err error) {
	model, release, err = m.c.Get(ctx, id)
	return model, release, publicError(err)
}

// With runs f with the model of the call that ctx belongs to, which stays loaded meanwhile.
func (m *Models[M]) With(ctx context.Context, f func(ctx context.Context, model M) error) error {
	return publicError(m.c.With(ctx, ModelIDFrom(ctx), f))
}

// IDs returns the ids of the loaded models, the most recently used first, and then of the models that load or wait for their load.
func (m *Models[M]) IDs() []string { return m.c.IDs() }

// Stats returns the present counts.
func (m *Models[M]) Stats() ModelsStats { return ModelsStats(m.c.Stats()) }

// ModelsStats counts the models of one replica and their use.
type ModelsStats struct {
	// Gets is the number of times that a model was asked for; Loads, Failures and Unloads are the numbers of loads that were
	// started, of loads that failed, and of models that were unloaded. All four count since the start.
	Gets, Loads, Failures, Unloads uint64
	// Loaded and Loading are the numbers of models that are loaded and that load now.
	Loaded, Loading int
	// Bytes is the memory that the loaded models hold, by the Size of [ModelsOptions].
	Bytes int64
}

// Close unloads all models. A model in use is unloaded when it is released, or at the end of ctx.
func (m *Models[M]) Close(ctx context.Context) error { return m.c.Close(ctx) }
