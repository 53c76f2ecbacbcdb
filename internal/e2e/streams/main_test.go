// Package streams_test: tests methods that give a sequence of items.
package streams_test

import (
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }
