// Package files_test applies the files of operators to nodes: what becomes of applications, and which mistakes are found at which line.
package files_test

import (
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// patience bounds a wait. A machine under load, ten times slower than this one, needs a fraction of it.
const patience = 2 * time.Minute

func TestMain(m *testing.M) { fixture.Main(m) }
