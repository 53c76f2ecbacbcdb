// Package durable_test kills and stops the processes of a durable node (helve start) under load, and compares the answers that its clients
// got with the calls that its replicas have executed.
package durable_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) {
	if os.Getenv(clientEnv) != "" { // this executable is also the client in Go
		if err := goClient(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	fixture.Main(m)
}
