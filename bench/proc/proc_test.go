package proc

import (
	"os"
	"os/exec"
	"slices"
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

func TestDescendants(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "cat; :") // a shell with a child
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); cmd.Wait() }()
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // cat runs
		t.Fatal(err)
	}
	kids, err := Children(cmd.Process.Pid)
	if err != nil || len(kids) != 1 {
		t.Fatalf("children of the shell %v, %v, want one", kids, err)
	}
	all, err := Descendants(os.Getpid())
	if shell := slices.Index(all, cmd.Process.Pid); err != nil || shell < 0 || !slices.Contains(all[shell:], kids[0]) {
		t.Errorf("descendants %v, %v, want %d and behind it %d", all, err, cmd.Process.Pid, kids[0])
	}
}
