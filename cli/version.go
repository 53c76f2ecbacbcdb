package cli

import (
	"cmp"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/commands"
)

// version is the version of a program with applications, for builds that state it. Only the linker sets it:
//
//	go build -ldflags '-X github.com/helve-serve/helve/cli.version=1.2.3'
var version string //nolint:gochecknoglobals // set by the linker

// versionText is the line of --version. That of a program with applications is about the program, and names the version of Helve beside it. For
// example, "shop v1.4.0 (helve 0.1.0, go1.26.8, linux/amd64)".
func versionText(program string, apps int) string {
	on := fmt.Sprintf("%s, %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if apps == 0 {
		return fmt.Sprintf("helve %s (%s)", helve.Version, on)
	}
	info, _ := debug.ReadBuildInfo()
	return fmt.Sprintf("%s %s (helve %s, %s)", filepath.Base(program), cmp.Or(version, programVersion(info)), helve.Version, on)
}

// programVersion is the version of the main module. The go command knows it from the tag of the commit, or from the argument of `go install`; a
// build of files that git does not know is "(devel)".
func programVersion(info *debug.BuildInfo) string {
	if info == nil {
		return "(unknown)"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "(devel, " + s.Value[:min(12, len(s.Value))] + ")"
		}
	}
	return "(devel)"
}

// versionCommand is --version as a command.
func versionCommand(text string) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: commands.NoArgs,
		Run: func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), text) },
	}
}
