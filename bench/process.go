package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/helve-serve/helve/bench/peer"

	"github.com/helve-serve/helve"
)

// The variables that name the role of this executable as a child.
const (
	roleEnv   = "BENCH_ROLE"
	socketEnv = "BENCH_SOCKET"
	addrEnv   = "BENCH_ADDR"
	connsEnv  = "BENCH_CONNS"
	timeEnv   = "BENCH_TIME"
	roundsEnv = "BENCH_ROUNDS"
	pairEnv   = "BENCH_PAIR"
	// For the role load: the status of the answers.
	statusEnv = "BENCH_STATUS"
	// For the roles hold and load: the request on each connection.
	requestEnv = "BENCH_REQUEST"
	// For the role load: the number of zeros behind the request.
	sizeEnv = "BENCH_SIZE"
	// For the role hold: the part of the answer after which the connection is open.
	untilEnv = "BENCH_UNTIL"
)

// playRole runs this executable as a child.
func playRole(role string) error {
	switch role {
	case "inproc":
		return inprocRole()
	case "grpc":
		return serveEach(peer.ListenGRPC)
	case "raw":
		return serveEach(peer.ListenRaw)
	case "wire":
		return serveEach(peer.ListenWire)
	case "relay":
		return relayRole()
	case "http-bare":
		return httpBareRole()
	case "http-helve":
		return httpHelveRole(helve.InNode)
	case "handler-bare":
		return handlerBareRole()
	case "handler-helve":
		return handlerRole(helve.InNode)
	case "handler-worker":
		return handlerRole(helve.Process)
	case "http-worker":
		return httpHelveRole(helve.Process)
	case "http-full":
		return httpFullRole()
	case "attached":
		return attachedRole()
	case "observed":
		return observedRole()
	case "load":
		return loadRole()
	case "streams-helve":
		return streamsHelveRole()
	case "streams-bare":
		return streamsBareRole()
	case "streams-load":
		return streamsLoadRole()
	case "hold":
		return holdRole()
	}
	return errors.New("no such role")
}

// child is this executable in a role. It ends with ctx.
func child(ctx context.Context, role string, env ...string) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := command(ctx, exe)
	cmd.Env = append(os.Environ(), append(env, roleEnv+"="+role)...)
	return cmd, nil
}

// command is a child whose errors are shown. It cannot outlive ctx, and its descendants cannot hold its reader.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// served is a child that runs until its standard input ends.
type served struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	line string // the first that it printed
}

// start starts a child and waits until it says in a line that it is ready. A child that does not is ended.
func start(cmd *exec.Cmd) (*served, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &served{cmd: cmd, in: in, out: bufio.NewReader(out)}
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("%s did not start: %w", filepath.Base(cmd.Path), err)
	}
	p.line = strings.TrimSpace(line)
	return p, nil
}

// stop ends the child's input and waits until it is gone.
func (p *served) stop() {
	p.in.Close()
	done := make(chan struct{})
	go func() { defer close(done); p.cmd.Wait() }() // how it ended says nothing: it was told to
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		p.cmd.Process.Kill()
		<-done
	}
}

// serve starts a role, until the group ends.
func (b *bench) serve(role string, env ...string) (line string, err error) {
	cmd, err := child(b.ctx, role, env...)
	if err != nil {
		return "", err
	}
	p, err := b.served(start(cmd))
	if err != nil {
		return "", fmt.Errorf("%s: %w", role, err)
	}
	return p.line, nil
}

// served keeps a child that was started until the group ends.
func (b *bench) served(p *served, err error) (*served, error) {
	if err == nil {
		b.onEnd(p.stop)
	}
	return p, err
}

// output runs a role to its end.
func (b *bench) output(role string, env ...string) ([]byte, error) {
	cmd, err := child(b.ctx, role, env...)
	if err != nil {
		return nil, err
	}
	return cmd.Output()
}

// tempDir is a directory for sockets and programs, until the group ends.
func (b *bench) tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err == nil {
		b.onEnd(func() { os.RemoveAll(dir) })
	}
	return dir, err
}

// ready says in a line that a child serves, and waits until its parent is done with it, or gone.
func ready(line any) error {
	fmt.Println(line)
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}
