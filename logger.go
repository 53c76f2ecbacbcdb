package helve

import (
	"context"
	"log/slog"

	"github.com/helve-serve/helve/internal/call"
)

// warnings is a handler that drops records below the level of warnings.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}

func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }

// logger returns the logger of the node. Without a configuration it logs failed requests and ended workers, but not events such as
// a replica that is ready.
func (c Config) logger() *slog.Logger {
	if c.Logger != nil {
		return c.Logger
	}
	return slog.New(warnings{slog.Default().Handler()})
}

// LoggerFrom returns slog.Default with the attributes app, deployment, replica and request of the method that received ctx. Several
// replicas of one worker share its output; the attributes tell their lines apart. Outside of methods it returns slog.Default.
func LoggerFrom(ctx context.Context) *slog.Logger {
	i := call.InfoFrom(ctx)
	if i == nil {
		return slog.Default()
	}
	return slog.Default().With("app", i.App, "deployment", i.Deployment, "replica", i.Replica, "request", i.Request.String())
}
