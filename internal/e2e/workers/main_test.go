// Package workers_test: tests the processes of replicas: their environment, their limits, and the effect of their death on
// calls.
package workers_test

import (
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }
