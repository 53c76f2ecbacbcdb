// Command gen writes the files that come from the table of options: the reference docs/options.md, and the checks of the Python package. It is run
// in the root of the repository: go run ./internal/spec/gen.
package main

import (
	"fmt"
	"os"

	"github.com/helve-serve/helve/internal/spec"
)

func main() {
	for path, text := range spec.GeneratedFiles() {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // files of the repository
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
