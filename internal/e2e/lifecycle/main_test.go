// Package lifecycle_test: tests applications, deployments and replicas from their start to their end.
package lifecycle_test

import (
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }
