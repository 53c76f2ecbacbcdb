package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/assign"
	"github.com/helve-serve/helve/internal/layout"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/spf13/cobra"
)

func configCommand(s Settings) *cobra.Command {
	r := newReader(s)
	var effective bool
	c := &cobra.Command{
		Use: "config [APP]", Short: "Show the configuration of applications",
		Long: "Show the configuration of applications as it was submitted, as YAML. Applications that programs have deployed have none.\n" +
			"With --effective each option has its value, with what it comes from: default, code, file or override (helve set). Secrets are ***.",
		ValidArgsFunction: r.complete(anApp),
		RunE: func(c *cobra.Command, args []string) error {
			of, err := anApp.one(c, args, true)
			if err != nil {
				return err
			}
			node, err := r.dial(c.Context())
			if err != nil {
				return err
			}
			apps := []string{of.app}
			if of.app == "" {
				in, err := node.Instance(c.Context())
				if err != nil {
					return err
				}
				apps = slices.Sorted(maps.Keys(in.Applications))
				apps = slices.DeleteFunc(apps, func(name string) bool { return strings.HasPrefix(name, spec.HiddenApps) })
			}
			if effective {
				return r.effective(c.Context(), node, apps, of.app != "")
			}
			return r.submitted(c.Context(), node, apps, of.app != "")
		},
	}
	r.flags(c)
	c.Flags().BoolVar(&effective, "effective", false, "each option, with where its value comes from")
	NoVariable(c, "effective")
	return c
}

// submitted shows the configurations as they were submitted: documents of YAML, in text too.
func (r *reader) submitted(ctx context.Context, node *rest.Client, apps []string, named bool) error {
	all := map[string]json.RawMessage{}
	var documents []string
	for _, app := range apps {
		text, err := node.Submitted(ctx, app)
		if err != nil {
			return err
		}
		all[app] = text
		if string(text) == "null" {
			continue
		}
		b, err := shown.YAML(text)
		if err != nil {
			return err
		}
		documents = append(documents, string(b))
	}
	return shown.Print(os.Stdout, r.output, all, func() string {
		if len(documents) == 0 {
			if named {
				return fmt.Sprintf("%s was deployed by a program, without a file: %s config --effective %s shows its options\n", apps[0], r.program, apps[0])
			}
			return "no configuration was deployed\n"
		}
		return strings.Join(documents, "---\n")
	})
}

func (r *reader) effective(ctx context.Context, node *rest.Client, apps []string, named bool) error {
	var all []helvetype.EffectiveConfig
	for _, app := range apps {
		e, err := node.Config(ctx, app)
		if err != nil {
			return err
		}
		all = append(all, e)
	}
	var value any = all
	if named {
		value = all[0]
	}
	return shown.Print(os.Stdout, r.output, value, func() string {
		var b strings.Builder
		for i, e := range all {
			if i > 0 {
				b.WriteString("\n")
			}
			effectiveText(&b, e, layout.Width(os.Stdout))
		}
		return b.String()
	})
}

// effectiveText writes the options of an application for people.
func effectiveText(b *strings.Builder, e helvetype.EffectiveConfig, width int) {
	fmt.Fprintf(b, "application %s, revision %d\n", e.App, e.Revision)
	options := func(all []helvetype.EffectiveValue) {
		rows := make([][]string, 0, len(all))
		for _, v := range all {
			rows = append(rows, []string{v.Path, v.From, layout.Effective(v)})
		}
		layout.Table(b, "  ", width, []string{"OPTION", "FROM", "VALUE"}, rows)
	}
	options(e.Fields)
	for _, name := range slices.Sorted(maps.Keys(e.Deployments)) {
		fmt.Fprintf(b, "deployment %s\n", name)
		options(e.Deployments[name])
	}
}

func setCommand(s Settings) *cobra.Command {
	r := newReader(s)
	var wait, dry bool
	c := &cobra.Command{
		Use: "set APP[/DEPLOYMENT] OPTION=VALUE...", Short: "Set options that win over code and file",
		Long: "Set options of an application or a deployment above those of its code and its file, until they are cleared. VALUE is JSON, or a text; no VALUE\n" +
			"clears. A dot leads into an option: ray_actor_options.num_cpus=2. helve config --effective shows what has been set so.",
		Example:           "  helve set --wait shop/Ranker max_ongoing_requests=10\n  helve set shop/Ranker max_ongoing_requests=\n  helve set --dry-run shop/Ranker autoscaling_config.max_replicas=2",
		ValidArgsFunction: r.complete(upDeployment),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usage("set takes APP[/DEPLOYMENT] and OPTION=VALUE, for example shop/Ranker max_ongoing_requests=10")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			of, err := upDeployment.parse(args[0])
			if err != nil {
				return err
			}
			options, err := assign.Options(args[1:])
			if err != nil {
				return UsageError{err}
			}
			if of.deployment != "" {
				options = map[string]any{"deployments": map[string]any{of.deployment: options}}
			}
			text, err := json.Marshal(options)
			if err != nil {
				return err
			}
			ctx, stop := interruptible(c.Context())
			defer stop()
			node, err := r.dial(ctx)
			if err != nil {
				return err
			}
			if dry {
				plan, err := node.PlanPatch(ctx, of.app, text)
				if err != nil {
					return err
				}
				return r.printPlan(plan)
			}
			return r.revise(ctx, node, of.app, of.deployment, wait, func(ctx context.Context) (helvetype.Outcome, error) { return node.Patch(ctx, of.app, text) })
		},
	}
	r.flags(c)
	c.Flags().BoolVar(&wait, "wait", false, "wait until the application runs with the options or has failed")
	c.Flags().BoolVar(&dry, "dry-run", false, "show what would change, and change nothing")
	NoVariable(c, "wait", "dry-run")
	return c
}
