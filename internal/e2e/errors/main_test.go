// Package errors_test: tests the errors that calls give: their identity in every process, and code of users that fails while they are handled.
package errors_test

import (
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }
