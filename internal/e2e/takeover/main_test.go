// Package takeover_test: tests nodes that come after one another: after a crash, with another build, with another version of Helve.
package takeover_test

import (
	"os"
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("HELVE_TEST_NODE"); dir != "" && os.Getenv("HELVE_WORKER") == "" {
		ledgerNode(dir)
	}
	fixture.Main(m)
}
