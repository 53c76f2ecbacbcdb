package transport_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails if goroutines of this module still run after the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		for end := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
			left := leaked()
			if left == "" {
				break
			}
			if time.Now().After(end) {
				fmt.Fprintf(os.Stderr, "goroutines are left after the tests:\n\n%s\n", left)
				code = 1
				break
			}
		}
	}
	os.Exit(code)
}

func leaked() string {
	buf := make([]byte, 1<<20)
	var left []string
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, "helve-serve/helve/internal/") && !strings.Contains(stack, "transport_test.leaked(") {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}
