package spec

import (
	"fmt"
	"strings"
)

// generated says where a file comes from.
const generated = "from the table of options in internal/spec/options.go, by `go run ./internal/spec/gen`"

// page is the page of the documentation, in Markdown.
func page() string {
	var b strings.Builder
	b.WriteString(reference(optionTable))
	b.WriteString("\n## Options of an application\n\nA file has them beside `deployments`. *new application* means that the application is built anew: its deployments get new replicas,\n" +
		"but for those whose code and options turn out to be the same.\n\n" +
		"| option | Go | values | default | change | meaning |\n|---|---|---|---|---|---|\n")
	tableRows(&b, applicationTable)
	b.WriteString(layersText)
	return b.String()
}

// layersText is the part of the page about files and overrides.
const layersText = "\n## Overrides, and the number of replicas\n\n" +
	"An operator can set options of an application that runs, over those of its file: `helve set shop/Ranker max_ongoing_requests=20`, or PATCH of the REST API with\n" +
	"`{\"deployments\": {\"Ranker\": {\"max_ongoing_requests\": 20}}}`. Such an override makes a revision, with the effect that the column *change* names.\n" +
	"null takes an override away: the value of the file, else of the code, else the default holds again. `route_prefix` and `history_limit` of the application can be\n" +
	"overridden too; the other options of an application come from its file.\n\n" +
	"An override stays over deploys, until a deploy gives that option another value than the deploy before. For example, the file says 5 and the override\n" +
	"20. A deploy of the same file keeps 20. A deploy of a file with 8 drops the override, and 8 holds.\n\n" +
	"The number of replicas follows the same rule. `helve scale shop/Ranker 5` sets it above `num_replicas`. A deploy sets it only if its `num_replicas` is\n" +
	"another one than that of the deploy before, and a rollback leaves it. `helve set shop/Ranker num_replicas=`, or null in a PATCH, takes the 5 away: `num_replicas` of file or code\n" +
	"holds again, in a revision of its own. `helve plan` shows both numbers.\n\n" +
	"A revision keeps its overrides: a rollback brings them back. A deploy that changes neither code nor options makes no revision, and says so.\n" +
	"`helve config shop --effective` shows each option with its source, and `helve history shop` the changes of each revision.\n"

// reference is the part of the page about the options of a deployment.
func reference[S any](t table[S]) string {
	var b strings.Builder
	b.WriteString("# Options of a deployment\n\n<!-- Written " + generated + ". -->\n\n" +
		"Python and files name an option as in the first column; an option of a group, such as `limits.memory`, is a key of a dict: `limits={\"memory\": ...}`.\n" +
		"Go has a field of `helve.Options`. Layers are merged: defaults, then code, then a file, then an override. A key that a layer does not have is\n" +
		"kept, and null clears the option or the group. `Options.Effective()` says where each value comes from.\n\n" +
		"Python takes the forms of Ray Serve too, and raises the errors of Ray Serve: `num_replicas=\"auto\"`, `request_router_config` with the class of a shipped\n" +
		"policy or its import path, `placement_group_bundles` (their sum becomes `ray_actor_options`), a `runtime_env` in `ray_actor_options`, and configuration\n" +
		"classes of `helve.serve.config` in place of dicts. In `.options()` a dict replaces the one before as a whole. `gang_scheduling_config`,\n" +
		"`deployment_actors` and request routers in Python are refused by name. `help(serve.deployment)` has every option.\n\n" +
		"The column *change* names the effect of a change on the replicas that run: *nothing* (they hear nothing of it), *in place* (they are told, and go on), or\n" +
		"*new replicas*.\n\n" +
		"| option | Go | values | default | change | meaning |\n|---|---|---|---|---|---|\n")
	tableRows(&b, t)
	return b.String()
}

// tableRows writes a row of the page for each option.
func tableRows[S any](b *strings.Builder, t table[S]) {
	for _, o := range t {
		path, goPath := "`"+o.path+"`", "`"+o.goPath+"`"
		if o.goOnly {
			path += " (Go only)"
		}
		if o.goPath == "" || o.names[len(o.names)-1].code == "" {
			goPath = ""
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", path, goPath, o.accepts, initial(o), o.update, o.doc)
	}
}

// initial is the default of an option, for the reference.
func initial[S any](o option[S]) string {
	var s S
	o.accessor(&s).fillDefault()
	if v := string(o.text(&s)); v != `null` && v != `""` {
		return "`" + strings.Trim(v, `"`) + "`"
	}
	return "none"
}

// pythonModule is the module that checks options in Python.
func pythonModule[S any](t table[S]) string {
	var b strings.Builder
	b.WriteString("\"\"\"The options of a deployment, each with the check of its value: a function of the option's name and the value.\n\n" +
		"Written " + generated + ".\n\"\"\"\n\n" +
		"from functools import partial\n\nfrom helve import _limits\n\nOPTIONS = {\n")
	pythonRows(&b, t, 0)
	b.WriteString("}\n\n__all__ = [\"OPTIONS\"]\n")
	return b.String()
}

// pythonRows writes the rows of a dict: of all options at depth 0, of a group below.
func pythonRows[S any](b *strings.Builder, t table[S], depth int) {
	indent := strings.Repeat("    ", depth+1)
	for _, key := range t.keys(depth) {
		var of table[S]
		for _, o := range t {
			if o.names[depth].json == key && !o.goOnly {
				of = append(of, o)
			}
		}
		switch {
		case len(of) == 0:
		case len(of[0].names) == depth+1:
			fmt.Fprintf(b, "%s%q: %s,\n", indent, key, of[0].python)
		default:
			fmt.Fprintf(b, "%s%q: partial(_limits.group, of={\n", indent, key)
			pythonRows(b, of, depth+1)
			fmt.Fprintf(b, "%s}),\n", indent)
		}
	}
}
