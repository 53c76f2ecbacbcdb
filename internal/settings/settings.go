// Package settings has the settings of a node that files and commands change while it runs, beside its applications: how one file is over another, and what differs. It does nothing with them.
package settings

import (
	"encoding/json"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/config"
	"github.com/helve-serve/helve/internal/secret"
	"github.com/helve-serve/helve/internal/spec"
)

// Node are the settings of a node that files set, beside its applications.
type Node struct {
	ProxyLocation string `json:"proxy_location,omitempty"`
	// HTTP has the fields of http_options that files have set; nil for none.
	HTTP *config.HTTP `json:"http_options,omitempty"`
	// Logging is the logging_config of the last file; the applications of the file have it.
	Logging json.RawMessage `json:"logging_config,omitempty"`
	// Tracing is the tracing_config of the last file that has one; nil for none.
	Tracing *spec.Tracing `json:"tracing_config,omitempty"`
	// TargetCapacity is the percent of all numbers of replicas that run; nil for 100.
	TargetCapacity *float64 `json:"target_capacity,omitempty"`
	// Rising says that the target capacity is above the one before it: autoscalers start warm then. It is kept with the capacity, so that a restart of the node changes no number.
	Rising bool `json:"target_capacity_rises,omitempty"`
}

// Over are the settings s with those of a file over them. A file without a field of http_options leaves the field as it is. A whole file of the source "default" says of the
// target capacity, the logging and the tracing that there is none, if it does not have them; another file leaves them. For example, a team that applies its own file with
// the source "search" does not end the target capacity that the file of the machine has set.
func (s Node) Over(file *config.File, whole bool) Node {
	if file.ProxyLocation != "" {
		s.ProxyLocation = file.ProxyLocation
	}
	if file.HTTP != nil {
		next := &config.HTTP{} // a copy also of the values: json.Unmarshal writes through pointers
		for _, layer := range []*config.HTTP{s.HTTP, file.HTTP} {
			if b, err := json.Marshal(layer); err == nil && layer != nil {
				json.Unmarshal(b, next) //nolint:errcheck // it was just made
			}
		}
		s.HTTP = next
	}
	if file.Logging != nil || whole {
		s.Logging = file.Logging
	}
	if file.Tracing != nil || whole {
		s.Tracing = file.Tracing
	}
	if file.TargetCapacity != nil || whole {
		s.Rising = s.rises(file.TargetCapacity)
		s.TargetCapacity = file.TargetCapacity
	}
	return s
}

// rises says whether the target capacity rises with the next one. The direction of the last change holds until another one. For example, after 20, 50 and 50 percent it rises, and after 30 it falls.
func (s Node) rises(next *float64) bool {
	before := s.TargetCapacity
	switch {
	case next == nil || before == nil:
		return false
	case *next == *before:
		return s.Rising
	}
	return *next > *before
}

// Redacted are the settings as operators see them, with secrets redacted. Each group that files have not set is an empty object.
func (s Node) Redacted() (all helvetype.NodeSettings, err error) {
	all = helvetype.NodeSettings{ProxyLocation: "EveryNode", HTTPOptions: json.RawMessage("{}"), LoggingConfig: json.RawMessage("{}"), TracingConfig: json.RawMessage("{}"), TargetCapacity: s.TargetCapacity}
	if s.ProxyLocation != "" {
		all.ProxyLocation = s.ProxyLocation
	}
	if s.HTTP != nil {
		b, err := json.Marshal(s.HTTP)
		if err != nil {
			return all, err
		}
		all.HTTPOptions = secret.Redact(b)
	}
	if s.Tracing != nil {
		b, err := json.Marshal(s.Tracing)
		if err != nil {
			return all, err
		}
		all.TracingConfig = secret.Redact(b)
	}
	if len(s.Logging) > 0 {
		all.LoggingConfig = secret.Redact(s.Logging)
	}
	return all, nil
}

// Fields are the values of the settings by their paths, for example "http_options.port"; a field without a value is not there.
func (s Node) Fields() (map[string]json.RawMessage, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	delete(all, "target_capacity_rises") // no file sets it
	for _, group := range []string{"http_options", "logging_config", "tracing_config"} {
		var inner map[string]json.RawMessage
		if len(all[group]) == 0 || json.Unmarshal(all[group], &inner) != nil {
			continue
		}
		delete(all, group)
		for name, v := range inner {
			all[group+"."+name] = v
		}
	}
	return all, nil
}

// Error is a mistake in one setting.
type Error struct {
	Field string // for example "http_options.ssl_certfile"
	Err   error
}

func (e *Error) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns the error of the field.
func (e *Error) Unwrap() error { return e.Err }
