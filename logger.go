package helve

import (
	"context"
	"log/slog"

	"github.com/helve-serve/helve/internal/call"
)

// warnings passes on what is at least a warning.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}

func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }

// logger is where the node's log goes. Somebody who has configured nothing must still learn why a request failed and why a
// worker ended; that a replica is ready is for who asks.
func (c Config) logger() *slog.Logger {
	if c.Logger != nil {
		return c.Logger
	}
	return slog.New(warnings{slog.Default().Handler()})
}

// LoggerFrom is slog.Default with what says where a method runs: app, deployment, replica and request, as attributes. What a
// worker hosts several replicas of writes to one output: this is how its lines are told apart. Outside of methods it is
// slog.Default itself.
func LoggerFrom(ctx context.Context) *slog.Logger {
	i := call.InfoFrom(ctx)
	if i == nil {
		return slog.Default()
	}
	return slog.Default().With("app", i.App, "deployment", i.Deployment, "replica", i.Replica, "request", i.Request.String())
}
