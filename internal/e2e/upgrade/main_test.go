// Package upgrade_test tests nodes that hand over to the next one while they serve.
package upgrade_test

import (
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }
