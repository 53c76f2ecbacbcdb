// Package cancellation_test: tests the ends of a call that are not its result: cancellation, deadlines, and calls that a call has made.
package cancellation_test

import (
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }
