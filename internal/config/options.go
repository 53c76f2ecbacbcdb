package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/nearest"
	"github.com/helve-serve/helve/internal/spec"
)

// rayOnly are the options of Ray Serve that have another name in [spec.Options], or none.
var rayOnly = []string{ //nolint:gochecknoglobals // a constant
	"name", "placement_group_bundles", "placement_group_strategy", "placement_group_bundle_label_selector", "placement_group_fallback_strategy",
	"request_router_config", "gang_scheduling_config", "deployment_actors",
}

// renamed are options of older versions of Ray Serve.
var renamed = map[string]string{ //nolint:gochecknoglobals // a constant
	"max_concurrent_queries": "max_ongoing_requests", "target_num_ongoing_requests_per_replica": "target_ongoing_requests",
}

// The options whose value is a number, which Ray Serve also takes as a text.
var (
	integers = []string{"num_replicas", "max_ongoing_requests", "max_queued_requests", "max_constructor_retry_count", "max_surge_percent", "max_replicas_per_node"}
	numbers  = []string{"graceful_shutdown_timeout_s", "graceful_shutdown_wait_loop_s", "health_check_period_s", "health_check_timeout_s", "rolling_update_percentage"}
)

// deployments reads the list of an application. The layers are by name.
func (r *reader) deployments(app Application, f field) map[string]json.RawMessage {
	if f.value.kind == null {
		return nil
	}
	if f.value.kind != list {
		r.wrong(f.value.at, "deployments: must be a list, is %s", f.value.shown())
		return nil
	}
	all, lines := map[string]json.RawMessage{}, map[string]int{}
	for _, item := range f.value.items {
		own := item.get("name")
		if item.kind != object || own == nil || own.kind != text || own.text == "" {
			r.wrong(item.at, "a deployment must have a name, that of its class or function")
			continue
		}
		if first, ok := lines[own.text]; ok {
			r.wrong(own.at, "name: deployment %q is in line %d too", own.text, first)
			continue
		}
		lines[own.text] = own.at.line
		d := &deployment{r: r, app: app, name: own.text, layer: map[string]any{}, places: map[string]place{"": item.at, "name": own.at}}
		d.read(item)
		for option, at := range d.places {
			r.file.places[key(app.Name, own.text, option)] = at
		}
		raw, err := json.Marshal(d.layer)
		if err != nil {
			r.wrong(item.at, "%s", err) // values of the file always have a form
		}
		all[own.text] = raw
	}
	return all
}

// deployment makes the layer of one deployment.
type deployment struct {
	r      *reader
	app    Application
	name   string
	layer  map[string]any
	places map[string]place // by the path of an option in the layer
}

func (d *deployment) of() string { return fmt.Sprintf("deployment %q: ", d.name) }

func (d *deployment) wrong(at place, format string, args ...any) {
	d.r.wrong(at, "%s%s", d.of(), fmt.Sprintf(format, args...))
}

// read reads the fields, and checks them by the table of options.
func (d *deployment) read(v *value) {
	names := slices.Concat(spec.Keys(""), rayOnly)
	for _, f := range v.fields {
		switch {
		case f.name == "name":
		case renamed[f.name] != "":
			d.wrong(f.at, "%s: is now %s", f.name, renamed[f.name])
		case !slices.Contains(names, f.name):
			d.wrong(f.at, "%s: there is no such option%s", f.name, nearest.Question(f.name, names))
		default:
			d.option(f)
		}
	}
	d.replicas(v)
	d.bundles(v)
	o, err := spec.Options{}.Merge(mustJSON(d.layer), spec.FromFile)
	d.table(err)
	found := optionsOf(err)
	for _, err := range o.Validate() {
		if slices.ContainsFunc(optionsOf(err), func(path string) bool { return slices.Contains(found, path) }) {
			continue
		}
		if m, ok := errors.AsType[*spec.Mistake](err); ok && slices.Equal(m.Paths(), []string{"autoscaling_config"}) {
			if scaling := v.get("autoscaling_config"); scaling.get("min_replicas") == nil || scaling.get("max_replicas") == nil {
				continue // the code may have the other bound
			}
		}
		d.table(err)
	}
}

// mustJSON is the layer so far. Its values come from JSON.
func mustJSON(layer map[string]any) json.RawMessage {
	raw, err := json.Marshal(layer)
	if err != nil {
		return json.RawMessage("{}")
	}
	return raw
}

