// Package simulation is the command helve autoscale: it simulates the autoscaler of a deployment against a load of the user, without a node.
package simulation

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/autoscale/simulate"
	"github.com/helve-serve/helve/internal/shown"
)

// usage is the mistake of a user in a flag, an argument or a file.
func usage(format string, args ...any) error {
	return &helvetype.OperationError{Code: helvetype.CodeInvalidArgument, Message: fmt.Sprintf(format, args...)}
}

// Command makes the command.
func Command(program string) *cobra.Command {
	c := &cobra.Command{Use: "autoscale", Short: "Try an autoscaling_config without a node", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(simulateCommand(program))
	return c
}

// settings are the flags.
type settings struct {
	program      string
	config       string
	deployment   string
	svg          string
	output       string
	decisions    bool
	applications bool // the file of --config has applications
	duration     float64
	model        simulate.Model
}

func simulateCommand(program string) *cobra.Command {
	s := settings{program: program}
	c := &cobra.Command{
		Use: "simulate LOAD.csv", Short: "Show how a deployment scales under a load",
		Long: "Simulate the autoscaler of a deployment in fake time, and Ray Serve's published algorithm with the same configuration beside it. Nothing is started, and no node is asked.\n\n" +
			"LOAD.csv, or - for the standard input, has a line with the names of its columns. With time_s,calls_per_s each row is a rate that holds until the time of the next row,\n" +
			"and with time_s,callers a number of callers that wait for each answer; a column duration_s is optional. With arrival_s,duration_s each row is one call. For example:\n\n" +
			"  time_s,calls_per_s,duration_s\n  0,2,0.2\n  60,100,0.2\n  600,2,0.2\n\n" +
			"--config is a file with an autoscaling_config, in YAML or JSON, or the file of an application. Without it a deployment has 1 to 100 replicas.\n" +
			"A custom policy of it is not asked: a warning says so, and the load decides.",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("%s takes one argument, a file with the load (%s autoscale simulate --help shows an example)", c.CommandPath(), s.program)
			}
			if !c.Flags().Changed("parallel") {
				s.model.Parallel = s.model.MaxOngoing
			}
			return s.run(args[0], c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&s.config, "config", "", "file with an autoscaling_config, or with applications (default: 1 to 100 replicas)")
	f.StringVar(&s.deployment, "deployment", "", "the deployment of a file with applications whose autoscaling_config counts, as NAME or APPLICATION/NAME")
	f.StringVar(&s.svg, "svg", "", "file for a drawing of the replicas over time")
	f.StringVarP(&s.output, "output", "o", "text", "text, json or yaml; json and yaml also have each decision and each second")
	f.BoolVar(&s.decisions, "decisions", false, "show each decision with its reason")
	f.Float64Var(&s.duration, "duration", 0.2, "mean time of a call in seconds, for files without duration_s")
	f.Float64Var(&s.model.Start, "start", 1, "seconds from a decision to the first call of a new replica")
	f.Float64Var(&s.model.StartFails, "start-fails", 0, "share of starts that fail and begin again, from 0 to 0.99")
	f.IntVar(&s.model.MaxOngoing, "max-ongoing-requests", 5, "calls that a replica has at most")
	f.IntVar(&s.model.Parallel, "parallel", 0, "calls that a replica executes at once; the others wait inside it (default: all)")
	f.Uint64Var(&s.model.Seed, "seed", 1, "another seed is another chance")
	return c
}

func (s *settings) run(file string, in io.Reader, out, warnings io.Writer) error {
	switch {
	case !slices.Contains([]string{"text", "json", "yaml"}, s.output):
		return usage("--output %q: must be text, json or yaml", s.output)
	case !(s.duration > 0):
		return usage("--duration %v: must be above 0", s.duration)
	case !(s.model.Start >= 0):
		return usage("--start %v: must be 0 or more", s.model.Start)
	case !(s.model.StartFails >= 0 && s.model.StartFails <= 0.99):
		return usage("--start-fails %v: must be from 0 to 0.99", s.model.StartFails)
	case s.model.MaxOngoing < 1:
		return usage("--max-ongoing-requests %d: must be at least 1", s.model.MaxOngoing)
	case s.model.Parallel < 1:
		return usage("--parallel %d: must be at least 1", s.model.Parallel)
	}
	raw, config, err := s.configuration()
	if err != nil {
		return err
	}
	load, err := s.load(file, in)
	if err != nil {
		return err
	}
	if s.applications {
		fmt.Fprintf(warnings, "warning: the code of the applications is not read: an option that is not in %s has its default here, although the code may set it\n", shown.Safe(s.config))
	}
	if of := config.Policy.Function; of != "" {
		fmt.Fprintf(warnings, "warning: the policy %s is not asked here: the result is that of the same autoscaling_config without it\n", shown.Safe(of))
	}
	ours, reference := simulate.Compare(load, s.model, config)
	if s.svg != "" {
		panel := simulate.Panel{Title: file, Ours: ours.Samples, Reference: reference.Samples}
		if err := os.WriteFile(s.svg, simulate.SVG("simulation", "Replicas under the load of "+file, []simulate.Panel{panel}, 1), 0o600); err != nil {
			return err
		}
	}
	if s.output != "text" {
		return s.encode(out, raw, ours, reference)
	}
	fmt.Fprintf(out, "%d calls in %.0f s; %d to %d replicas, target %v\n\n%s", ours.Summary.Calls, load.Length, config.MinReplicas, config.MaxReplicas, config.Target, simulate.Text(ours, reference))
	if s.decisions {
		fmt.Fprintf(out, "\n%9s  %s\n", "at", "decision")
		for _, d := range ours.Changes {
			fmt.Fprintf(out, "%7.1f s  %d -> %d: %s\n", d.At, d.From, d.To, d.Reason)
		}
	}
	if s.svg != "" {
		fmt.Fprintf(out, "\nThe drawing is in %s.\n", shown.Safe(s.svg))
	}
	return nil
}

func (s *settings) encode(out io.Writer, raw json.RawMessage, ours, reference simulate.Result) error {
	text, err := json.Marshal(map[string]any{"autoscaling_config": raw, "helve": ours, "ray_serve": reference})
	if err != nil {
		return err
	}
	if s.output == "yaml" {
		if text, err = shown.YAML(text); err != nil {
			return err
		}
	} else {
		text = shown.JSON(text)
	}
	_, err = fmt.Fprintf(out, "%s\n", strings.TrimSuffix(string(text), "\n"))
	return err
}

func (s *settings) load(file string, in io.Reader) (simulate.Load, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return simulate.Load{}, usage("%v", err)
		}
		defer f.Close()
		in = f
	}
	load, err := simulate.Read(in, s.duration, s.model.Seed)
	if err != nil {
		return load, usage("%s: %v", shown.Safe(file), err)
	}
	return load, nil
}

