package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// RayServe is `ray-compat serve`: the command line of Ray Serve with its names, flags and shapes of output, so that scripts go on as they are. Package rayserve has
// the commands that start programs.
func RayServe(s Settings) *cobra.Command {
	c := &cobra.Command{
		Use: "serve COMMAND", Short: "The command line of Ray Serve, with its flags and its output", SuggestionsMinimumDistance: 2,
		Long: "The command line of Ray Serve, with its flags and its output, for scripts that are written for it.",
	}
	c.AddCommand(serveDeploy(s), serveConfig(s), serveStatus(s), serveShutdown(s), serveHealth(s))
	return c
}

// asked is a reader with the flag of the reference for the address of the node.
func asked(s Settings, c *cobra.Command) *reader {
	r := newReader(s)
	r.output = "text"
	address := os.Getenv("RAY_DASHBOARD_ADDRESS")
	c.Flags().StringVarP(&r.address, "address", "a", address, "address of the node (default: $RAY_DASHBOARD_ADDRESS, else the node of this user)")
	c.Flags().StringVar(&r.token, "token", "", "token for a node at an address")
	c.Flags().StringVar(&r.ca, "ca", "", "file of the authorities that the certificate of a node at https:// must be from")
	return r
}

func serveDeploy(s Settings) *cobra.Command {
	var from source
	var runtimeEnv, runtimeEnvJSON, workingDir string
	c := &cobra.Command{Use: "deploy CONFIG_OR_IMPORT_PATH [key=value...]", Short: "Send a file, or an application of an import path, to the node"}
	r := asked(s, c)
	c.RunE = func(c *cobra.Command, args []string) error {
		node, err := r.dial(c.Context())
		if err != nil {
			return err
		}
		if IsFile(args) { // as in the reference
			if from.name != "" || from.routePrefix != "" || runtimeEnv != "" || runtimeEnvJSON != "" || workingDir != "" {
				fmt.Fprintln(os.Stderr, "warning: --name, --route-prefix, --runtime-env, --runtime-env-json and --working-dir are ignored: the file has these in it")
			}
			from.name, from.routePrefix, runtimeEnv, runtimeEnvJSON, workingDir = "", "", "", "", ""
		}
		request, err := from.read(args, os.Stdin, node.Local())
		if err != nil {
			return err
		}
		if request, err = withEnvironment(request, runtimeEnv, runtimeEnvJSON, workingDir); err != nil {
			return err
		}
		answer, err := node.Apply(c.Context(), request)
		if err != nil {
			return err
		}
		warnOf(answer, os.Stderr)
		if err := failed(answer.Applications, r.program); err != nil { // the reference has a deploy of which a part is refused as a whole fail
			return err
		}
		_, err = fmt.Println("Sent deploy request successfully.\n * Use `serve status` to check applications' statuses.\n * Use `serve config` to see the current application config(s).")
		return err
	}
	c.Flags().StringVar(&from.name, "name", "", "name of the application of an import path")
	c.Flags().StringVar(&from.routePrefix, "route-prefix", "", "path of the application of an import path")
	c.Flags().StringVar(&runtimeEnv, "runtime-env", "", "file with the runtime_env of an import path")
	c.Flags().StringVar(&runtimeEnvJSON, "runtime-env-json", "", "runtime_env of an import path, as JSON")
	c.Flags().StringVar(&workingDir, "working-dir", "", "working_dir of the runtime_env of an import path")
	NoVariables(c)
	return c
}

// warnOf prints the warnings and the refused applications of a deploy, for which the text of the reference has no place.
func warnOf(a helvetype.ApplyAnswer, w io.Writer) {
	for _, text := range a.Warnings {
		fmt.Fprintln(w, "warning:", text)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Applications)) {
		if o := a.Applications[name]; o.Error != "" {
			fmt.Fprintf(w, "error: %s: %s\n", name, o.Error)
		}
	}
}

// IsFile says that the first argument is a file.
func IsFile(args []string) bool {
	if len(args) == 0 {
		return false
	}
	st, err := os.Stat(args[0])
	return err == nil && st.Mode().IsRegular()
}