// optionsOf are the options that the mistakes of an error are about.
func optionsOf(err error) (paths []string) {
	for _, one := range parts(err) {
		if m, ok := errors.AsType[*spec.Mistake](one); ok {
			paths = append(paths, m.Paths()...)
		}
	}
	return paths
}

// parts are the errors that an error joins; none for nil.
func parts(err error) (all []error) {
	several, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // its parts are the errors
	if !ok && err != nil {
		return []error{err}
	}
	if ok {
		for _, one := range several.Unwrap() {
			all = append(all, parts(one)...)
		}
	}
	return all
}

// table adds the mistakes that the table of options has found, each at the line of its option.
func (d *deployment) table(err error) {
	for _, one := range parts(err) {
		d.one(one)
	}
}

func (d *deployment) one(err error) {
	m, ok := errors.AsType[*spec.Mistake](err)
	if !ok || len(m.Paths()) == 0 {
		d.wrong(d.places[""], "%s", err)
		return
	}
	path := m.Paths()[0]
	at := path
	if path == "autoscaling_config" {
		at = d.scalingField(m.Problem())
		if slices.ContainsFunc(d.r.mistakes, func(before *Mistake) bool {
			return before.Line == d.places[at].line && before.Column == d.places[at].column
		}) {
			return // the field has been read, and its mistake is known
		}
	}
	for d.places[at] == (place{}) && at != "" {
		at = parent(at)
	}
	d.wrong(d.places[at], "%s: %s", path, m.Problem())
}

// scalingField is the path of the field of an autoscaling_config that a mistake is about. Where the text names several, it is the field whose value the text has. For example, "max_replicas must be at least
// min_replicas (6), is 5" is about max_replicas, or about min_replicas if the file has that alone.
func (d *deployment) scalingField(problem string) string {
	const group = "autoscaling_config"
	best, first := group, len(problem)
	for _, name := range slices.Sorted(maps.Keys(autoscale.Least)) {
		if d.places[group+"."+name] == (place{}) {
			continue
		}
		if strings.Contains(problem, ", "+name+" is ") {
			return group + "." + name
		}
		if i := strings.Index(problem, name); i >= 0 && i < first && (i == 0 || problem[i-1] == ' ') {
			best, first = group+"."+name, i
		}
	}
	return best
}

// option puts one field into the layer.
func (d *deployment) option(f field) {
	d.places[f.name] = valueOr(f)
	switch f.name {
	case "user_config":
		d.r.seal(f.value)
		d.layer[f.name] = f.value.json()
	case "runtime_env":
		d.environment(f)
	case "ray_actor_options":
		d.resources(f)
	case "logging_config":
		d.r.logging(f, d.of())
		d.layer[f.name] = f.value.json()
	case "autoscaling_config":
		d.autoscaling(f)
	case "request_router_config":
		d.router(f)
	case "num_replicas", "placement_group_bundles", "placement_group_strategy", "placement_group_bundle_label_selector", "placement_group_fallback_strategy":
		// see replicas and bundles
	case "gang_scheduling_config":
		d.refused(f, "one node starts all replicas of a deployment together; leave it out")
	case "deployment_actors":
		d.refused(f, "bind another deployment in its place, and call it by its handle")
	default:
		d.r.unsealed(f.value, d.of()+f.name)
		v := f.value
		switch {
		case slices.Contains(integers, f.name):
			v = whole(v)
		case slices.Contains(numbers, f.name):
			v = numeral(v)
		}
		d.group(f.name, f)
		d.layer[f.name] = v.stars(false).json() // a secret is a mistake there, and the text of the mistake has the value
	}
}

// valueOr is the place of a value that can be marked, else of the key.
func valueOr(f field) place {
	if f.value.kind == object || f.value.kind == list || f.value.kind == null {
		return f.at
	}
	return f.value.at
}

func (d *deployment) refused(f field, instead string) {
	if f.value.kind != null && (f.value.kind != list || len(f.value.items) > 0) {
		d.wrong(f.at, "%s: is not there: %s", f.name, instead)
	}
}

// group notes the places of the options of a group, and finds names that it does not have.
func (d *deployment) group(path string, f field) {
	names := spec.Keys(path)
	if len(names) == 0 || f.value.kind != object {
		return
	}
	for _, inner := range f.value.fields {
		at := path + "." + inner.name
		d.places[at] = valueOr(inner)
		if slices.Contains(names, inner.name) {
			d.group(at, inner)
		} else {
			d.wrong(inner.at, "%s: there is no such option%s", at, orList(inner.name, names))
		}
	}
	f.value.fields = slices.DeleteFunc(slices.Clone(f.value.fields), func(inner field) bool { return !slices.Contains(names, inner.name) })
}

