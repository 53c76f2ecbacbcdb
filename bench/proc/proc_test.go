package proc

import (
	"os"
	"testing"
)

func TestTreeOfThisProcess(t *testing.T) {
	t.Parallel()
	if mb, err := TreePSS(os.Getpid()); err != nil || mb <= 0 {
		t.Errorf("PSS %v MB, %v", mb, err)
	}
	if _, err := TreeCPU(os.Getpid()); err != nil {
		t.Error(err)
	}
}

func TestTreeCountsWhatIsThere(t *testing.T) {
	t.Parallel()
	const none = 1 << 30 // above the largest pid of Linux
	if mb, err := TreePSS(none); mb != 0 || err != nil {
		t.Errorf("a process that is gone has %v MB, %v", mb, err)
	}
}
