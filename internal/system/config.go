package system

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/clients"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/node"
	"github.com/helve-serve/helve/internal/otlp"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/spec"
)

// Config has the settings of a system. Package helve sets Version and Public. The other fields are the fields of helve.Config, where
// they are documented.
type Config struct {
	// Version is the version of this module.
	Version string
	// Public returns an error of a deploy under the type that users know.
	Public func(error) error

	Logger          *slog.Logger
	Isolation       spec.Isolation
	Output          io.Writer
	HTTP            string
	HTTPLimits      clients.Limits
	HTTPOptions     proxy.Options
	AccessLog       io.Writer
	AccessLogFormat string // of helve.HTTPOptions
	LogDir          string
	LogMemory       logs.Budgets
	StrictCodec     string
	StateDir        string
	WorkerGrace     time.Duration
	ArenaSize       int64
	ReferenceLimit  int64
	MaxBody         int
	Admin           string
	Tracing         otlp.Settings
	Metrics         func(admin.Node) http.Handler // nil for that of the context (package cli), if it has one
	OutOfLine       bool
	Others          []Build // the applications of a durable node's executable beside the one of Run
}

// defaultGrace is how long workers wait for the next node.
const defaultGrace = 30 * time.Second

// adminPrivate is the Admin without a TCP address.
const adminPrivate = "private"

// minArena is the smallest arena that is of any use.
const minArena = 1 << 20

// LogJSON is the AccessLogFormat of lines of JSON.
const LogJSON = "json"

// check lists the mistakes of the configuration, by its fields.
func (c Config) check() error {
	var errs []error
	wrong := func(field, format string, args ...any) { errs = append(errs, fmt.Errorf(field+": "+format, args...)) }
	if c.Logger.Handler() == nil {
		wrong("Logger", "it has no handler; make one with slog.New")
	}
	if i := c.Isolation; i != "" && i != spec.InNode && i != spec.Process && pairs[i] == nil {
		wrong("Isolation", "must be %s or %s, is %q", spec.InNode, spec.Process, i)
	}
	if c.StrictCodec != "" {
		if strict, _ := call.CodecNamed(c.StrictCodec); strict != call.Msgpack && strict != call.JSON {
			wrong("StrictCodec", "must be msgpack or orjson, is %q", c.StrictCodec)
		}
	}
	switch {
	case c.WorkerGrace < 0:
		wrong("WorkerGrace", "must not be negative, is %s", c.WorkerGrace)
	case c.WorkerGrace != 0 && c.StateDir == "":
		wrong("WorkerGrace", "needs StateDir, where the next node finds the workers")
	}
	switch {
	case c.ReferenceLimit < 0:
		wrong("ReferenceLimit", "must not be negative, is %d", c.ReferenceLimit)
	case c.ArenaSize > 0 && c.ArenaSize < minArena:
		wrong("ArenaSize", "must be at least %d bytes, or less than 0 for none, is %d", minArena, c.ArenaSize)
	}
	if err := c.HTTPLimits.Check(); err != nil {
		wrong("HTTPLimits", "%w", err)
	}
	if err := listen.Check(c.HTTP); err != nil {
		wrong("HTTP", "%w", err)
	}
	if err := c.HTTPOptions.Check(); err != nil {
		wrong("HTTPOptions", "%w", err)
	}
	if f := c.AccessLogFormat; f != "" && f != "text" && f != LogJSON {
		wrong("HTTPOptions", "AccessLogFormat: must be text or json, is %q", f)
	}
	if err := c.LogMemory.Check(); err != nil {
		errs = append(errs, err)
	}
	if err := c.Tracing.Check(); err != nil {
		wrong("Tracing", "%w", err)
	}
	if err := node.CheckMaxBody(c.MaxBody); err != nil {
		wrong("MaxBody", "%w", err)
	}
	return errors.Join(errs...)
}