// orList ends a message with the name that was meant, else with all names.
func orList(name string, names []string) string {
	if meant := nearest.Question(name, names); meant != "" {
		return meant
	}
	return "; there are " + strings.Join(names, ", ")
}

// replicas sets num_replicas and autoscaling_config, of which a deployment has one: a number takes the place of an autoscaler of the code, and the
// other way around.
func (d *deployment) replicas(v *value) {
	n, scaling := v.field("num_replicas"), v.get("autoscaling_config")
	switch {
	case n == nil || n.value.kind == null:
		if scaling != nil {
			d.layer["num_replicas"] = nil
		} else if n != nil {
			d.layer["num_replicas"] = nil
		}
	case n.value.kind == text && n.value.text == "auto":
		auto := map[string]json.RawMessage{"min_replicas": json.RawMessage("1"), "max_replicas": json.RawMessage("100"), "target_ongoing_requests": json.RawMessage("2")}
		if scaling != nil {
			for _, f := range scaling.fields {
				auto[f.name] = f.value.json()
			}
		}
		d.layer["num_replicas"], d.layer["autoscaling_config"] = nil, auto
		d.places["autoscaling_config"] = d.places["num_replicas"]
	case scaling != nil:
		d.wrong(n.at, "num_replicas: a deployment has a number of replicas or autoscaling_config, not both; num_replicas: auto goes with it")
	default:
		number := whole(n.value)
		d.layer["num_replicas"], d.layer["autoscaling_config"] = number.stars(false).json(), nil
		if number.kind == text {
			d.wrong(n.value.at, `num_replicas: must be an integer or "auto", is %s`, n.value.shown())
			d.layer["num_replicas"] = nil
		}
	}
	if d.app.ExternalScaler && (scaling != nil || n != nil && n.value.text == "auto") {
		d.wrong(d.places["autoscaling_config"], "autoscaling_config: the application has external_scaler_enabled: leave one of the two out")
	}
}

func (d *deployment) autoscaling(f field) {
	v := d.r.object(f.at, d.of()+f.name, f.value)
	d.layer[f.name] = json.RawMessage("null")
	if v == nil {
		return
	}
	d.r.unsealed(v, d.of()+f.name)
	names := slices.Concat(slices.Sorted(maps.Keys(autoscale.Least)), autoscale.Others)
	out := map[string]json.RawMessage{}
	at := d.of() + f.name + "."
	for i := range v.fields {
		in := v.fields[i]
		least, isNumber := autoscale.Least[in.name]
		d.places[f.name+"."+in.name] = valueOr(in)
		switch {
		case strings.HasPrefix(in.name, "_"): // `serve build` writes them
			continue
		case isNumber:
			if _, ok := d.r.number(in, at, least, math.MaxInt32); ok && strings.HasSuffix(in.name, "_replicas") {
				in.value = whole(in.value)
			} else {
				in.value = numeral(in.value)
			}
		case in.name == "aggregation_function":
			d.r.choice(in, at, "mean", "max", "min")
		case in.name == "prometheus_metrics":
			d.r.texts(in, at)
		case in.name == "policy":
			d.r.policy(in, at)
		case renamed[in.name] != "":
			d.r.wrong(in.at, "%s%s: is now %s", at, in.name, renamed[in.name])
		default:
			d.r.wrong(in.at, "%s%s: there is no such field%s", at, in.name, nearest.Question(in.name, names))
		}
		out[in.name] = in.value.json()
	}
	d.layer[f.name] = out
}

// resources reads ray_actor_options, whose runtime_env is an option of its own here.
func (d *deployment) resources(f field) {
	v := d.r.object(f.at, d.of()+f.name, f.value)
	if v == nil {
		d.layer[f.name] = nil
		return
	}
	if env := v.field("runtime_env"); env != nil {
		d.environment(*env)
	}
	rest := v.without("runtime_env")
	d.r.unsealed(rest, d.of()+f.name)
	for i, in := range rest.fields {
		d.places[f.name+"."+in.name] = valueOr(in)
		switch in.name {
		case "num_cpus", "num_gpus":
			rest.fields[i].value = numeral(in.value)
		case "memory", "object_store_memory":
			rest.fields[i].value = whole(in.value)
		case "resources":
			for _, own := range in.value.fields {
				if slices.Contains([]string{"CPU", "GPU", "memory", "object_store_memory"}, own.name) {
					d.wrong(own.at, "%s.resources.%s: is num_cpus, num_gpus, memory or object_store_memory of %s", f.name, own.name, f.name)
				}
			}
		}
	}
	d.group(f.name, field{f.name, f.at, rest})
	d.layer[f.name] = rest.json()
}

// environment puts a runtime_env into the layer.
func (d *deployment) environment(f field) {
	note := func(path string, at place) { d.places[path] = at }
	note("runtime_env", f.at)
	raw := d.r.environment(f, d.of(), note)
	if raw == nil {
		raw = json.RawMessage("null")
	}
	if _, twice := d.layer["runtime_env"]; twice {
		d.wrong(f.at, "runtime_env: is beside that of ray_actor_options: write one of the two")
		return
	}
	d.layer["runtime_env"] = raw
}

// bundleNames are the names of resources in placement groups, and in ray_actor_options.
var bundleNames = map[string]string{"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory", "object_store_memory": "object_store_memory"} //nolint:gochecknoglobals // a constant

// bundles reads the placement group of a deployment: with one node, a replica asks for the sum of its bundles.
func (d *deployment) bundles(v *value) {
	bundles, strategy, labels := v.get("placement_group_bundles"), v.field("placement_group_strategy"), v.field("placement_group_bundle_label_selector")
	if strategy != nil {
		d.r.choice(*strategy, d.of(), "PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
	}
	if labels != nil {
		d.refused(*labels, "there is one node, which has no labels; leave it out")
	}
	if fallback := v.field("placement_group_fallback_strategy"); fallback != nil {
		d.refused(*fallback, "there is one node; leave it out")
	}
	if bundles == nil {
		if strategy != nil && strategy.value.kind != null {
			d.wrong(strategy.at, "placement_group_strategy: needs placement_group_bundles")
		}
		return
	}
	at := d.places["placement_group_bundles"]
	if per := v.get("max_replicas_per_node"); per != nil {
		d.wrong(at, "placement_group_bundles: max_replicas_per_node does not go with it: leave one of the two out")
	}
	if strategy != nil && strategy.value.text == "STRICT_SPREAD" && len(bundles.items) > 1 {
		d.wrong(strategy.value.at, "placement_group_strategy: STRICT_SPREAD needs a node for each bundle, and there is one node; use PACK")
	}
	if bundles.kind != list || len(bundles.items) == 0 {
		d.wrong(at, `placement_group_bundles: must be a list such as [{"CPU": 1}, {"GPU": 1}], is %s`, bundles.shown())
		return
	}
	sum, custom := map[string]float64{"num_cpus": 0}, map[string]float64{}
	for _, bundle := range bundles.items {
		total := 0.0
		for _, f := range bundle.fields {
			n, ok := d.r.number(f, d.of()+"placement_group_bundles.", 0, math.MaxInt64)
			if !ok {
				return
			}
			total += n
			if name, ok := bundleNames[f.name]; ok {
				sum[name] += n
			} else {
				custom[f.name] += n
			}
		}
		if bundle.kind != object || total == 0 {
			d.wrong(bundle.at, "placement_group_bundles: a bundle must ask for something, is %s", bundle.shown())
			return
		}
	}
	d.fits(v, bundles.items[0], at)
	resources := map[string]any{}
	for name, n := range sum {
		resources[name] = n
		if strings.HasSuffix(name, "memory") {
			resources[name] = int64(n)
		}
	}
	if len(custom) > 0 {
		resources["resources"] = custom
	}
	if kind := v.get("ray_actor_options").get("accelerator_type"); kind != nil {
		resources["accelerator_type"] = kind.json()
	}
	d.layer["ray_actor_options"] = resources
}

// fits compares the resources of the replica itself with the first bundle, in which it runs.
func (d *deployment) fits(v, first *value, at place) {
	own := v.get("ray_actor_options")
	for name, theirs := range map[string]string{"CPU": "num_cpus", "GPU": "num_gpus"} {
		asks, has := 0.0, 0.0
		if n := own.get(theirs); n != nil {
			asks = numeral(n).float()
		} else if own == nil && name == "CPU" {
			asks = 1
		}
		if n := first.get(name); n != nil {
			has = numeral(n).float()
		}
		if asks > has {
			d.wrong(at, "placement_group_bundles: the replica runs in the first bundle, which has %s: %v, and asks for %s: %v in ray_actor_options", name, has, theirs, asks)
		}
	}
}

// policies are the classes of routers that the node has.
var policies = map[string]spec.Policy{ //nolint:gochecknoglobals // a constant
	"PowerOfTwoChoicesRequestRouter": spec.PowerOfTwo, "RoundRobinRouter": spec.RoundRobin, "ConsistentHashRouter": spec.ConsistentHash,
}

// router reads request_router_config: the option request_router, and two times.
func (d *deployment) router(f field) {
	v := d.r.object(f.at, d.of()+f.name, f.value)
	if v == nil {
		d.layer["request_router"] = nil
		return
	}
	d.r.unsealed(v, d.of()+f.name)
	policy, at := spec.PowerOfTwo, d.of()+f.name+"."
	out := map[string]any{}
	known := fields{
		"request_router_class": func(r *reader, f field) {
			path, _ := r.text(f, at)
			class := path[strings.LastIndexAny(path, ".:")+1:]
			var ok bool
			if policy, ok = policies[class]; !ok && path != "" {
				r.wrong(f.value.at, "%srequest_router_class: %q is no router of the node, which picks replicas itself: use %s", at, path, strings.Join(slices.Sorted(maps.Keys(policies)), ", "))
			}
			if !ok {
				policy = spec.PowerOfTwo
			}
		},
		"request_router_kwargs": func(*reader, field) {},
		"request_routing_stats_period_s": func(r *reader, f field) {
			d.places[f.name] = f.value.at
			if n, ok := r.number(f, at, aboveZero, maxSeconds); ok {
				d.layer[f.name] = n
			}
		},
		"request_routing_stats_timeout_s": func(r *reader, f field) {
			d.places[f.name] = f.value.at
			if n, ok := r.number(f, at, aboveZero, maxSeconds); ok {
				d.layer[f.name] = n
			}
		},
		"initial_backoff_s":       func(r *reader, f field) { r.number(f, at, aboveZero, maxSeconds) },
		"backoff_multiplier":      func(r *reader, f field) { r.number(f, at, aboveZero, maxSeconds) },
		"max_backoff_s":           func(r *reader, f field) { r.number(f, at, aboveZero, maxSeconds) },
		"ingress_router_fallback": func(r *reader, f field) { r.boolean(f, at) },
	}
	d.r.each(v, known, func(f field) {
		if !strings.HasPrefix(f.name, "_") {
			d.r.wrong(f.at, "%s%s: there is no such field%s", at, f.name, nearest.Question(f.name, known.names()))
		}
	})
	names := map[string]string{}
	if policy == spec.ConsistentHash {
		names = map[string]string{"num_virtual_nodes": "virtual_nodes", "num_fallback_replicas": "fallback_replicas"}
	}
	if kwargs := v.get("request_router_kwargs"); kwargs != nil {
		for _, arg := range kwargs.fields {
			name, ok := names[arg.name]
			if !ok {
				d.r.wrong(arg.at, "%srequest_router_kwargs: the router has no argument %q%s", at, arg.name, nearest.Question(arg.name, slices.Sorted(maps.Keys(names))))
				continue
			}
			d.places["request_router."+name] = valueOr(arg)
			out[name] = whole(arg.value).json()
		}
	}
	out["policy"] = policy
	d.places["request_router"] = f.at
	d.layer["request_router"] = out
}

// policy checks an autoscaling policy: its function, the arguments of a class, and the time of an answer. Whether the function is there is seen when it is asked.
func (r *reader) policy(f field, of string) {
	v := r.object(f.at, of+f.name, f.value)
	if v == nil {
		return
	}
	at, names := of+f.name+".", []string{"policy_function", "policy_kwargs", "timeout_s"}
	for _, in := range v.fields {
		switch {
		case strings.HasPrefix(in.name, "_") || in.value.kind == null: // `serve build` writes _serialized_policy_def
		case in.name == "policy_function":
			if path, ok := r.text(in, at); ok && !strings.ContainsAny(path, ":.") {
				r.wrong(in.value.at, "%s%s: must be an import path such as %q, is %q", at, in.name, "scaling:by_queue", path)
			}
		case in.name == "policy_kwargs":
			r.object(in.at, at+in.name, in.value)
		case in.name == "timeout_s":
			r.number(in, at, aboveZero, math.MaxInt32)
		default:
			r.wrong(in.at, "%s%s: there is no such field%s", at, in.name, nearest.Question(in.name, names))
		}
	}
}
