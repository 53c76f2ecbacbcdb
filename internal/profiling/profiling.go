// Package profiling is the command helve profile: it finds the replica that is meant, asks its node for a profile, and writes the file.
package profiling

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/profile"
	"github.com/helve-serve/helve/internal/shown"
)

// Settings are the arguments of [Command].
type Settings struct {
	// Program is the name of the executable, for commands that errors name.
	Program string
	// Dial finds the node of the flags.
	Dial func(ctx context.Context) (*admin.Client, error)
	// Terminal says whether a file is one.
	Terminal func(f *os.File) bool
}

// usage is the mistake of a user in a flag or an argument.
func usage(format string, args ...any) error {
	return &helvetype.OperationError{Code: helvetype.CodeInvalidArgument, Message: fmt.Sprintf(format, args...)}
}

// object is a replica with the names before it.
type object = helvetype.Object

// Command makes the command. Its caller adds the flags that name the node.
func Command(s Settings) *cobra.Command {
	var file string
	var seconds int
	var svg bool
	chosen := map[profile.Kind]*bool{}
	c := &cobra.Command{
		Use: "profile REPLICA", Short: "Show where a replica spends time and memory",
		Long: "Take a profile of the process of a replica, in Go or Python: where it spends CPU time, which code holds memory, where its threads, goroutines and tasks are now,\n" +
			"or where they wait. REPLICA is the id of a replica, such as Ranker#003, or shop/Ranker/Ranker#003; an application or a deployment with one replica is that one.\n" +
			"The profile is a file for \"go tool pprof\"; with --svg it is a flame graph. Without -o, stacks are shown as text. Ctrl-C ends the profile.",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("%s takes one argument, the id of a replica, for example Ranker#003 or shop/Ranker/Ranker#003", c.Name())
			}
			kind, n := profile.CPU, 0
			for _, k := range profile.Kinds() {
				if *chosen[k] {
					kind, n = k, n+1
				}
			}
			if n > 1 {
				return usage("--cpu, --heap, --stacks and --block: give one of them")
			}
			if seconds < 1 || seconds > profile.MaxSeconds {
				return usage("--seconds %d: must be from 1 to %d", seconds, profile.MaxSeconds)
			}
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			node, err := s.Dial(ctx)
			if err != nil {
				return err
			}
			of, err := replica(ctx, s.Program, node, args[0])
			if err != nil {
				return err
			}
			format := admin.FormatPprof
			switch {
			case svg:
				format = admin.FormatSVG
			case kind == profile.Stacks && file == "":
				format, file = admin.FormatText, "-"
			}
			if kind != profile.Stacks && s.Terminal(os.Stderr) {
				fmt.Fprintf(os.Stderr, "%s of %s, %d s ...\n", kind, shown.Safe(of.String()), seconds)
			}
			text, err := node.Profile(ctx, of.App, of.Deployment, of.Replica, kind, time.Duration(seconds)*time.Second, format)
			if err != nil {
				return err
			}
			return save(s, of, kind, file, format, text)
		},
	}
	for _, k := range profile.Kinds() {
		chosen[k] = c.Flags().Bool(string(k), false, map[profile.Kind]string{
			profile.CPU: "CPU time (the default)", profile.Heap: "memory: of Go what is in use, of Python what was allocated meanwhile and is in use",
			profile.Stacks: "where all threads, goroutines and tasks are now", profile.Block: "where they wait",
		}[k])
	}
	c.Flags().StringVarP(&file, "output", "o", "", "the file to write, or - for stdout (default REPLICA.KIND.pb.gz or .svg; stacks go to stdout)")
	c.Flags().IntVar(&seconds, "seconds", profile.DefaultSeconds, "the time of the profile")
	c.Flags().BoolVar(&svg, "svg", false, "a flame graph")
	return c
}

// save writes a profile, and says how to look at it.
func save(s Settings, of object, kind profile.Kind, file, format string, text []byte) error {
	if file == "-" {
		if s.Terminal(os.Stdout) && format == admin.FormatPprof {
			return usage("--output -: a file of pprof is no text: redirect it, or give the name of a file")
		}
		_, err := os.Stdout.Write(text)
		return err
	}
	if file == "" {
		file = strings.NewReplacer("#", "-", "/", "-").Replace(of.Replica) + "." + string(kind) + map[bool]string{true: ".svg", false: ".pb.gz"}[format == admin.FormatSVG]
	}
	if err := os.WriteFile(file, text, 0o644); err != nil { //nolint:gosec // the names of functions are not secret
		return err
	}
	next := "go tool pprof -http : " + file
	if format == admin.FormatSVG {
		next = "open it in a browser"
	}
	fmt.Printf("%s: %s of %s\nnext: %s\n", shown.Safe(file), kind, shown.Safe(of.String()), shown.Safe(next))
	return nil
}

// replica is the replica that an argument means: by its id, with or without the names before it, or the only one of a deployment or an application.
func replica(ctx context.Context, program string, node *admin.Client, arg string) (o object, err error) {
	in, err := node.Instance(ctx)
	if err != nil {
		return o, err
	}
	var found, all []object
	for app, a := range in.Applications {
		for deployment, d := range a.Deployments {
			for _, replica := range d.Replicas {
				at := object{Kind: helvetype.KindReplica, App: app, Deployment: deployment, Replica: replica.ReplicaID}
				all = append(all, at)
				for _, name := range []string{at.String(), at.Replica, app + "/" + at.Replica, app + "/" + deployment, deployment, app} {
					if name == arg {
						found = append(found, at)
						break
					}
				}
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return o, &helvetype.OperationError{
			Code: helvetype.CodeNotFound, Message: fmt.Sprintf("no replica %q runs; there is %s", arg, replicaNames(all)), Next: program + " status lists the replicas",
		}
	}
	return o, usage("%q is more than one replica: choose one of %s", arg, replicaNames(found))
}

// namesMax bounds the replicas that an error names.
const namesMax = 12

func replicaNames(all []object) string {
	names := make([]string, 0, len(all))
	for _, o := range all {
		names = append(names, o.String())
	}
	slices.Sort(names)
	if len(names) == 0 {
		return "none"
	}
	if len(names) > namesMax {
		return strings.Join(names[:namesMax], ", ") + fmt.Sprintf(" and %d more", len(names)-namesMax)
	}
	return strings.Join(names, ", ")
}
