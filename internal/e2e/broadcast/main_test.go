// Package broadcast_test: tests calls to every replica of a deployment.
package broadcast_test

import (
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }
