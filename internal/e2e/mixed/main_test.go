// Package mixed_test: tests calls between Go and Python in graphs of Go. python/tests/test_mixed.py has the other half, of Python programs.
package mixed_test

import (
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }
