package commands

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/spec"
)

// object is an application, a deployment or a replica that an argument names, for example shop/Ranker/Ranker#003.
type object struct{ app, deployment, replica string }

func (o object) String() string {
	return strings.Join(slices.DeleteFunc([]string{o.app, o.deployment, o.replica}, func(s string) bool { return s == "" }), "/")
}

// parts says which objects a command takes: so many parts at least and at most.
type parts struct{ least, most int }

var (
	anApp        = parts{1, 1} //nolint:gochecknoglobals // constants
	aDeployment  = parts{2, 2} //nolint:gochecknoglobals
	upDeployment = parts{1, 2} //nolint:gochecknoglobals
	upReplica    = parts{1, 3} //nolint:gochecknoglobals
)

// forms are the forms of an object with so many parts.
func (p parts) forms() string {
	form := "APP"
	for i, name := range []string{"DEPLOYMENT", "REPLICA"} {
		switch {
		case i+2 <= p.least:
			form += "/" + name
		case i+2 <= p.most:
			form += "[/" + name
		}
	}
	return form + strings.Repeat("]", strings.Count(form, "["))
}

// parse reads an argument.
func (p parts) parse(arg string) (o object, err error) {
	names := strings.Split(arg, "/")
	if len(names) < p.least || len(names) > p.most || slices.Contains(names, "") {
		return o, usage("%q: must be %s", arg, p.forms())
	}
	names = append(names, "", "")
	return object{names[0], names[1], names[2]}, nil
}

// one is the object of a command that takes one, or none if it is optional.
func (p parts) one(c *cobra.Command, args []string, optional bool) (o object, err error) {
	switch {
	case len(args) == 0 && optional:
		return o, nil
	case len(args) != 1:
		return o, usage("%s takes one argument, %s, for example %s", c.Name(), p.forms(), strings.Join([]string{"shop", "shop/Ranker", "shop/Ranker/Ranker#003"}[p.least-1:p.least], ""))
	}
	return p.parse(args[0])
}

// completeTime bounds the question for names to complete: a shell waits for the answer.
const completeTime = 2 * time.Second

// complete gives the names of the node's applications, deployments and replicas to a shell, for the first argument.
func (r *reader) complete(p parts) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), completeTime)
		defer cancel()
		return r.names(ctx, p), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeNames gives the names of applications and deployments to a shell, for the flags --app and --deployment.
func (r *reader) completeNames(c *cobra.Command) {
	for flag, p := range map[string]parts{"app": anApp, "deployment": aDeployment} {
		c.RegisterFlagCompletionFunc(flag, func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) { //nolint:errcheck // the flag is there
			ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), completeTime)
			defer cancel()
			names := r.names(ctx, p)
			for i, name := range names {
				names[i] = name[strings.LastIndexByte(name, '/')+1:]
			}
			slices.Sort(names)
			return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
		})
	}
}

// names are the objects of the node with so many parts. A node that cannot be asked has none.
func (r *reader) names(ctx context.Context, p parts) (all []string) {
	r.output = "text"
	node, err := r.dial(ctx)
	if err != nil {
		return nil
	}
	in, err := node.Instance(ctx)
	if err != nil {
		return nil
	}
	for _, app := range slices.Sorted(maps.Keys(in.Applications)) {
		if strings.HasPrefix(app, spec.HiddenApps) {
			continue
		}
		if p.least <= 1 {
			all = append(all, app)
		}
		for _, name := range slices.Sorted(maps.Keys(in.Applications[app].Deployments)) {
			if p.least <= 2 && p.most >= 2 {
				all = append(all, app+"/"+name)
			}
			for _, replica := range in.Applications[app].Deployments[name].Replicas {
				if p.most >= 3 {
					all = append(all, fmt.Sprintf("%s/%s/%s", app, name, replica.ReplicaID))
				}
			}
		}
	}
	return all
}
