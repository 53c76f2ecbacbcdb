// Package files_test applies the files of operators to nodes. Its tests look at the applications, and at the lines at which mistakes are found.
package files_test

import (
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// patience bounds a wait. A machine under load, ten times slower than this one, needs a fraction of it.
const patience = 2 * time.Minute

func TestMain(m *testing.M) { fixture.Main(m) }
