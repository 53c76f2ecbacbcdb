package guest

import (
	"context"
	"errors"

	"github.com/helve-serve/helve/internal/capture"
	"github.com/helve-serve/helve/internal/profile"
	"github.com/helve-serve/helve/internal/protocol"
)

// profile takes a profile of the worker: all its replicas are in it. It ends early when the node asks for that, or has gone.
func (g *Guest) profile(ctx context.Context, req protocol.Profile) (taken protocol.Profiled, err error) {
	taken.Pprof, err = g.process.Take(ctx, profile.Kind(req.Kind), req.Seconds.Duration())
	if busy, ok := errors.AsType[*capture.BusyError](err); ok {
		return protocol.Profiled{Busy: busy.Other}, nil
	}
	return taken, err
}

func (g *Guest) endProfile(context.Context, protocol.EndProfile) (done protocol.Done, err error) {
	g.process.End()
	return done, nil
}
