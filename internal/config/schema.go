package config

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/spec"
)

// schema is a part of a JSON Schema.
type schema = map[string]any

// Schema is the JSON Schema of files, for editors: an editor that has it completes the names of fields, shows what each means, and marks mistakes while a file is
// written. Options of deployments come from the table of options; [Read] has the last word on a file.
func Schema() []byte {
	logging := fieldsOf(schema{
		"encoding": enum("TEXT", "JSON"), "log_level": schema{"enum": append(anys(logLevels), 10, 20, 30, 40, 50)}, "logs_dir": text0(), "enable_access_log": typed("boolean"),
		"additional_log_standard_attrs": schema{"type": "array", "items": schema{"enum": logAttributes}},
	})
	root := fieldsOf(schema{
		"proxy_location": described(enum("EveryNode", "HeadOnly", "Disabled", "NoServer"), "There is one node, so the places with HTTP are equal. Disabled and NoServer are no HTTP in helve run; helve deploy leaves a node with HTTP as it is, because helve start says whether it has some."),
		"http_options": fieldsOf(schema{
			"host": text0(), "port": schema{"type": "integer", "minimum": 0, "maximum": 65535}, "root_path": text0(), "request_timeout_s": typed("number", "null"),
			"keep_alive_timeout_s": schema{"type": []string{"number", "null"}, "exclusiveMinimum": 0}, "ssl_keyfile": text0(), "ssl_certfile": text0(), "ssl_keyfile_password": text0(), "ssl_ca_certs": text0(),
		}),
		"grpc_options": typed("object"), "tracing_config": described(fieldsOf(schema{
			"enabled": typed("boolean"), "exporter_import_path": text0(), "sampling_ratio": schema{"type": []string{"number", "null"}, "minimum": 0, "maximum": 1}, "slow_request_s": schema{"type": []string{"number", "null"}, "minimum": 0},
			"otlp_endpoint": text0(), "otlp_headers": schema{"type": []string{"object", "null"}, "additionalProperties": typed("string")},
		}), "Which requests the node keeps with all their spans, and the receiver of OpenTelemetry that gets them."), "controller_options": typed("object"), "logging_config": schema{"$ref": "#/$defs/logging_config"},
		"target_capacity": schema{"type": []string{"number", "null"}, "minimum": 0, "maximum": 100, "description": "Percent of all numbers of replicas that should run."},
		"applications":    schema{"type": "array", "items": schema{"$ref": "#/$defs/application"}},
	})
	root["additionalProperties"] = true // unknown fields are ignored
	root["required"] = []string{"applications"}
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Applications for Helve and Ray Serve"
	root["$defs"] = schema{
		"logging_config": logging, "application": applicationSchema(), "deployment": deploymentSchema(), "runtime_env": environmentSchema(),
	}
	b, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil // maps and texts always have a form
	}
	return append(b, '\n')
}

func typed(names ...string) schema {
	if len(names) == 1 {
		return schema{"type": names[0]}
	}
	return schema{"type": names}
}

func text0() schema { return typed("string", "null") }

func enum(words ...string) schema { return schema{"enum": words} }

func anys(words []string) (all []any) {
	for _, w := range words {
		all = append(all, w)
	}
	return all
}

func described(s schema, text string) schema {
	s = maps.Clone(s)
	s["description"] = text
	return s
}

