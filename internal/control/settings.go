package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/settings"
	"github.com/helve-serve/helve/internal/store"
)

// readSettings reads the settings of the store.
func (o *Operator) readSettings(ctx context.Context) (s settings.Node, kv store.KV, err error) {
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
	return now.Redacted()
}

// placeSetting gives a mistake in the settings its place in the file.
func (ap *apply) placeSetting(err error) error {
	field := "http_options"
	if e, ok := errors.AsType[*settings.Error](err); ok {
		field = e.Field
	} else {
		err = fmt.Errorf("http_options: %w", err)
	}
	return mistaken(ap.file.Place("", "", field, err))
}

// nextSettings are the settings with those of the file.
func (ap *apply) nextSettings(before settings.Node) settings.Node {
	return before.Over(ap.file, ap.source() == defaultSource && ap.r.Only == "" && !ap.r.Keep)
}

// warnSettings passes on the warnings about http_options, for a file that has them, and warns about a place of proxies that has no effect.
func (ap *apply) warnSettings(warnings []string) {
	if l := ap.file.ProxyLocation; l == "Disabled" || l == "NoServer" {
		ap.warn("proxy_location: " + l + " has no effect on a node that runs: whether a node serves HTTP is said when it starts, with helve start --http")
	}
	if ap.file.HTTP == nil {
		return
	}
	for _, w := range warnings {
		ap.warn("http_options: " + w)
	}
}

// settings makes the settings of the file those of the node. A file that changes nothing writes nothing. The function undo puts the settings back, for a file of which
// no application was taken; settings that another file has changed meanwhile stay.
//
// For example, a file has a target capacity of 50 and one application, whose route belongs to another one. The capacity must hold before the application is deployed, so that
// its replicas begin with the right number; and it is 100 again when the node has refused the application.
func (ap *apply) settings(ctx context.Context) (undo func(), err error) {
	o := ap.o
	o.setting.Lock()
	defer o.setting.Unlock()
	before, kv, err := o.readSettings(ctx)
	if err != nil {
		return nil, err
	}
	next, changes, err := ap.changeSettings(before)
	if err != nil {
		return nil, err
	}
	if _, err := o.set.Node.UseSettings(next, false); err != nil {
		return nil, ap.placeSetting(err)
	}
	written, changed, err := o.writeSettings(ctx, kv, before, next, ap.by.Name)
	if err != nil {
		o.set.Node.UseSettings(before, false) //nolint:errcheck // they held until now
		return nil, err
	}
	if !changed {
		return func() {}, nil
	}
	ap.changes = changes
	return func() {
		o.setting.Lock()
		defer o.setting.Unlock()
		ap.changes = nil
		ctx := context.WithoutCancel(ctx)
		now, kv, err := o.readSettings(ctx)
		if err != nil || kv.Modified != written {
			return
		}
		if _, _, err := o.writeSettings(ctx, kv, now, before, ap.by.Name); err != nil {
			o.set.Log.Error("the settings of a file without an application that runs are not put back", "error", err)
			return
		}
		o.set.Node.UseSettings(before, false) //nolint:errcheck // as above
	}, nil
}

// writeSettings writes settings in the place of others. It gives the revision of the record.
func (o *Operator) writeSettings(ctx context.Context, kv store.KV, before, next settings.Node, by string) (written int64, changed bool, err error) {
	was, err := json.Marshal(before)
	if err != nil {
		return 0, false, err
	}
	b, err := json.Marshal(next)
	if err != nil || bytes.Equal(was, b) {
		return 0, false, err
	}
	op, err := store.Encode(store.SettingsKey(), store.Settings{Submitted: b, By: by, TargetCapacity: next.TargetCapacity})
	if err != nil {
		return 0, false, err
	}
	result, err := o.set.Target.Store.Txn(ctx, store.Txn{If: []store.Condition{store.Unchanged(kv)}, Then: []store.Op{op}})
	if err != nil {
		return 0, false, fmt.Errorf("the settings of the node were not written: %w", err)
	}
	return result, true, nil
}

// planSettings are the changes of the settings that the file would make, with secrets redacted.
func (ap *apply) planSettings(ctx context.Context) ([]helvetype.ValueChange, error) {
	before, _, err := ap.o.readSettings(ctx)
	if err != nil {
		return nil, err
	}
	_, changes, err := ap.changeSettings(before)
	return changes, err
}

// changeSettings are the settings with those of the file, and the changes. It warns of options that the node does not take now.
func (ap *apply) changeSettings(before settings.Node) (next settings.Node, changes []helvetype.ValueChange, err error) {
	next = ap.nextSettings(before)
	later, warnings, err := ap.o.set.Node.CheckSettings(next)
	if err != nil {
		return next, nil, ap.placeSetting(err)
	}
	ap.warnSettings(warnings)
	changes, err = settings.Changes(before, next, later)
	return next, changes, err
}

// RestoreSettings gives the node the settings that files have set before it started.
func (o *Operator) RestoreSettings(ctx context.Context) error {
	s, _, err := o.readSettings(ctx)
	if err == nil {
		_, err = o.set.Node.UseSettings(s, true)
	}
	return err
}
