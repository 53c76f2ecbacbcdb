package moves

import (
	"context"
	"errors"

	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/models"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/router"
)

// Loaded is the answer of a replica in Go to [protocol.LoadedModels].
func Loaded(s *instance.Scope) protocol.Loaded {
	loaded := protocol.Loaded{Models: []protocol.LoadedModel{}}
	for _, l := range s.LoadedModels() {
		for id, unused := range l.Unused {
			loaded.Models = append(loaded.Models, protocol.LoadedModel{Model: id, Loader: l.Loader, UnusedS: protocol.SecondsOf(unused)})
		}
	}
	return loaded
}

// Load is the answer of a replica in Go to [protocol.LoadModel].
func Load(ctx context.Context, s *instance.Scope, req protocol.LoadModel) (out protocol.ModelLoaded, err error) {
	ctx, cancel := context.WithTimeout(ctx, req.TimeoutS.Duration())
	defer cancel()
	found, err := s.LoadModel(ctx, req.Loader, req.Model, req.UnusedS.Duration())
	if refused, ok := errors.AsType[*models.RefusedError](err); ok {
		out.Refused, err = refused.Error(), nil
	} else if !found {
		out.Refused = "the replica has no loader " + req.Loader
	}
	return out, err
}

// A replica is either here or in a worker. A replica that is neither, as one of a test, has no models.
type (
	here interface {
		// Scope is the scope of the instance.
		Scope() *instance.Scope
	}
	inWorker interface {
		Worker() protocol.Caller
	}
)

// loadedAt asks a replica for the models that it has loaded.
func loadedAt(ctx context.Context, r router.Replica) (protocol.Loaded, error) {
	switch at := r.(type) {
	case here:
		return Loaded(at.Scope()), nil
	case inWorker:
		return protocol.Ask(ctx, at.Worker(), protocol.LoadedModels{Replica: r.ID()})
	}
	return protocol.Loaded{}, nil
}

// loadAt asks a replica to load a model.
func loadAt(ctx context.Context, r router.Replica, req protocol.LoadModel) (protocol.ModelLoaded, error) {
	req.Replica = r.ID()
	switch at := r.(type) {
	case here:
		return Load(ctx, at.Scope(), req)
	case inWorker:
		return protocol.Ask(ctx, at.Worker(), req)
	}
	return protocol.ModelLoaded{Refused: "the replica loads no models"}, nil
}