// fieldsOf is an object with these fields and no other.
func fieldsOf(properties schema) schema {
	return schema{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
}

func applicationSchema() schema {
	properties := schema{}
	for _, row := range spec.ApplicationRows() {
		properties[row.Path] = orNull(described(row.Schema, describe(row)))
	}
	properties["name"] = described(schema{"type": "string", "minLength": 1}, "Name of the application. Default: `default`.")
	properties["args"] = described(typed("object", "null"), "Arguments of a function that makes the application. Texts may have ${env:NAME}, ${file:PATH} and the tag !secret.")
	properties["runtime_env"] = schema{"$ref": "#/$defs/runtime_env"}
	properties["logging_config"] = schema{"$ref": "#/$defs/logging_config"}
	properties["deployments"] = schema{"type": []string{"array", "null"}, "items": schema{"$ref": "#/$defs/deployment"}}
	s := fieldsOf(properties)
	s["type"], s["required"] = "object", []string{"import_path"}
	return s
}

func describe(row spec.Row) string {
	text := row.Doc
	if d := string(row.Default); d != "" && d != "null" && d != `""` {
		text += " Default: " + d + "."
	}
	return text + " Change: " + row.Update.String() + "."
}

// orNull allows null, which takes a value of the code away.
func orNull(s schema) schema {
	return schema{"anyOf": []any{s, schema{"type": "null"}}, "description": s["description"]}
}

// deploymentSchema has the options of the table in their groups, and the names of Ray Serve that the reader turns into them.
func deploymentSchema() schema {
	properties := schema{}
	for _, row := range spec.DeploymentRows() {
		if row.GoOnly {
			continue
		}
		at := properties
		for _, group := range row.Keys[:len(row.Keys)-1] {
			inner, ok := at[group].(schema)
			if !ok {
				inner = fieldsOf(schema{})
				at[group] = inner
			}
			at = inner["properties"].(schema) //nolint:forcetypeassert // as fieldsOf makes it
		}
		at[row.Keys[len(row.Keys)-1]] = orNull(described(row.Schema, describe(row)))
	}
	resources := properties["ray_actor_options"].(schema)["properties"].(schema) //nolint:forcetypeassert // a group of the table
	resources["runtime_env"] = schema{"$ref": "#/$defs/runtime_env"}
	properties["runtime_env"] = schema{"$ref": "#/$defs/runtime_env"}
	properties["logging_config"] = schema{"$ref": "#/$defs/logging_config"}
	properties["name"] = described(schema{"type": "string", "minLength": 1}, "Name of the deployment: that of its class or function in the code.")
	replicas := properties["num_replicas"].(schema)
	replicas["anyOf"] = append(replicas["anyOf"].([]any), schema{"const": "auto"}) //nolint:forcetypeassert // as orNull makes it
	scaling := schema{"aggregation_function": enum("mean", "max", "min"), "policy": typed("object", "null"), "prometheus_metrics": schema{"type": []string{"array", "null"}, "items": typed("string")}}
	for name, least := range autoscale.Least {
		kind := "number"
		if strings.HasSuffix(name, "_replicas") {
			kind = "integer"
		}
		scaling[name] = schema{"type": []string{kind, "null"}, "minimum": least}
	}
	auto := fieldsOf(scaling)
	auto["patternProperties"] = schema{"^_": schema{}}
	properties["autoscaling_config"] = auto
	properties["request_router_config"] = fieldsOf(schema{
		"request_router_class": text0(), "request_router_kwargs": typed("object", "null"), "request_routing_stats_period_s": typed("number", "null"),
		"request_routing_stats_timeout_s": typed("number", "null"), "initial_backoff_s": typed("number", "null"), "backoff_multiplier": typed("number", "null"),
		"max_backoff_s": typed("number", "null"), "ingress_router_fallback": typed("boolean", "null"),
	})
	bundles := schema{"type": []string{"array", "null"}, "items": schema{"type": "object", "additionalProperties": schema{"type": "number", "minimum": 0}}}
	properties["placement_group_bundles"] = described(bundles, "A replica asks for their sum.")
	properties["placement_group_strategy"] = schema{"enum": []any{"PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD", nil}}
	for _, refused := range []string{"gang_scheduling_config", "deployment_actors", "placement_group_bundle_label_selector", "placement_group_fallback_strategy"} {
		properties[refused] = described(schema{"enum": []any{nil, []any{}}}, "Not there.")
	}
	s := fieldsOf(properties)
	s["type"], s["required"] = "object", []string{"name"}
	return s
}

func environmentSchema() schema {
	packages := schema{"anyOf": []any{typed("string", "null"), schema{"type": "array", "items": typed("string")}, typed("object")}}
	properties := schema{
		"env_vars":    described(schema{"type": []string{"object", "null"}, "additionalProperties": text0()}, "Variables. Texts may have ${env:NAME} and ${file:PATH}. Values are never shown."),
		"working_dir": text0(), "py_modules": schema{"type": []string{"array", "null"}, "items": typed("string")}, "pip": packages, "uv": packages,
		"excludes": schema{"type": []string{"array", "null"}, "items": typed("string")}, "config": typed("object", "null"),
	}
	for _, name := range slices.Sorted(maps.Keys(elsewhere)) {
		properties[name] = described(typed("null"), "Not there: "+elsewhere[name]+".")
	}
	return fieldsOf(properties)
}
