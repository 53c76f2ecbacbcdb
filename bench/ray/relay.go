package main

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/helve-serve/helve/bench/peer"
)

// relayEnv has the interpreter of the minimal relay's two ends.
const relayEnv = "BENCH_RAY_RELAY"

// relay runs the minimal relay with its two ends, and hands its input and output to the calling end.
func relay(python string) error {
	os.Unsetenv(relayEnv)
	dir, err := os.MkdirTemp("", "hbr")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sock := filepath.Join(dir, "relay")
	l, err := net.Listen("unix", sock)
	if err != nil {
		return err
	}
	go peer.Relay(l) //nolint:errcheck // a relay that ends ends the two processes
	callee := exec.Command(python, "pybench/minimal.py", "callee", sock)
	callee.Stderr = os.Stderr
	out, err := callee.StdoutPipe()
	if err != nil {
		return err
	}
	hold, err := callee.StdinPipe()
	if err != nil {
		return err
	}
	defer hold.Close()
	if err := callee.Start(); err != nil {
		return err
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // the callee must be the first of the relay's two connections
		return err
	}
	go io.Copy(io.Discard, out) //nolint:errcheck
	caller := exec.Command(python, "pybench/minimal.py", "caller", sock)
	caller.Stdin, caller.Stdout, caller.Stderr = os.Stdin, os.Stdout, os.Stderr
	return caller.Run()
}
