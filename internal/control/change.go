package control

import (
	"context"
	"errors"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/settings"
)

// AllSettings has the settings of the node as they hold now, with the fields that files and requests have set. The admin interface is not among them.
func (o *Operator) AllSettings(ctx context.Context) (s helvetype.Settings, err error) {
	set, err := o.Settings(ctx)
	if err != nil {
		return s, err
	}
	s = o.set.Node.SettingsNow()
	s.Generation, s.TargetCapacity, s.HTTP.Set, s.TracingSet, s.LoggingSet = o.Generation(), set.TargetCapacity, set.HTTPOptions, set.TracingConfig, set.LoggingConfig
	if s.Tracing, err = o.Tracing(ctx, helvetype.Author{}, nil); err != nil {
		return s, err
	}
	profiles, err := o.Profiling(ctx)
	s.Profiles.Continuous = profiles.On
	return s, err
}

// ChangeSettings changes settings of the node while it runs, as if a file had the change. The next start of a durable node has it. A whole file of the source "default" that is
// applied later is over it: for example, a target capacity of 50 ends with such a file that has none.
func (o *Operator) ChangeSettings(ctx context.Context, by helvetype.Author, c helvetype.SettingsChange) (out helvetype.SettingsOutcome, err error) {
	done, err := o.turn(by.Seen)
	if err != nil {
		return out, err
	}
	defer done()
	warnings, err := o.useSettings(ctx, by, func(before settings.Node) (settings.Node, error) {
		next, _, _, err := o.changed(before, c)
		return next, err
	})
	if err != nil {
		return out, err
	}
	out.Settings, err = o.AllSettings(ctx)
	out.Warnings = append([]string{}, warnings...)
	return out, err
}

// PlanSettings says what ChangeSettings would do, and changes nothing.
func (o *Operator) PlanSettings(ctx context.Context, c helvetype.SettingsChange) (p helvetype.SettingsPlan, err error) {
	p.Generation = o.Generation()
	before, _, err := o.readSettings(ctx)
	if err != nil {
		return p, err
	}
	next, later, warnings, err := o.changed(before, c)
	if err != nil {
		return p, err
	}
	changes, err := settings.Changes(before, next, later)
	p.Changes, p.Warnings = append([]helvetype.ValueChange{}, changes...), append([]string{}, warnings...)
	return p, err
}

// changed are the settings with a change that the node takes, with the answer of its check.
func (o *Operator) changed(before settings.Node, c helvetype.SettingsChange) (next settings.Node, later, warnings []string, err error) {
	if next, err = before.Changed(c, o.set.Secrets); err != nil {
		return next, nil, nil, err
	}
	if later, warnings, err = o.set.Node.CheckSettings(next); err != nil {
		err = wrongSetting(err)
	}
	return next, later, warnings, err
}

// wrongSetting is the error of settings that the node does not take, as that of an argument.
func wrongSetting(err error) error {
	text := err.Error()
	if _, named := errors.AsType[*settings.Error](err); !named {
		text = "http_options: " + text
	}
	return &helvetype.OperationError{Code: helvetype.CodeInvalidArgument, Message: text, Err: err}
}

// useSettings makes the settings that change gives those of the node, and writes them.
func (o *Operator) useSettings(ctx context.Context, by helvetype.Author, change func(before settings.Node) (settings.Node, error)) (warnings []string, err error) {
	o.setting.Lock()
	defer o.setting.Unlock()
	before, kv, err := o.readSettings(ctx)
	if err != nil {
		return nil, err
	}
	next, err := change(before)
	if err != nil {
		return nil, err
	}
	if warnings, err = o.set.Node.UseSettings(next, false); err != nil {
		return nil, err
	}
	if _, _, err := o.writeSettings(ctx, kv, before, next, by.Name); err != nil {
		o.set.Node.UseSettings(before, false) //nolint:errcheck // they held until now
		return nil, err
	}
	return warnings, nil
}
