// Package composition_test: tests calls that deployments make to each other: results as inputs, values by reference, cycles and mixed graphs.
package composition_test

import (
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }
