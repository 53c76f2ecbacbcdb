// Package traces_test: the spans of requests, as a receiver of OpenTelemetry gets them. internal/e2e/mixed has the spans that a node keeps.
package traces_test

import (
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }
