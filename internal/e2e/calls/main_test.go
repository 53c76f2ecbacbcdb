// Package calls_test: tests calls of one deployment from the outside: values, codecs, limits, handles and batches, for replicas in the node, in Go workers and in Python workers.
package calls_test

import (
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }
