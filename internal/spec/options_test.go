package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	t.Run("defaults and sources", func(t *testing.T) {
		t.Parallel()
		e := Options{NumReplicas: 3, Isolation: Process, Limits: Limits{CPUs: 1}}.Effective()
		if e.NumReplicas != 3 || e.MaxOngoingRequests != 5 || e.GracefulShutdownTimeout != 20*time.Second || e.Isolation != Process ||
			e.UnresponsiveAfter != 5*time.Second || e.MaxUnresponsive != 0 || e.RequestRouter != (RequestRouter{PowerOfTwo, 100, 2}) {
			t.Errorf("%+v", e)
		}
		for path, want := range map[string]Source{
			"num_replicas": FromCode, "isolation": FromCode, "limits.num_cpus": FromCode, "limits.memory": FromDefault,
			"max_ongoing_requests": FromDefault, "version": FromDefault, "runtime_env.env_vars": FromDefault,
		} {
			if e.Sources[path] != want {
				t.Errorf("%s comes from %s, want %s", path, e.Sources[path], want)
			}
		}
		if len(e.Sources) != len(optionTable) {
			t.Errorf("%d options have a source, there are %d", len(e.Sources), len(optionTable))
		}
	})
	t.Run("JSON", func(t *testing.T) {
		t.Parallel()
		in := Options{
			NumReplicas: 2, GracefulShutdownTimeout: 1500 * time.Millisecond, Isolation: Process, Version: "v", Default: "d", StrictCodec: true,
			Env: map[string]string{"A": "1"}, Dir: "/srv", Limits: Limits{Memory: 1 << 30, CPUs: 1.5, OpenFiles: 100},
			UserConfig: json.RawMessage(`{"a":[1]}`), RequestRouter: RequestRouter{Policy: ConsistentHash},
			Sources: map[string]Source{"request_router.fallback_replicas": FromCode, "max_unresponsive_s": FromFile},
		}
		const want = `{"default":"d","graceful_shutdown_timeout_s":1.5,"isolation":"process","limits":{"memory":1073741824,"num_cpus":1.5,"open_files":100},` +
			`"max_unresponsive_s":0,"num_replicas":2,"request_router":{"fallback_replicas":0,"policy":"consistent_hash"},` +
			`"runtime_env":{"env_vars":{"A":"1"},"working_dir":"/srv"},"strict_codec":true,"user_config":{"a":[1]},"version":"v"}`
		b, err := json.Marshal(in)
		if err != nil || string(b) != want {
			t.Fatalf("%s, %v", b, err)
		}
		var out Options
		if err := json.Unmarshal(b, &out); err != nil {
			t.Fatal(err)
		}
		in.Sources, out.Sources = nil, nil
		if diff := cmp.Diff(in, out); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("defaults are within bounds", func(t *testing.T) {
		t.Parallel()
		e := Options{}.Effective()
		for path := range e.Sources {
			e.Sources[path] = FromCode
		}
		for _, none := range []string{"user_config", "autoscaling_config", "logging_config", "rollout_config.max_surge", "rollout_config.max_unavailable"} { // nil is none
			delete(e.Sources, none)
		}
		if errs := Options(e).Validate(); len(errs) > 0 {
			t.Error(errs)
		}
	})
}

// TestOptionMistakes compares the text of every kind of mistake, as files and Python get it and as Go programs do.
func TestOptionMistakes(t *testing.T) {
	t.Parallel()
	bad := Options{
		NumReplicas: MaxReplicas + 1, MaxOngoingRequests: -1, MaxQueuedRequests: -2, GracefulShutdownTimeout: -time.Second, GracefulShutdownWaitLoop: -time.Second,
		UserConfig: json.RawMessage("{"), Isolation: "x", HealthCheckPeriod: math.MaxInt64, RequestRouter: RequestRouter{Policy: "any", VirtualNodes: -1},
		Env: map[string]string{"": "", "A=B": "", "HELVE_SOCKET": "", "HELVE_NODE": "", "C": "\x00"}, Dir: "\x00", Version: strings.Repeat("v", maxText+1),
		Limits: Limits{Memory: 1, CPUs: math.NaN(), OpenFiles: -1}, MaxUnresponsive: -time.Second,
		Sources: map[string]Source{"construct_timeout_s": FromCode, "max_constructor_retry_count": FromFile},
	}
	want := []string{
		"num_replicas: must be at most 100000, is 100001",
		"max_ongoing_requests: must be at least 1, is -1",
		"max_queued_requests: must be -1 (no limit) or at least 1, is -2",
		"user_config: is not JSON",
		"graceful_shutdown_timeout_s: must not be negative, is -1s",
		"graceful_shutdown_wait_loop_s: must not be negative, is -1s",
		"health_check_period_s: must be at most 3153600000 seconds (100 years), is 9223372037",
		"construct_timeout_s: must be more than 0",
		"max_constructor_retry_count: must be at least 1, is 0",
		`request_router.policy: must be power_of_two_choices, round_robin or consistent_hash, is "any"`,
		"request_router.virtual_nodes: must be at least 1, is -1",
		`isolation: must be node or process, is "x"`,
		`runtime_env.env_vars: "" is no name of a variable`, `runtime_env.env_vars: "A=B" is no name of a variable`,
		"runtime_env.env_vars: the value of C has a zero byte", "runtime_env.env_vars: HELVE_SOCKET is Helve's own",
		"runtime_env.working_dir: has a zero byte",
		"limits.memory: must be 0 (no limit) or at least 16777216 bytes, is 1",
		"limits.num_cpus: must be 0 (no limit) or at least 0.01, is NaN",
		"limits.open_files: must be 0 (no limit) or at least 16, is -1",
		"max_unresponsive_s: must not be negative, is -1s",
		"version: must be at most 16384 bytes long, is 16385",
	}
	errs := bad.Validate()
	var got []string
	for _, err := range errs {
		got = append(got, err.Error())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	inGo := map[string]string{
		got[0]:  `deployment "D": NumReplicas (num_replicas): must be at most 100000, is 100001`,
		got[5]:  `deployment "D": graceful_shutdown_wait_loop_s: must not be negative, is -1s`, // Go has no such field
		got[10]: `deployment "D": Routing.VirtualNodes (request_router.virtual_nodes): must be at least 1, is -1`,
		got[11]: `deployment "D": isolation: must be node or process, is "x"`,
		got[16]: `deployment "D": Dir (runtime_env.working_dir): has a zero byte`,
		got[17]: `deployment "D": limits.memory: must be 0 (no limit) or at least 16777216 bytes, is 1`,
	}
	for _, err := range errs {
		named := InDeployment("D", err)
		m, ok := errors.AsType[*Mistake](named[0])
		if want := inGo[err.Error()]; !ok || len(named) != 1 || want != "" && m.InGo().Error() != want {
			t.Errorf("%v is %v, want %s", err, m.InGo(), want)
		}
	}
	if err := OptionMistake("request_router", "no %w", os.ErrExist); err.Error() != "request_router: no file already exists" || !errors.Is(err, os.ErrExist) {
		t.Error(err)
	}
}

// TestMerge puts layers over each other: absent keeps, null clears, and each value has the source that set it.
func TestMerge(t *testing.T) {
	t.Parallel()
	code := Options{
		NumReplicas: 2, Env: map[string]string{"A": "1", "B": "2"}, Limits: Limits{Memory: 1 << 30, CPUs: 2}, UserConfig: json.RawMessage(`{"a":1}`),
		RequestRouter: RequestRouter{Policy: ConsistentHash, VirtualNodes: 7},
	}
	file := `{"max_ongoing_requests": 9, "user_config": {"b": 2}, "runtime_env": {"env_vars": {"A": null, "C": "3"}}, "limits": {"num_cpus": null, "open_files": 99},
		"request_router": null, "graceful_shutdown_timeout_s": 0}`
	merged, err := code.Merge(json.RawMessage(file), FromFile)
	if err == nil {
		merged, err = merged.Merge(json.RawMessage(`{"max_ongoing_requests": 10, "num_replicas": null}`), FromOverride)
	}
	if err != nil {
		t.Fatal(err)
	}
	e := merged.Effective()
	for path, want := range map[string]struct {
		value any
		from  Source
		got   any
	}{
		"num_replicas":                 {1, FromDefault, e.NumReplicas},
		"max_ongoing_requests":         {10, FromOverride, e.MaxOngoingRequests},
		"user_config":                  {json.RawMessage(`{"b": 2}`), FromFile, e.UserConfig},
		"runtime_env.env_vars":         {map[string]string{"B": "2", "C": "3"}, FromFile, e.Env},
		"limits.memory":                {int64(1 << 30), FromCode, e.Limits.Memory},
		"limits.num_cpus":              {0.0, FromDefault, e.Limits.CPUs},
		"limits.open_files":            {99, FromFile, e.Limits.OpenFiles},
		"request_router.policy":        {PowerOfTwo, FromDefault, e.RequestRouter.Policy},
		"request_router.virtual_nodes": {100, FromDefault, e.RequestRouter.VirtualNodes},
		"graceful_shutdown_timeout_s":  {time.Duration(0), FromFile, e.GracefulShutdownTimeout},
	} {
		if !reflect.DeepEqual(want.got, want.value) || e.Sources[path] != want.from {
			t.Errorf("%s is %v from %s, want %v from %s", path, want.got, e.Sources[path], want.value, want.from)
		}
	}
	if code.Env["A"] != "1" || len(code.Env) != 2 || len(code.Sources) != 0 {
		t.Errorf("the merge has changed what it was merged over: %+v", code)
	}

	_, err = code.Merge(json.RawMessage(`{"num_replica": 1, "nothing": 2, "num_replicas": 1.5, "limits": {"memry": 1, "memory": "1GB"}, "runtime_env": 7,
		"version": 3, "strict_codec": "yes", "health_check_period_s": "soon", "isolation": true, "request_router": {"policy": []}}`), FromFile)
	want := `health_check_period_s: must be a number of seconds, is "soon"
isolation: must be node or process, is true
limits.memory: must be an integer, is "1GB"
limits: unknown option "memry"; did you mean memory?
unknown option "nothing"; there are num_replicas, max_ongoing_requests, `
	if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Count(err.Error(), "\n") != 10 || !strings.Contains(err.Error(), "\nunknown option \"num_replica\"; did you mean num_replicas?\n") {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if _, err = code.Merge(json.RawMessage("[1]"), FromFile); err == nil || err.Error() != "must be an object, is an array" {
		t.Error(err)
	}
}

// TestStartReplicas: an autoscaling_config takes the place of num_replicas, and its mistakes are found.
func TestStartReplicas(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]int{
		"": 3, `{}`: 1, `{"min_replicas": 2, "max_replicas": 4}`: 2, `{"min_replicas": 0, "initial_replicas": 4, "max_replicas": 4}`: 4,
		`{"min_replicas": 0}`: 0, `{"initial_replicas": 0, "min_replicas": 0}`: 0, `[]`: 1,
	} {
		o := Options{NumReplicas: 3}
		if config != "" {
			o.AutoscalingConfig = json.RawMessage(config)
		}
		if got := o.Effective().StartReplicas(); got != want {
			t.Errorf("%s: %d replicas, want %d", config, got, want)
		}
	}
	for config, want := range map[string]string{
		`{"min_replicas": -1}`:                      "min_replicas must not be negative, is -1",
		`{"max_replicas": 0}`:                       "max_replicas must be at least 1, is 0",
		`{"max_replicas": 100001}`:                  "max_replicas must be from 1 to 100000, is 100001",
		`{"upscale_delay": 3}`:                      "upscale_delay: there is no such field; did you mean upscale_delay_s?",
		`{"min_replicas": 2}`:                       "max_replicas must be at least min_replicas (2), is 1",
		`{"initial_replicas": 3,"max_replicas": 2}`: "initial_replicas must be from min_replicas (1) to max_replicas (2), is 3",
		`{"min_replicas": "2"}`:                     `min_replicas, max_replicas and initial_replicas must be integers, min_replicas is "2"`,
	} {
		if errs := (Options{AutoscalingConfig: json.RawMessage(config)}).Validate(); len(errs) != 1 || errs[0].Error() != "autoscaling_config: "+want {
			t.Errorf("%s: %v, want %s", config, errs, want)
		}
	}
	if err := json.Unmarshal([]byte(`{"autoscaling_config": 7, "logging_config": "x"}`), new(Options)); err == nil ||
		err.Error() != "autoscaling_config: must be an object, is 7\nlogging_config: must be an object, is \"x\"" {
		t.Error(err)
	}
}

// TestResources: resources are merged by their names, and a list is replaced as a whole.
func TestResources(t *testing.T) {
	t.Parallel()
	code := Options{Resources: Resources{GPUs: 0.5, Custom: map[string]float64{"a": 1, "b": 2}}, PyModules: []string{"/m"}, Pip: Pip{Packages: []string{"numpy"}}}
	o, err := code.Merge(json.RawMessage(`{"ray_actor_options": {"memory": 1024, "resources": {"a": null, "c": 0.5}}, "runtime_env": {"py_modules": ["/n", "/o"],
		"pip": {"pip_install_options": ["--no-index"]}}, "backpressure_config": {"status_code": 429}}`), FromFile)
	if err != nil {
		t.Fatal(err)
	}
	e := o.Effective()
	if diff := cmp.Diff(Resources{CPUs: 1, GPUs: 0.5, Memory: 1024, Custom: map[string]float64{"b": 2, "c": 0.5}}, e.Resources); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]any{[]string{"/n", "/o"}, Pip{Packages: []string{"numpy"}, InstallOptions: []string{"--no-index"}}, Backpressure{429, time.Second}},
		[]any{e.PyModules, e.Pip, e.Backpressure}); diff != "" {
		t.Error(diff)
	}
	wrong := Options{Resources: Resources{Custom: map[string]float64{"x": -1, "y": math.NaN()}}, PyModules: []string{"a\x00"}, Backpressure: Backpressure{StatusCode: 500}}
	const want = `[backpressure_config.status_code: must be 503 or 429, is 500 ray_actor_options.resources: "x" must be a number that is not negative, is -1 ` +
		`ray_actor_options.resources: "y" must be a number that is not negative, is NaN runtime_env.py_modules: has a zero byte]`
	if got := fmt.Sprint(wrong.Validate()); got != want {
		t.Error(got)
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	before := Options{MaxOngoingRequests: 5, UserConfig: json.RawMessage(`{"a": 1}`)}
	after, err := before.Merge(json.RawMessage(`{"num_replicas": 3, "user_config": {"a":2}, "limits": {"memory": 1073741824}, "max_ongoing_requests": 5}`), FromFile)
	if err != nil {
		t.Fatal(err)
	}
	got := Changes(before.Effective(), after.Effective())
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	want := []Change{
		{"num_replicas", Lightweight, raw("1"), raw("3"), FromDefault, FromFile},
		{"user_config", NeedsReconfigure, raw(`{"a":1}`), raw(`{"a":2}`), FromCode, FromFile},
		{"limits.memory", NewReplicas, raw("0"), raw("1073741824"), FromDefault, FromFile},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if MostUpdate(got) != NewReplicas || MostUpdate(got[:2]) != NeedsReconfigure || MostUpdate(nil) != Lightweight {
		t.Error("the greatest update is not the greatest")
	}
	spaced := Options{UserConfig: json.RawMessage(`{ "a": 1 }`), MaxOngoingRequests: 5}
	if c := Changes(before.Effective(), spaced.Effective()); len(c) > 0 {
		t.Errorf("white space is a change: %+v", c)
	}
	// The class of every option, so that a new one is thought about.
	classes := map[Update][]string{}
	for _, o := range optionTable {
		if o.update != Lightweight {
			classes[o.update] = append(classes[o.update], o.path)
		}
	}
	if diff := cmp.Diff(map[Update][]string{NeedsReconfigure: {"user_config"}, NewReplicas: {
		"logging_config", "ray_actor_options.num_cpus", "ray_actor_options.num_gpus", "ray_actor_options.memory", "ray_actor_options.object_store_memory",
		"ray_actor_options.accelerator_type", "ray_actor_options.resources", "ray_actor_options.label_selector", "ray_actor_options.fallback_strategy", "isolation", "runtime_env.env_vars", "runtime_env.working_dir",
		"runtime_env.py_modules", "runtime_env.pip.packages", "runtime_env.pip.pip_install_options", "runtime_env.pip.pip_version", "runtime_env.pip.pip_check", "limits.memory", "limits.num_cpus", "limits.open_files", "limits.from_resources", "unresponsive_after_s",
		"strict_codec", "version", "default",
	}}, classes); diff != "" {
		t.Error(diff)
	}
}

// TestGeneratedFiles fails if a file that comes from the table is out of date.
func TestGeneratedFiles(t *testing.T) {
	t.Parallel()
	for path, want := range GeneratedFiles() {
		got, err := os.ReadFile(filepath.Join("..", "..", path))
		if err != nil || string(got) != want {
			t.Errorf("%s is stale (%v): go run ./internal/spec/gen", path, err)
		}
	}
}

// fruit and publicFruit are the structs of a table of options to which the test adds one, as a new option is added to [optionTable].
type fruit struct {
	Weight int
	Peel   peel
}

type peel struct{ Colour Policy }

type publicFruit struct {
	Weight *int
	Peel   struct{ Colour Policy }
}

// TestNewOption adds a row to a table and finds the option everywhere.
func TestNewOption(t *testing.T) {
	t.Parallel()
	with := rows(
		row("weight_g", "Weight", Lightweight, integer(1, 1000).in("grams"), 200, func(f *fruit) *int { return &f.Weight }, "Weight."),
		group("peel", "Peel", func(f *fruit) *peel { return &f.Peel },
			row("colour", "Colour", NewReplicas, choice[Policy]("red", "green"), "green", func(p *peel) *Policy { return &p.Colour }, "Colour of the peel.")),
	)
	var red fruit
	var sources map[string]Source
	t.Run("JSON", func(t *testing.T) {
		var errs []error
		sources, errs = with.merge(&red, nil, json.RawMessage(`{"peel": {"colour": "red"}}`), FromFile)
		b, err := with.marshal(&red, sources)
		if len(errs) > 0 || red.Peel.Colour != "red" || string(b) != `{"peel":{"colour":"red"}}` {
			t.Errorf("%+v, %s, %v, %v", red, b, errs, err)
		}
	})
	t.Run("merge", func(t *testing.T) {
		merged := red
		s, errs := with.merge(&merged, sources, json.RawMessage(`{"peel": {"colour": null}, "weight_g": 5}`), FromOverride)
		if len(errs) > 0 || merged.Peel.Colour != "" || s["weight_g"] != FromOverride || len(s) != 1 {
			t.Errorf("%+v, %v, %v", merged, s, errs)
		}
	})
	t.Run("effective", func(t *testing.T) {
		full, plain := red, fruit{}
		if s := with.fill(&full, sources); full.Peel.Colour != "red" || s["peel.colour"] != FromFile || s["weight_g"] != FromDefault || full.Weight != 200 {
			t.Errorf("%+v, %v", full, s)
		}
		if s := with.fill(&plain, nil); plain.Peel.Colour != "green" || s["peel.colour"] != FromDefault {
			t.Errorf("%+v, %v", plain, s)
		}
	})
	t.Run("validation", func(t *testing.T) {
		errs := with.validate(&fruit{Weight: 2000, Peel: peel{"blue"}}, nil)
		if got := fmt.Sprint(errs); got != `[weight_g: must be at most 1000 grams, is 2000 peel.colour: must be red or green, is "blue"]` {
			t.Error(got)
		}
	})
	t.Run("changes", func(t *testing.T) {
		c := with.changes(&fruit{Peel: peel{"red"}}, &fruit{Peel: peel{"green"}}, nil, nil)
		if len(c) != 1 || c[0].Option != "peel.colour" || c[0].Update != NewReplicas || string(c[0].After) != `"green"` {
			t.Errorf("%+v", c)
		}
	})
	t.Run("public field", func(t *testing.T) {
		var f fruit
		public := publicFruit{Weight: new(0)}
		s, errs := with.fromGo(&f, public, nil)
		if len(errs) > 0 || s["weight_g"] != FromCode || len(s) != 1 {
			t.Errorf("%+v, %v, %v", f, s, errs)
		}
		public.Weight, public.Peel.Colour = nil, "red"
		if s, _ = with.fromGo(&f, public, nil); f.Peel.Colour != "red" || s["peel.colour"] != FromCode {
			t.Errorf("%+v, %v", f, s)
		}
		public = publicFruit{}
		with.toGo(&fruit{7, peel{"green"}}, &public)
		if *public.Weight != 7 || public.Peel.Colour != "green" {
			t.Errorf("%+v", public)
		}
	})
	t.Run("reference", func(t *testing.T) {
		want := "| `weight_g` | `Weight` | integer, 1 to 1000 grams | `200` | nothing | Weight. |\n" +
			"| `peel.colour` | `Peel.Colour` | `red` or `green` | `green` | new replicas | Colour of the peel. |\n"
		if page := reference(with); !strings.HasSuffix(page, want) {
			t.Error(page)
		}
	})
	t.Run("Python", func(t *testing.T) {
		want := `OPTIONS = {
    "weight_g": partial(_limits.integer, least=1, most=1000, unit=" grams"),
    "peel": partial(_limits.group, of={
        "colour": partial(_limits.choice, of=["red", "green"]),
    }),
}
`
		if module := pythonModule(with); !strings.Contains(module, want) {
			t.Error(module)
		}
	})
}

// FuzzOptions reads options of any JSON. Options that could be read are written and read as the same, and have a source and an effective value for each option.
func FuzzOptions(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `[]`, `{"num_replicas": 2, "limits": {"memory": 1e99}, "runtime_env": {"env_vars": {"A": null}}}`,
		`{"user_config": [1, {"a": "<"}], "request_router": {"policy": "custom", "fallback_replicas": 0}, "health_check_period_s": 1e300}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var o, again Options
		if json.Unmarshal(b, &o) != nil {
			return
		}
		out, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &again); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if c := Changes(o.Effective(), again.Effective()); len(c) > 0 || len(o.Validate()) != len(again.Validate()) {
			t.Fatalf("changes when it is written: %+v\n%s", c, out)
		}
	})
}

// TestObjectsMerge: a layer changes the fields of an object that it has, and null takes one away.
func TestObjectsMerge(t *testing.T) {
	t.Parallel()
	o, err := Options{}.Merge([]byte(`{"autoscaling_config":{"min_replicas":1,"max_replicas":4,"policy":{"a":1,"b":2}}}`), FromCode)
	if err != nil {
		t.Fatal(err)
	}
	o, err = o.Merge([]byte(`{"autoscaling_config":{"min_replicas":2,"initial_replicas":null,"policy":{"b":null,"c":3}}}`), FromFile)
	if want := `{"max_replicas":4,"min_replicas":2,"policy":{"a":1,"c":3}}`; err != nil || string(o.AutoscalingConfig) != want {
		t.Errorf("%s, %v", o.AutoscalingConfig, err)
	}
	if o, err = o.Merge([]byte(`{"autoscaling_config":null}`), FromOverride); err != nil || o.AutoscalingConfig != nil {
		t.Errorf("%s, %v", o.AutoscalingConfig, err)
	}
}
