package spec

import (
	"encoding/json"
)

// Application has the options of a whole application as its code, a file or an operator set them. Sources says where each value comes from, as for
// [Options].
type Application struct {
	RoutePrefix     string
	ImportPath      string
	Args            json.RawMessage
	RuntimeEnv      json.RawMessage
	LoggingConfig   json.RawMessage
	AutoscaleConfig json.RawMessage // the policy of the application as a whole
	ExternalScaler  bool            // another program sets the numbers of replicas
	HistoryLimit    int

	Sources map[string]Source
}

// EffectiveApplication are the options of an application with every default filled in.
type EffectiveApplication Application

// applicationTable has a row per option of an application, in the order of docs/options.md.
var applicationTable = rows( //nolint:gochecknoglobals // a constant
	row("route_prefix", "RoutePrefix", Lightweight, text(), "/",
		func(a *Application) *string { return &a.RoutePrefix },
		"Path under which HTTP reaches the ingress. null in a file: HTTP does not reach it."),
	row("import_path", "", NewApplication, text(), "",
		func(a *Application) *string { return &a.ImportPath },
		"Code of the application: `module:attribute` in Python, `exec:PATH#APPLICATION` of a Go build."),
	row("args", "", NewApplication, anyJSON(), nil,
		func(a *Application) *json.RawMessage { return &a.Args },
		"Arguments of a function that builds the application."),
	row("runtime_env", "", NewApplication, object(), nil,
		func(a *Application) *json.RawMessage { return &a.RuntimeEnv },
		"Environment of the processes of all deployments, under the `runtime_env` of each: see [environments](environments.md)."),
	row("logging_config", "", NewReplicas, object(), nil,
		func(a *Application) *json.RawMessage { return &a.LoggingConfig },
		"Settings of the loggers of all deployments that have none of their own."),
	row("autoscaling_policy", "", Lightweight, object(), nil,
		func(a *Application) *json.RawMessage { return &a.AutoscaleConfig },
		"Policy that says how many replicas each deployment with an `autoscaling_config` needs, all at once: see [policies](policies.md#one-policy-for-an-application)."),
	row("external_scaler_enabled", "", Lightweight, boolean(), false,
		func(a *Application) *bool { return &a.ExternalScaler },
		"Another program sets the numbers of replicas: a deploy leaves a number that was set. No deployment may have an `autoscaling_config` beside it."),
	row("history_limit", "", Lightweight, integer(1, 1000), 10,
		func(a *Application) *int { return &a.HistoryLimit },
		"Number of revisions that are kept, for the history and for rollbacks."),
)

// Effective fills in the defaults.
func (a Application) Effective() EffectiveApplication {
	a.Sources = applicationTable.fill(&a, a.Sources)
	return EffectiveApplication(a)
}

// Validate lists every option that is out of range.
func (a Application) Validate() []error { return applicationTable.validate(&a, a.Sources) }

// Merge is the options with a layer over them: see [Options.Merge].
func (a Application) Merge(layer json.RawMessage, from Source) (Application, error) {
	var errs []error
	a.Sources, errs = applicationTable.merge(&a, a.Sources, layer, from)
	return a, joined(errs)
}

// MarshalJSON writes the options that are set.
func (a Application) MarshalJSON() ([]byte, error) { return applicationTable.marshal(&a, a.Sources) }

// UnmarshalJSON reads options as a file has them.
func (a *Application) UnmarshalJSON(b []byte) error {
	read, err := Application{}.Merge(b, FromFile)
	*a = read
	return err
}

// ApplicationChanges lists the options that differ, in the order of the table.
func ApplicationChanges(before, after EffectiveApplication) []Change {
	return applicationTable.changes((*Application)(&before), (*Application)(&after), before.Sources, after.Sources)
}

// Value is the value of one option, with its source and the kind of update that a change of it needs.
type Value struct {
	Option string
	JSON   json.RawMessage
	From   Source
	Update Update
	Doc    string // a sentence about the option, in Markdown
}

// Values lists all options, in the order of the table.
func (e Effective) Values() []Value { return optionTable.values((*Options)(&e), e.Sources) }

// ValuesIn are the [Effective.Values] of a deployment in a language: one in Python has no options that Go alone has.
func (e Effective) ValuesIn(language string) []Value {
	all := e.Values()
	if language != "python" {
		return all
	}
	some := all[:0]
	for i, o := range optionTable {
		if !o.goOnly {
			some = append(some, all[i])
		}
	}
	return some
}

// Values lists all options, in the order of the table.
func (e EffectiveApplication) Values() []Value {
	return applicationTable.values((*Application)(&e), e.Sources)
}

func (t table[S]) values(s *S, sources map[string]Source) []Value {
	all := make([]Value, len(t))
	for i, o := range t {
		all[i] = Value{o.path, o.text(s), o.source(s, sources), o.update, o.doc}
	}
	return all
}

// Row describes one option, for schemas and error texts.
type Row struct {
	Path    string   // for example "rollout_config.max_surge"
	Keys    []string // the parts of the path
	Accepts string   // the values, in words
	Default json.RawMessage
	Update  Update
	Doc     string
	GoOnly  bool           // Python and files do not have the option
	Schema  map[string]any // the JSON Schema of a value; not to be changed
}

// DeploymentRows are the rows of the table of the options of a deployment, and ApplicationRows those of an application.
func DeploymentRows() []Row { return optionTable.describe() }

// ApplicationRows are the rows of the table of the options of an application.
func ApplicationRows() []Row { return applicationTable.describe() }

func (t table[S]) describe() []Row {
	all := make([]Row, len(t))
	for i, o := range t {
		var s S
		o.accessor(&s).fillDefault()
		all[i] = Row{Path: o.path, Accepts: o.accepts, Default: o.text(&s), Update: o.update, Doc: o.doc, GoOnly: o.goOnly, Schema: o.schema}
		for _, n := range o.names {
			all[i].Keys = append(all[i].Keys, n.json)
		}
	}
	return all
}
