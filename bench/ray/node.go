package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"github.com/helve-serve/helve"
)

// The variables of the node whose death a fault row measures: the address is given to the supervisor, the directory by the supervisor to the node.
const (
	nodeAddrEnv  = "BENCH_RAY_NODE"
	nodeStateEnv = "BENCH_RAY_STATE"
)

// supervise starts a node with a state directory again whenever it has ended, at once, as a service manager does. It ends with its standard input.
func supervise(addr string) error {
	dir, err := os.MkdirTemp("", "hbn")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { io.Copy(io.Discard, os.Stdin); close(ended) }() //nolint:errcheck // any end is the end
	for first := true; ; first = false {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), nodeStateEnv+"="+dir+"/state")
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if line, err := bufio.NewReader(out).ReadString('\n'); err == nil && first {
				fmt.Print(line)
			}
			cmd.Wait() //nolint:errcheck // it was killed
		}()
		select {
		case <-done:
		case <-ended:
			in.Close()
			<-done
			return nil
		}
	}
}

type pyWork interface {
	Work(context.Context, string) (string, error)
}

// node serves two Python replicas until its standard input ends.
func node(addr, state string) error {
	ctx := context.Background()
	s, err := helve.Config{HTTP: addr, StateDir: state, WorkerGrace: 30 * time.Second, Logger: slog.New(slog.DiscardHandler)}.Run(ctx, func() (*helve.App, error) {
		app := helve.NewApp("work")
		work := helve.Python[pyWork](app, "Work", "pybench.app:Work", helve.Args{}, helve.Options{NumReplicas: new(2), MaxOngoingRequests: new(1000)})
		app.Ingress(helve.MethodOf(work, pyWork.Work))
		return app, nil
	})
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	fmt.Println(addr)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
