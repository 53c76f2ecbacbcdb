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
	"github.com/helve-serve/helve/internal/profile"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
)

// Settings are the arguments of [Command].
type Settings struct {
	// Program is the name of the executable, for commands that errors name.
	Program string
	// Dial finds the node of the flags.
	Dial func(ctx context.Context) (*rest.Client, error)
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
	var svg, continuous bool
	var last time.Duration
	chosen := map[profile.Kind]*bool{}
	c := &cobra.Command{
		Use: "profile REPLICA", Short: "Show where a replica spends time and memory",
		Long: "Take a profile of the process of a replica, in Go or Python: where it spends CPU time, which code holds memory, where its threads, goroutines and tasks are now,\n" +
			"or where they wait. REPLICA is the id of a replica, such as Ranker#003, or shop/Ranker/Ranker#003; an application or a deployment with one replica is that one.\n" +
			"The profile is a file for \"go tool pprof\"; with --svg it is a flame graph. Without -o, stacks are shown as text. Ctrl-C ends the profile.\n\n" +
			"--continuous, without a replica, has the node take a CPU profile of one second of all replicas every ten seconds, until --continuous=false or the end of the node. --last 5m is the\n" +
			"CPU time of a replica in the last five minutes then.",
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("continuous") {
				return setContinuous(c.Context(), s, args, continuous)
			}
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
			switch {
			case c.Flags().Changed("last") && (last < time.Second || last > profile.LastMaxSeconds*time.Second):
				return usage("--last %s: must be from 1s to %s", last, profile.LastMaxSeconds*time.Second)
			case last > 0 && (kind != profile.CPU || c.Flags().Changed("seconds")):
				return usage("--last: the continuous profiles are of CPU time, and have been taken: leave out --heap, --stacks, --block and --seconds")
			}
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			node, err := s.Dial(ctx)
			if err != nil {
				return err
			}
			of, err := replica(ctx, s.Program, node, args[0], last > 0)
			if err != nil {
				return err
			}
			format := profile.FormPprof
			switch {
			case svg:
				format = profile.FormSVG
			case kind == profile.Stacks && file == "":
				format, file = profile.FormText, "-"
			}
			if last > 0 {
				text, err := node.LastProfile(ctx, of.App, of.Deployment, of.Replica, last, format)
				if err != nil {
					return err
				}
				return save(s, of, kind, file, format, text)
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
	c.Flags().BoolVar(&continuous, "continuous", false, "have the node take short CPU profiles of all replicas all the time; =false ends that, and drops them")
	c.Flags().DurationVar(&last, "last", 0, "the CPU time in this last time, from the continuous profiles, such as 5m; also of a replica that is gone, by app/deployment/replica")
	return c
}

// setContinuous turns continuous profiles on or off.
func setContinuous(ctx context.Context, s Settings, args []string, on bool) error {
	if len(args) > 0 {
		return usage("--continuous is for all replicas of the node: leave out %s", args[0])
	}
	node, err := s.Dial(ctx)
	if err != nil {
		return err
	}
	now, err := node.SetProfiling(ctx, on)
	if err != nil {
		return err
	}
	if !now.On {
		fmt.Println("Continuous profiles are off.")
		return nil
	}
	fmt.Printf("Continuous profiles are on, since %s.\nnext: %s profile REPLICA --last 5m\n", now.Since.Local().Format(time.TimeOnly), s.Program)
	return nil
}

// save writes a profile, and says how to look at it.
func save(s Settings, of object, kind profile.Kind, file, format string, text []byte) error {
	if file == "-" {
		if s.Terminal(os.Stdout) && format == profile.FormPprof {
			return usage("--output -: a file of pprof is no text: redirect it, or give the name of a file")
		}
		_, err := os.Stdout.Write(text)
		return err
	}
	if file == "" {
		file = strings.NewReplacer("#", "-", "/", "-").Replace(of.Replica) + "." + string(kind) + map[bool]string{true: ".svg", false: ".pb.gz"}[format == profile.FormSVG]
	}
	if err := os.WriteFile(file, text, 0o644); err != nil { //nolint:gosec // the names of functions are not secret
		return err
	}
	next := "go tool pprof -http : " + file
	if format == profile.FormSVG {
		next = "open it in a browser"
	}
	fmt.Printf("%s: %s of %s\nnext: %s\n", shown.Safe(file), kind, shown.Safe(of.String()), shown.Safe(next))
	return nil
}

// replica is the replica that an argument means: by its id, with or without the names before it, or the only one of a deployment or an application. With gone it may be one that has
// ended, by its full name.
func replica(ctx context.Context, program string, node *rest.Client, arg string, gone bool) (o object, err error) {
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
		if names := strings.Split(arg, "/"); gone && len(names) == 3 {
			return object{Kind: helvetype.KindReplica, App: names[0], Deployment: names[1], Replica: names[2]}, nil
		}
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
