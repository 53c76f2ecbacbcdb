package guest

import (
	"context"

	"github.com/helve-serve/helve/internal/moves"
	"github.com/helve-serve/helve/internal/protocol"
)

func (g *Guest) loadedModels(_ context.Context, req protocol.LoadedModels) (loaded protocol.Loaded, err error) {
	h, err := g.find(req.Replica)
	if err == nil {
		loaded = moves.Loaded(h.instance.Scope)
	}
	return loaded, err
}

func (g *Guest) loadModel(ctx context.Context, req protocol.LoadModel) (out protocol.ModelLoaded, err error) {
	h, err := g.find(req.Replica)
	if err == nil {
		out, err = moves.Load(ctx, h.instance.Scope, req)
	}
	return out, err
}
