package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// only is an environment with one variable.
func only(name, value string) func(string) string {
	return func(asked string) string {
		if asked == name {
			return value
		}
		return ""
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	flags := func(args ...string) *cobra.Command {
		c := (&run{}).command()
		if err := c.ParseFlags(args); err != nil {
			t.Fatal(err)
		}
		return c
	}
	value := func(c *cobra.Command, flag string) string { return c.Flags().Lookup(flag).Value.String() }

	t.Run("a variable is the flag", func(t *testing.T) {
		t.Parallel()
		c := flags()
		if err := fromEnvironment(c, only("HELVE_HTTP", "127.0.0.1:9")); err != nil || value(c, "http") != "127.0.0.1:9" {
			t.Errorf("got %q, %v", value(c, "http"), err)
		}
	})
	t.Run("a flag beats its variable", func(t *testing.T) {
		t.Parallel()
		c := flags("--http", "127.0.0.1:1")
		if err := fromEnvironment(c, only("HELVE_HTTP", "127.0.0.1:9")); err != nil || value(c, "http") != "127.0.0.1:1" {
			t.Errorf("got %q, %v", value(c, "http"), err)
		}
	})
	t.Run("a flag without a value", func(t *testing.T) {
		t.Parallel()
		c := flags()
		if err := fromEnvironment(c, only("HELVE_VERBOSE", "1")); err != nil || value(c, "verbose") != "true" {
			t.Errorf("got %q, %v", value(c, "verbose"), err)
		}
	})
	t.Run("Kubernetes sets HELVE_PORT", func(t *testing.T) {
		t.Parallel()
		c := flags()
		if err := fromEnvironment(c, only("HELVE_PORT", "tcp://10.0.0.1:80")); err != nil || value(c, "port") != "" {
			t.Errorf("got %q, %v", value(c, "port"), err)
		}
	})
	t.Run("the grace of a worker is not for its child processes", func(t *testing.T) {
		t.Parallel()
		c := flags()
		if err := fromEnvironment(c, only("HELVE_WORKER_GRACE", "3s")); err != nil || value(c, "worker-grace") != "" {
			t.Errorf("got %q, %v", value(c, "worker-grace"), err)
		}
		c = flags("--state-dir", "d")
		if err := fromEnvironment(c, only("HELVE_WORKER_GRACE", "3s")); err != nil || value(c, "worker-grace") != "3s" {
			t.Errorf("with a state directory: got %q, %v", value(c, "worker-grace"), err)
		}
	})
	t.Run("a bad value names the variable", func(t *testing.T) {
		t.Parallel()
		for name, bad := range map[string]string{"HELVE_HTTP_MEMORY": "much", "HELVE_VERBOSE": "perhaps", "HELVE_REQUEST_TIMEOUT": "soon"} {
			err := fromEnvironment(flags(), only(name, bad))
			if err == nil || !strings.HasPrefix(err.Error(), name+": must be ") || strings.Contains(err.Error(), "--") || !errors.As(err, new(usageError)) {
				t.Errorf("%s=%s: %v", name, bad, err)
			}
		}
	})
	t.Run("so does a later error", func(t *testing.T) {
		t.Parallel()
		c := flags("--admin", "a")
		if err := fromEnvironment(c, only("HELVE_ISOLATION", "moon")); err != nil {
			t.Fatal(err)
		}
		err := withVariables(c, usageError{errors.New(`--isolation "moon": must be node or process, with --admin a`)})
		if err.Error() != `HELVE_ISOLATION="moon": must be node or process, with --admin a` || !errors.As(err, new(usageError)) {
			t.Errorf("got %v", err)
		}
	})
}

func TestWarnOfVariables(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	warnOfVariables(command(nil), []string{
		"HELVE_HTPP=x", "HELVE_HTTP=x", "HELVE_SERVICE_HOST=1", "HELVE_PORT=tcp://1", "HELVE_PORT_80_TCP=x", "HELVE_STATE_DRI=x", "HELVE_WORKER_ID=3", "HELVE_ADDRESS=a", "HTPP=x",
	}, &b)
	want := "warning: HELVE_HTPP: there is no such variable; did you mean HELVE_HTTP?\n" +
		"warning: HELVE_STATE_DRI: there is no such variable; did you mean HELVE_STATE_DIR?\n"
	if b.String() != want {
		t.Errorf("got:\n%s", b.String())
	}
}

// TestFlagGroups: every flag of the help's groups exists.
func TestFlagGroups(t *testing.T) {
	t.Parallel()
	c, _, err := command(nil).Find([]string{"run"})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range flagGroups {
		for _, name := range g.flags {
			if c.Flags().Lookup(name) == nil && startCommand(nil).Flags().Lookup(name) == nil {
				t.Errorf("%s: there is no flag --%s", g.title, name)
			}
		}
	}
	text := usage(c)
	for _, want := range []string{"Python programs:\n", "--http string", "[HELVE_HTTP]", "TLS:\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the help has no %q:\n%s", want, text)
		}
	}
}

func TestPythonFlagsAreForPythonPrograms(t *testing.T) {
	t.Parallel()
	c := (&run{}).command()
	if err := c.ParseFlags([]string{"--reload"}); err != nil {
		t.Fatal(err)
	}
	if err := checkPythonFlags(c); err == nil || !strings.Contains(err.Error(), "--reload is for Python programs") {
		t.Errorf("got %v", err)
	}
}

// TestTimeWithoutUnit: a time that is a number alone is told with its unit.
func TestTimeWithoutUnit(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{"5": "--drain-delay: 5 has no unit: 5s", "0.5": "--drain-delay: 0.5 has no unit: 0.5s", "x": `--drain-delay: must be a time such as 90s or 2m, is "x"`} {
		root := command(nil)
		root.SetArgs([]string{"start", "--drain-delay", value})
		if err := root.Execute(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", value, err, want)
		}
	}
	c := (&run{}).command()
	if err := fromEnvironment(c, func(name string) string { return map[string]string{"HELVE_DRAIN_DELAY": "5"}[name] }); err == nil || err.Error() != "HELVE_DRAIN_DELAY: 5 has no unit: 5s" {
		t.Errorf("of a variable: %v", err)
	}
}

// TestEmptyStateDir: an empty state directory is wrong usage, and not the default directory.
func TestEmptyStateDir(t *testing.T) {
	for _, command := range []string{"start", "upgrade"} {
		if status, _, stderr := output(t, command, "--state-dir="); status != 2 || !strings.Contains(stderr, "--state-dir is empty") {
			t.Errorf("%s: %d, %s", command, status, stderr)
		}
	}
	t.Setenv("HELVE_STATE_DIR", "")
	if status, _, stderr := output(t, "start"); status != 2 || !strings.Contains(stderr, "HELVE_STATE_DIR is empty") {
		t.Errorf("an empty variable: %d, %s", status, stderr)
	}
}
