package helve

import (
	"context"

	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/models"
)

// ModelsOptions say how many models a replica keeps.
type ModelsOptions[M any] struct {
	// Max is how many models are loaded at most, beside one that is loaded for the first time. Default 3; -1 for no limit.
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
	// CloseFailed is told of a Close that returned an error or panicked. nil: nobody is. No call fails for it.
	CloseFailed func(id string, err error)
}

// Models are the models that one replica has loaded (multiplexing): the least recently used makes room for a new one, and
// one that a call uses never does. Different models load in parallel, one load serves all calls that wait for it, and a load
// that failed is tried again by the next call. Calls with a [ModelID] go to replicas that have the model or are loading it.
// It is safe for concurrent use.
type Models[M any] struct{ c *models.Cache[M] }

// NewModels makes the models of a replica; ctx is the one that its constructor received. They are unloaded when the replica
// stops. load runs with a context that ends when no call waits for the model any more. With another ctx, as in a unit
// test, no router hears of the models, and [Models.Close] unloads them. Mistakes in the options are returned together.
func NewModels[M any](ctx context.Context, load func(ctx context.Context, id string) (M, error), o ModelsOptions[M]) (*Models[M], error) {
	hooks := models.Hooks[M]{Size: o.Size, Close: o.Close, Report: o.CloseFailed}
	scope := instance.ScopeFrom(ctx)
	if scope != nil {
		hooks.Changed = scope.SetModels
	}
	c, err := models.New(load, models.Options{Max: o.Max, MaxBytes: o.MaxBytes, MaxLoads: o.MaxLoads}, hooks)
	if err != nil {
		return nil, err
	}
	if scope != nil {
		scope.OnClose(c.Close)
	}
	return &Models[M]{c}, nil
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

// IDs are the models that are loaded, the most recently used first, and then those that load or wait to be loaded.
func (m *Models[M]) IDs() []string { return m.c.IDs() }

// Stats is what was and is done.
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

// Close unloads all models; those in use when they are released, or at the end of ctx.
func (m *Models[M]) Close(ctx context.Context) error { return m.c.Close(ctx) }