// Environment is the runtime_env of the flags --runtime-env, --runtime-env-json and --working-dir, of which the last is over the others.
func Environment(file, text, dir string) (map[string]any, error) {
	env := map[string]any{}
	switch {
	case file != "" && text != "":
		return nil, usage("--runtime-env and --runtime-env-json: give one of the two")
	case file != "":
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, UsageError{err}
		}
		if err := shown.FromYAML(b, &env); err != nil {
			return nil, usage("--runtime-env %s: %s", file, err)
		}
	case text != "":
		if err := json.Unmarshal([]byte(text), &env); err != nil {
			return nil, usage("--runtime-env-json: %s", err)
		}
	}
	if dir != "" {
		env["working_dir"] = dir
	}
	return env, nil
}

// withEnvironment adds a runtime_env to the application of an import path.
func withEnvironment(r helvetype.ApplyRequest, file, text, dir string) (helvetype.ApplyRequest, error) {
	if file == "" && text == "" && dir == "" {
		return r, nil
	}
	var doc struct {
		Applications []map[string]any `json:"applications"`
	}
	if !r.Keep || json.Unmarshal([]byte(r.Config), &doc) != nil || len(doc.Applications) != 1 {
		return r, usage("--runtime-env, --runtime-env-json and --working-dir are for an import path; a file has its runtime_env in it")
	}
	env, err := Environment(file, text, dir)
	if err != nil {
		return r, err
	}
	doc.Applications[0]["runtime_env"] = env
	b, err := json.Marshal(doc)
	r.Config = string(b)
	return r, err
}

func serveConfig(s Settings) *cobra.Command {
	var name string
	c := &cobra.Command{Use: "config", Short: "Show the configurations of applications that files have deployed", Args: NoArgs}
	r := asked(s, c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		node, err := r.dial(c.Context())
		if err != nil {
			return err
		}
		in, err := visible(c.Context(), node, name)
		if err != nil {
			return err
		}
		var documents []string
		for _, app := range slices.Sorted(maps.Keys(in.Applications)) {
			if d := in.Applications[app]; d.FailedDeploy != nil && len(d.Deployments) == 0 { // it was refused, and has no configuration
				continue
			}
			text, err := node.Submitted(c.Context(), app)
			if err != nil {
				return err
			}
			if string(text) == "null" {
				continue
			}
			b, err := shown.YAML(text)
			if err != nil {
				return err
			}
			documents = append(documents, string(b))
		}
		switch {
		case len(documents) > 0:
			fmt.Print(strings.Join(documents, "\n---\n\n"))
		case name != "":
			fmt.Printf("No config has been deployed for application %q.\n", name)
		default:
			fmt.Println("No configuration was found.")
		}
		return nil
	}
	c.Flags().StringVarP(&name, "name", "n", "", "only this application")
	NoVariables(c)
	return c
}

// visible is the state of the node without tasks and actors, of one application if name is not "".
func visible(ctx context.Context, node *rest.Client, name string) (details.Instance, error) {
	in, err := node.Instance(ctx)
	maps.DeleteFunc(in.Applications, func(app string, _ details.AppDetails) bool {
		return strings.HasPrefix(app, spec.HiddenApps) || name != "" && app != name
	})
	return in, err
}

// serveState is the output of `serve status`: the reference's ServeStatus.
type serveState struct {
	Proxies        map[string]string   `json:"proxies"`
	Applications   map[string]appState `json:"applications"`
	TargetCapacity *float64            `json:"target_capacity"`
}

type appState struct {
	Status            helvetype.ApplicationState `json:"status"`
	Message           string                     `json:"message"`
	LastDeployedTimeS float64                    `json:"last_deployed_time_s"`
	Deployments       map[string]deploymentState `json:"deployments"`
}

type deploymentState struct {
	Status        helvetype.DeploymentState      `json:"status"`
	StatusTrigger helvetype.DeploymentTrigger    `json:"status_trigger"`
	ReplicaStates map[helvetype.ReplicaState]int `json:"replica_states"`
	Message       string                         `json:"message"`
}

// serveStateOf makes the reference's status of the details.
func serveStateOf(in details.Instance) serveState {
	s := serveState{Proxies: map[string]string{}, Applications: map[string]appState{}, TargetCapacity: in.TargetCapacity}
	for id, p := range in.Proxies {
		s.Proxies[id] = p.Status
	}
	for name, app := range in.Applications {
		a := appState{app.Status, app.Message, app.LastDeployedTimeS, map[string]deploymentState{}}
		for deployment, d := range app.Deployments {
			states := map[helvetype.ReplicaState]int{}
			for _, r := range d.Replicas {
				states[r.State]++
			}
			a.Deployments[deployment] = deploymentState{d.Status, d.StatusTrigger, states, d.Message}
		}
		s.Applications[name] = a
	}
	return s
}

func serveStatus(s Settings) *cobra.Command {
	var name string
	c := &cobra.Command{Use: "status", Short: "Show the status of the applications as YAML", Args: NoArgs}
	r := asked(s, c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		node, err := r.dial(c.Context())
		if err != nil {
			return err
		}
		in, err := visible(c.Context(), node, name)
		if err != nil {
			return err
		}
		state := serveStateOf(in)
		var text []byte
		if name != "" {
			app, ok := state.Applications[name]
			if !ok {
				return coded{exitNotFound, fmt.Errorf("application %q does not exist\nnext: serve status shows all", name)}
			}
			text, err = json.Marshal(app)
		} else {
			text, err = json.Marshal(state)
		}
		if err != nil {
			return err
		}
		if text, err = shown.YAML(text); err != nil {
			return err
		}
		_, err = os.Stdout.Write(text)
		return err
	}
	c.Flags().StringVarP(&name, "name", "n", "", "only this application")
	NoVariables(c)
	return c
}

func serveShutdown(s Settings) *cobra.Command {
	var yes bool
	c := &cobra.Command{Use: "shutdown", Short: "Delete all applications", Args: NoArgs}
	r := asked(s, c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		node, err := r.dial(c.Context())
		if err != nil {
			return err
		}
		if err := confirm(c, yes, "This will shut down Serve on the node at "+node.Address()+" and delete all applications there. Do you want to continue?"); err != nil {
			return err
		}
		if err := node.Shutdown(c.Context()); err != nil {
			return err
		}
		_, err = fmt.Println("Sent shutdown request; applications will be deleted asynchronously.")
		return err
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	NoVariables(c)
	return c
}

func serveHealth(s Settings) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "controller-health", Short: "Show that the controller of the node answers, and how long it takes", Args: NoArgs}
	r := asked(s, c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if r.address == "auto" { // the reference's default: the cluster of this machine
			r.address = ""
		}
		node, err := r.dial(c.Context())
		if err != nil {
			return err
		}
		begin := time.Now()
		in, err := node.Instance(c.Context())
		if err != nil {
			return err
		}
		about, err := node.About(c.Context())
		if err != nil {
			return err
		}
		health := struct {
			Timestamp     float64 `json:"timestamp"`
			UptimeS       float64 `json:"uptime_s"`
			AnswerTimeS   float64 `json:"answer_time_s"`
			Applications  int     `json:"num_applications"`
			Deployments   int     `json:"num_deployments"`
			Replicas      int     `json:"num_replicas"`
			NodeVersion   string  `json:"version"`
			NodeIsLeaving bool    `json:"draining"`
		}{Timestamp: float64(begin.UnixMilli()) / 1000, UptimeS: begin.Sub(about.StartedAt).Seconds(), AnswerTimeS: time.Since(begin).Seconds(), NodeVersion: about.Version, NodeIsLeaving: about.Draining}
		for _, app := range in.Applications {
			health.Applications++
			for _, d := range app.Deployments {
				health.Deployments++
				health.Replicas += len(d.Replicas)
			}
		}
		r.output = "yaml"
		if asJSON {
			r.output = "json"
		}
		return shown.Print(os.Stdout, r.output, health, nil)
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	NoVariables(c)
	return c
}

// NoVariables takes the environment variables away from all flags of a command, but those of tokens: the reference has none.
func NoVariables(c *cobra.Command) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "token" && f.Name != "ca" {
			NoVariable(c, f.Name)
		}
	})
}
