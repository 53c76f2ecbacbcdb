package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/config"
	"github.com/helve-serve/helve/internal/secret"
	"github.com/helve-serve/helve/internal/store"
)

// NodeSettings are the settings of a node that files set, beside its applications.
type NodeSettings struct {
	ProxyLocation string `json:"proxy_location,omitempty"`
	// HTTP has the fields of http_options that files have set; nil for none.
	HTTP *config.HTTP `json:"http_options,omitempty"`
	// Logging is the logging_config of the last file; the applications of the file have it.
	Logging json.RawMessage `json:"logging_config,omitempty"`
	// TargetCapacity is the percent of all numbers of replicas that run; nil for 100.
	TargetCapacity *float64 `json:"target_capacity,omitempty"`
}

// over are the settings s with those of a file over them. A file without a field of http_options leaves the field as it is. A whole file of the source "default" says of the
// target capacity and the logging that there is none, if it does not have them; another file leaves them. For example, a team that applies its own file with
// the source "search" does not end the target capacity that the file of the machine has set.
func (s NodeSettings) over(file *config.File, whole bool) NodeSettings {
	if file.ProxyLocation != "" {
		s.ProxyLocation = file.ProxyLocation
	}
	if file.HTTP != nil {
		var next config.HTTP
		if s.HTTP != nil {
			next = *s.HTTP
		}
		if b, err := json.Marshal(file.HTTP); err == nil {
			json.Unmarshal(b, &next) //nolint:errcheck // it was just made
		}
		s.HTTP = &next
	}
	if file.Logging != nil || whole {
		s.Logging = file.Logging
	}
	if file.TargetCapacity != nil || whole {
		s.TargetCapacity = file.TargetCapacity
	}
	return s
}

// readSettings reads the settings of the store.
func (o *Operator) readSettings(ctx context.Context) (s NodeSettings, kv store.KV, err error) {
	stored, err := store.Get(ctx, o.set.Target.Store, store.SettingsKey())
	if err != nil {
		return s, stored.KV, fmt.Errorf("the settings of the node: %w", err)
	}
	if stored.KV.Key == "" {
		stored.KV.Key = store.SettingsKey().String()
	}
	if len(stored.Record.Submitted) > 0 {
		err = json.Unmarshal(stored.Record.Submitted, &s)
	}
	return s, stored.KV, err
}

// Settings has the settings that files set, with secrets redacted.
func (o *Operator) Settings(ctx context.Context) (s helvetype.NodeSettings, err error) {
	now, _, err := o.readSettings(ctx)
	if err != nil {
		return s, err
	}
	s = helvetype.NodeSettings{ProxyLocation: "EveryNode", HTTPOptions: json.RawMessage("{}"), LoggingConfig: json.RawMessage("{}"), TargetCapacity: now.TargetCapacity}
	if now.ProxyLocation != "" {
		s.ProxyLocation = now.ProxyLocation
	}
	if now.HTTP != nil {
		b, err := json.Marshal(now.HTTP)
		if err != nil {
			return s, err
		}
		s.HTTPOptions = secret.Redact(b)
	}
	if len(now.Logging) > 0 {
		s.LoggingConfig = secret.Redact(now.Logging)
	}
	return s, nil
}

// settings makes the settings of the file those of the node. A file that changes nothing writes nothing.
func (ap *apply) settings(ctx context.Context) error {
	o := ap.o
	o.setting.Lock()
	defer o.setting.Unlock()
	before, kv, err := o.readSettings(ctx)
	if err != nil {
		return err
	}
	next := before.over(ap.file, ap.source() == defaultSource && ap.r.Only == "" && !ap.r.Keep)
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	was, err := json.Marshal(before)
	if err != nil {
		return err
	}
	warnings, err := o.set.Node.UseSettings(next, false)
	if err != nil {
		return mistaken(ap.file.Place("", "", "http_options", err))
	}
	if ap.file.HTTP != nil {
		for _, w := range warnings {
			ap.warn("http_options: " + w)
		}
	}
	if bytes.Equal(was, b) {
		return nil
	}
	record := store.Settings{Submitted: b, By: ap.by.Name, TargetCapacity: next.TargetCapacity}
	op, err := store.Encode(store.SettingsKey(), record)
	if err != nil {
		return err
	}
	if _, err = o.set.Target.Store.Txn(ctx, store.Txn{If: []store.Condition{store.Unchanged(kv)}, Then: []store.Op{op}}); err != nil {
		return fmt.Errorf("the settings of the node were not written: %w", err)
	}
	return nil
}

// RestoreSettings gives the node the settings that files have set before it started.
func (o *Operator) RestoreSettings(ctx context.Context) error {
	s, _, err := o.readSettings(ctx)
	if err == nil {
		_, err = o.set.Node.UseSettings(s, true)
	}
	return err
}