// automatic is the autoscaling_config of num_replicas: auto.
const automatic = `{"min_replicas":1,"max_replicas":100,"target_ongoing_requests":2}`

// configuration is the autoscaling_config of the flags.
func (s *settings) configuration() (json.RawMessage, autoscale.Config, error) {
	raw := json.RawMessage(automatic)
	switch {
	case s.config != "":
		text, err := os.ReadFile(s.config)
		if err != nil {
			return nil, autoscale.Config{}, usage("--config: %v", err)
		}
		var file map[string]any
		if err := shown.FromYAML(text, &file); err != nil {
			return nil, autoscale.Config{}, usage("--config %s: must be an object: %v", shown.Safe(s.config), err)
		}
		if raw, err = s.among(file); err != nil {
			return nil, autoscale.Config{}, err
		}
	case s.deployment != "":
		return nil, autoscale.Config{}, usage("--deployment is a deployment of a file with applications: give it with --config FILE")
	}
	c, err := autoscale.Parse(raw)
	if err != nil {
		return nil, c, usage("--config %s: %v", shown.Safe(s.config), err)
	}
	return raw, c, nil
}

// among finds the autoscaling_config in a file: the file itself, its field autoscaling_config, or the field of one of the deployments of its applications.
func (s *settings) among(file map[string]any) (json.RawMessage, error) {
	apps, ok := file["applications"].([]any)
	if !ok {
		if s.deployment != "" {
			return nil, usage("--config %s: there are no applications for --deployment", shown.Safe(s.config))
		}
		if inner, ok := file["autoscaling_config"]; ok {
			return json.Marshal(inner)
		}
		return json.Marshal(file)
	}
	s.applications = true
	found := map[string]map[string]any{}
	for _, a := range apps {
		app, _ := a.(map[string]any)
		name, _ := app["name"].(string)
		if name == "" {
			name = "default"
		}
		deployments, _ := app["deployments"].([]any)
		for _, d := range deployments {
			deployment, _ := d.(map[string]any)
			scaling, ok := deployment["autoscaling_config"].(map[string]any)
			if deployment["num_replicas"] == "auto" {
				with := map[string]any{"min_replicas": 1, "max_replicas": 100, "target_ongoing_requests": 2}
				maps.Copy(with, scaling)
				scaling, ok = with, true
			}
			if together := app["autoscaling_policy"]; ok && together != nil {
				scaling = maps.Clone(scaling)
				scaling["policy"] = together
			}
			if full := fmt.Sprintf("%s/%v", name, deployment["name"]); ok && (s.deployment == "" || s.deployment == full || s.deployment == deployment["name"]) {
				found[full] = scaling
			}
		}
	}
	names := slices.Sorted(maps.Keys(found))
	switch {
	case len(names) == 1:
		return json.Marshal(found[names[0]])
	case len(names) > 1:
		return nil, usage("--config %s: %d deployments have an autoscaling_config: choose one with --deployment %s", shown.Safe(s.config), len(names), shown.Safe(strings.Join(names, ", or ")))
	case s.deployment != "":
		return nil, usage("--config %s: there is no deployment %s with an autoscaling_config", shown.Safe(s.config), shown.Safe(s.deployment))
	}
	return nil, usage("--config %s: no deployment of the file has an autoscaling_config, and the code is not read: write its fields into a file, and give that one", shown.Safe(s.config))
}
