package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// nodeAddrEnv has the address of the node whose death a fault row measures.
const nodeAddrEnv = "BENCH_RAY_NODE"

// supervise is a durable node (helve start) to which a script has given the application of the rows about faults, and which goes on without the script. It
// ends with its standard input.
func supervise(addr string) error {
	dir, err := os.MkdirTemp("", "hbn")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	state := filepath.Join(dir, "state")
	node := exec.Command("../python/src/helve/_bin/helve", "start", "--state-dir", state, "--http", addr)
	node.Env = append(os.Environ(), "HELVE_RUNTIME_DIR="+dir)
	node.Stderr = os.Stderr
	out, err := node.StdoutPipe()
	if err != nil {
		return err
	}
	if err := node.Start(); err != nil {
		return err
	}
	defer func() {
		node.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
		node.Wait()                          //nolint:errcheck // its processes were killed
	}()
	lines := bufio.NewReader(out)
	if _, err := lines.ReadString('\n'); err != nil { // it says that it serves
		return fmt.Errorf("helve start: %w", err)
	}
	go io.Copy(io.Discard, lines) //nolint:errcheck // any end is the end
	here, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	script := exec.Command(python(), "ray/program.py", "faults", addr)
	script.Env = append(node.Env, "BENCH_SYSTEM=helve", "PYTHONPATH="+here, "HELVE_NODE="+state)
	script.Stderr = os.Stderr
	said, err := script.Output() // it has no input, so it deploys and ends
	if err != nil || !strings.Contains(string(said), addr) {
		return errors.Join(fmt.Errorf("the script says %q", said), err)
	}
	fmt.Println(addr)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
