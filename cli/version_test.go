package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
)

func TestProgramVersion(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		info *debug.BuildInfo
		want string
	}{
		"tag of the commit":      {&debug.BuildInfo{Main: debug.Module{Version: "v1.4.0"}}, "v1.4.0"},
		"commit without version": {&debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef0123"}}}, "(devel, 0123456789ab)"},
		"files without git":      {&debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "(devel)"},
		"no information":         {nil, "(unknown)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := programVersion(c.info); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestVersionText(t *testing.T) {
	t.Parallel()
	if got, want := versionText("/usr/bin/other", 0), "helve "+helve.Version+" (go"; !strings.HasPrefix(got, want) {
		t.Errorf("the stock binary: %q, want %q", got, want)
	}
	if got := versionText("/usr/bin/shop", 1); !regexp.MustCompile(`^shop \S.* \(helve ` + regexp.QuoteMeta(helve.Version) + `, go\S+, \w+/\w+\)$`).MatchString(got) {
		t.Errorf("a program: %q", got)
	}
}

// TestVersionCommands: flag and command print the same line.
func TestVersionCommands(t *testing.T) {
	t.Parallel()
	for _, argument := range []string{"--version", "version"} {
		t.Run(argument, func(t *testing.T) {
			t.Parallel()
			c, out := command([]Application{App("shop", nil)}), new(bytes.Buffer)
			c.SetOut(out)
			c.SetArgs([]string{argument})
			if err := c.Execute(); err != nil || out.String() != versionText(os.Args[0], 1)+"\n" {
				t.Errorf("%v %q", err, out)
			}
		})
	}
}

// TestPackageVersion: the Python package of this module has the version of the module.
func TestPackageVersion(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("..", "python", "src", "helve", "__init__.py"))
	if err != nil || !strings.Contains(string(b), "\n__version__ = \""+helve.Version+"\"\n") {
		t.Errorf("%v: __version__ is not %q", err, helve.Version)
	}
}
