package helve

import (
	"context"
	"log/slog"

	"github.com/helve-serve/helve/internal/call"
)

// LoggerFrom returns slog.Default with the attributes app, deployment, replica and request of the method that received ctx. Several
// replicas of one worker share its output; the attributes tell their lines apart. Outside of methods it returns slog.Default.
func LoggerFrom(ctx context.Context) *slog.Logger {
	i := call.InfoFrom(ctx)
	if i == nil {
		return slog.Default()
	}
	return slog.Default().With("app", i.App, "deployment", i.Deployment, "replica", i.Replica, "request", i.Request.String())
}
