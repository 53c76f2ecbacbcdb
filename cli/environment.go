package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/helve-serve/helve/internal/commands"
	"github.com/helve-serve/helve/internal/nearest"
)

// variablePrefix begins the environment variables of flags: --http-memory is HELVE_HTTP_MEMORY.
const variablePrefix = "HELVE_"

// fromVariable is the annotation of flags whose value came from their variable.
const fromVariable = "helve_from_variable"

// otherVariables are the environment variables for users that belong to no flag. For example, HELVE_GPUS states the number of GPUs of the machine.
var otherVariables = []string{ //nolint:gochecknoglobals // a constant
	"HELVE_NODE", "HELVE_PYTHON", "HELVE_BINARY", "HELVE_RUNTIME_DIR", "HELVE_CACHE", "HELVE_GPUS", "HELVE_TRACEBACKS", "HELVE_RAY_COMPAT", "HELVE_WEB",
}

// variable is the environment variable of a flag; "" for a flag without one.
func variable(f *pflag.Flag) string {
	if f.Name == "help" || f.Name == "version" || f.Annotations[commands.WithoutVariable] != nil {
		return ""
	}
	return variablePrefix + strings.ReplaceAll(strings.ToUpper(f.Name), "-", "_")
}

// fromEnvironment sets the flags that are not on the command line from their variables. HELVE_WORKER_GRACE without a state directory has no
// effect: the node sets it for workers, and their child processes may be programs with this command line.
func fromEnvironment(c *cobra.Command, environment func(string) string) error {
	var failed error
	set := func(f *pflag.Flag) {
		name := variable(f)
		if name == "" || f.Changed || failed != nil {
			return
		}
		value := environment(name)
		if value == "" {
			return
		}
		if f.Name == "worker-grace" {
			if d := c.Flags().Lookup("state-dir"); d == nil || d.Value.String() == "" {
				return
			}
		}
		if err := c.Flags().Set(f.Name, value); err != nil {
			failed = usageError{fmt.Errorf("%s: %s", name, mistakeOf(err))}
		}
		c.Flags().SetAnnotation(f.Name, fromVariable, []string{"true"}) //nolint:errcheck // the flag is there
	}
	c.Flags().VisitAll(set) // in the order of the names: --state-dir comes before --worker-grace
	return failed
}

// mistakeOf is the text of an error of a flag without pflag's words, which name the flag.
func mistakeOf(err error) string {
	if invalid := (*pflag.InvalidValueError)(nil); asError(err, &invalid) {
		text := strings.TrimSuffix(invalid.Unwrap().Error(), fmt.Sprintf(", is %q", invalid.GetValue()))
		if without, ok := withoutUnit(err); ok {
			return without
		}
		switch { // the packages that read the text have words for engineers of Go
		case strings.HasPrefix(text, "time: "):
			text = "must be a time such as 90s or 2m"
		case strings.HasPrefix(text, "strconv.ParseBool"):
			text = "must be true or false"
		case strings.HasPrefix(text, "strconv.ParseFloat"):
			text = "must be a number"
		case strings.HasPrefix(text, "strconv."):
			text = "must be a whole number"
		}
		return fmt.Sprintf("%s, is %q", text, invalid.GetValue())
	}
	return err.Error()
}

// withoutUnit is the text for the value of a flag that is a time and has a number alone, for example "5 has no unit: 5s".
func withoutUnit(err error) (string, bool) {
	invalid := (*pflag.InvalidValueError)(nil)
	if !asError(err, &invalid) || invalid.GetFlag().Value.Type() != "duration" {
		return "", false
	}
	value := invalid.GetValue()
	if d, err := time.ParseDuration(value + "s"); err != nil || d <= 0 {
		return "", false
	}
	return fmt.Sprintf("%s has no unit: %ss", value, value), true
}

// withVariables is an error whose text names variables in place of the flags that got their values from them. For example, HELVE_ADMIN=x is an
// error about HELVE_ADMIN, and not about --admin.
func withVariables(c *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	var pairs []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Annotations[fromVariable] != nil {
			for _, end := range []string{" ", ":", "=", ","} {
				pairs = append(pairs, "--"+f.Name+end, variable(f)+strings.Replace(end, " ", "=", 1))
			}
		}
	})
	if len(pairs) == 0 {
		return err
	}
	return renamed{err, strings.NewReplacer(pairs...).Replace(err.Error())}
}

// renamed is an error with another text.
type renamed struct {
	error
	text string
}

func (r renamed) Error() string { return r.text }
func (r renamed) Unwrap() error { return r.error }

// warnOfVariables writes a line for each variable whose name is nearly that of one that there is. Other unknown names are left alone: Kubernetes
// sets HELVE_SERVICE_HOST for a service that is called helve.
func warnOfVariables(root *cobra.Command, environment []string, to io.Writer) {
	known := slices.Clone(otherVariables)
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, variable(f)) })
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
	var short []string
	for _, k := range known {
		short = append(short, strings.TrimPrefix(k, variablePrefix))
	}
	for _, entry := range environment {
		name, _, _ := strings.Cut(entry, "=")
		own, ours := strings.CutPrefix(name, variablePrefix)
		if !ours || slices.Contains(known, name) {
			continue
		}
		if close := closest(own, short); close != "" {
			fmt.Fprintf(to, "warning: %s: there is no such variable; did you mean %s%s?\n", name, variablePrefix, close) //nolint:errcheck // a terminal
		}
	}
}

// closest is the variable, flag or command that differs from a name in one letter of four at most; "" if none does.
func closest(name string, known []string) string {
	return nearest.Of(name, known, max(len(name)/4, 1)) //nolint:mnd // see above
}
