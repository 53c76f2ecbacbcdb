// Package http_test: one table of cases of HTTP for every place in which the code that answers can be (hosts).
package http_test

import (
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }
