// Package spec is the plain data of applications and deployments: what was asked for, with its defaults and checks, and
// what runs. Names are the reference's. It imports the standard library only.
package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Isolation says where the replicas of a Go deployment live.
type Isolation string

// The places.
const (
	InNode  Isolation = "node"
	Process Isolation = "process"
)

// Source says where the value of an option came from.
type Source string

// The sources, weakest first.
const (
	FromDefault Source = "default"
	FromCode    Source = "code"
	FromFile    Source = "file"
)

// Options of a deployment, as somebody set them: nil and "" stand for the default.
type Options struct {
	NumReplicas              *int
	MaxOngoingRequests       *int
	GracefulShutdownTimeout  *time.Duration
	GracefulShutdownWaitLoop *time.Duration
	Isolation                Isolation
	Version                  string
	Default                  string
}

// Effective are options with every default filled in; Sources has an entry per option, by its name in files.
type Effective struct {
	NumReplicas              int
	MaxOngoingRequests       int
	GracefulShutdownTimeout  time.Duration
	GracefulShutdownWaitLoop time.Duration
	Isolation                Isolation
	Version                  string
	Default                  string
	Sources                  map[string]Source
}

// Effective fills in the defaults, which are the reference's (ray.serve.deployment; control-plane.md).
func (o Options) Effective() Effective {
	e := Effective{
		NumReplicas: 1, MaxOngoingRequests: 5, GracefulShutdownTimeout: 20 * time.Second,
		GracefulShutdownWaitLoop: 2 * time.Second, Isolation: InNode, Version: o.Version, Default: o.Default,
		Sources: map[string]Source{},
	}
	pick(&e.NumReplicas, o.NumReplicas, e.Sources, "num_replicas")
	pick(&e.MaxOngoingRequests, o.MaxOngoingRequests, e.Sources, "max_ongoing_requests")
	pick(&e.GracefulShutdownTimeout, o.GracefulShutdownTimeout, e.Sources, "graceful_shutdown_timeout_s")
	pick(&e.GracefulShutdownWaitLoop, o.GracefulShutdownWaitLoop, e.Sources, "graceful_shutdown_wait_loop_s")
	e.Sources["isolation"], e.Sources["version"], e.Sources["default"] = FromDefault, FromDefault, FromDefault
	if o.Isolation != "" {
		e.Isolation, e.Sources["isolation"] = o.Isolation, FromCode
	}
	if o.Version != "" {
		e.Sources["version"] = FromCode
	}
	if o.Default != "" {
		e.Sources["default"] = FromCode
	}
	return e
}

func pick[T any](into, set *T, sources map[string]Source, name string) {
	sources[name] = FromDefault
	if set != nil {
		*into, sources[name] = *set, FromCode
	}
}

// MaxReplicas bounds num_replicas, so that a slip of the keyboard does not start a million processes.
const MaxReplicas = 100_000

// Validate lists what is out of range, by the option's name in files.
func (o Options) Validate() []error {
	var errs []error
	number := func(name string, v *int, least, most int) {
		switch {
		case v == nil:
		case *v < least:
			errs = append(errs, fmt.Errorf("%s: must be at least %d, is %d", name, least, *v))
		case *v > most:
			errs = append(errs, fmt.Errorf("%s: must be at most %d, is %d", name, most, *v))
		}
	}
	number("num_replicas", o.NumReplicas, 1, MaxReplicas)
	number("max_ongoing_requests", o.MaxOngoingRequests, 1, 1<<30)
	duration := func(name string, v *time.Duration) {
		if v != nil && *v < 0 {
			errs = append(errs, fmt.Errorf("%s: must not be negative, is %s", name, *v))
		}
	}
	duration("graceful_shutdown_timeout_s", o.GracefulShutdownTimeout)
	duration("graceful_shutdown_wait_loop_s", o.GracefulShutdownWaitLoop)
	if o.Isolation != "" && o.Isolation != InNode && o.Isolation != Process {
		errs = append(errs, fmt.Errorf("isolation: must be %s or %s, is %q", InNode, Process, o.Isolation))
	}
	return errs
}

type optionsJSON struct {
	NumReplicas              *int      `json:"num_replicas,omitempty"`
	MaxOngoingRequests       *int      `json:"max_ongoing_requests,omitempty"`
	GracefulShutdownTimeout  *float64  `json:"graceful_shutdown_timeout_s,omitempty"`
	GracefulShutdownWaitLoop *float64  `json:"graceful_shutdown_wait_loop_s,omitempty"`
	Isolation                Isolation `json:"isolation,omitempty"`
	Version                  string    `json:"version,omitempty"`
	Default                  string    `json:"default,omitempty"`
}

// MarshalJSON writes the reference's names, durations in seconds.
func (o Options) MarshalJSON() ([]byte, error) {
	return json.Marshal(optionsJSON{
		o.NumReplicas, o.MaxOngoingRequests, seconds(o.GracefulShutdownTimeout), seconds(o.GracefulShutdownWaitLoop),
		o.Isolation, o.Version, o.Default,
	})
}

// UnmarshalJSON reads what MarshalJSON writes; an unknown option is an error that names it.
func (o *Options) UnmarshalJSON(b []byte) error {
	var j optionsJSON
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return fmt.Errorf("options: %w", err)
	}
	*o = Options{
		j.NumReplicas, j.MaxOngoingRequests, duration(j.GracefulShutdownTimeout), duration(j.GracefulShutdownWaitLoop),
		j.Isolation, j.Version, j.Default,
	}
	return nil
}

func seconds(d *time.Duration) *float64 {
	if d == nil {
		return nil
	}
	return new(d.Seconds())
}

func duration(s *float64) *time.Duration {
	if s == nil {
		return nil
	}
	return new(time.Duration(*s * float64(time.Second)))
}
