// Package routing_test: tests which replica a call goes to, and how it waits for one.
package routing_test

import (
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }
