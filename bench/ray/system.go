package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/helve-serve/helve/bench/proc"
)

// system is a server under measurement: a serving system in one configuration, or a floor.
type system struct {
	name  string
	title string   // in tables
	args  []string // of the command line: a program and its arguments; the arguments of a row's program come behind them
	env   []string
	floor bool // a server with one fixed program
}

// The variables of Ray Serve's faster configurations.
var throughput = []string{"RAY_SERVE_THROUGHPUT_OPTIMIZED=1"}

// The last variable lets values of more than 4 MB through, which gRPC refuses otherwise.
var best = append([]string{"RAY_SERVE_USE_GRPC_BY_DEFAULT=1", "RAY_SERVE_ENABLE_HA_PROXY=1", "RAY_SERVE_HAPROXY_TCP_NODELAY=1",
	"RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH=67108864"}, throughput...)

const (
	helveSystem = "helve"
	helvePlain  = "helve-asyncio"
	rayBest     = "ray-best"
	rayDefault  = "ray-default"
	relayFloor  = "relay"
	uvicorn     = "uvicorn"
	uvicornFast = "uvicorn-fastapi"
	mosecFloor  = "mosec"
)

// systems are all that can be measured. The serving systems run the same program (program.py).
func systems(python string) []system {
	here, _ := filepath.Abs(".") // with the modules of pybench
	plain := filepath.Join(here, "ray/nouvloop")
	serving := func(name, title, which string, env ...string) system {
		return system{name: name, title: title, args: []string{python, "ray/program.py"}, env: append([]string{"BENCH_SYSTEM=" + which, "PYTHONPATH=" + here}, env...)}
	}
	exe, _ := os.Executable()
	return []system{
		serving(helveSystem, "Helve", "helve"),
		serving(helvePlain, "Helve, asyncio", "helve", "PYTHONPATH="+plain+":"+here),
		serving(rayBest, "Ray Serve, best", "ray", best...),
		serving(rayDefault, "Ray Serve, default", "ray"),
		serving("ray-to", "Ray Serve, throughput", "ray", throughput...),
		serving("ray-asyncio", "Ray Serve, best, asyncio", "ray", append([]string{"PYTHONPATH=" + plain + ":" + here}, best...)...),
		{name: relayFloor, title: "minimal relay", floor: true, args: []string{exe}, env: []string{relayEnv + "=" + python}},
		{name: uvicorn, title: "bare uvicorn", floor: true, args: []string{python, "pybench/web.py", "uvicorn", "asgi"}},
		{name: uvicornFast, title: "bare uvicorn", floor: true, args: []string{python, "pybench/web.py", "uvicorn", "fastapi"}},
		{name: mosecFloor, title: "Mosec", floor: true, args: []string{python, "pybench/batcher.py"}},
	}
}

// supervised is a node of Helve under a keeper. It is this executable.
func supervised(addr string) system {
	exe, _ := os.Executable()
	return system{name: helveSystem, floor: true, args: []string{exe}, env: []string{nodeAddrEnv + "=" + addr}}
}

// program is a program of a system that runs under a keeper.
type program struct {
	system  system
	keeper  *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	addr    string // of HTTP
	dir     string
	took    time.Duration // from its start to its first line
	version int           // of the deployment of the rows about faults, 0 at first
	stopped bool
}

// launch starts a program of a system, and waits until it serves. Its first line is JSON with a text, or the text alone (of a floor).
func launch(ctx context.Context, sys system, args ...string) (*program, error) {
	dir, err := os.MkdirTemp("", "hb") // short, for the sockets of Ray
	if err != nil {
		return nil, err
	}
	p := &program{system: sys, dir: dir}
	if err := p.start(ctx, args); err != nil {
		p.close() //nolint:errcheck // the first error says more
		return nil, fmt.Errorf("%s: %w", sys.name, err)
	}
	return p, nil
}

// start is the part of launch that can fail halfway.
func (p *program) start(ctx context.Context, args []string) error {
	sys, dir := p.system, p.dir
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		return err
	}
	defer stderr.Close()
	p.keeper = exec.CommandContext(ctx, exe, append(append([]string{}, sys.args...), args...)...)
	p.keeper.Cancel = func() error { return p.in.Close() } // the keeper then ends its descendants
	p.keeper.WaitDelay = 2 * grace
	p.keeper.Env = append(append(os.Environ(), keepEnv+"=1", "RAY_TMPDIR="+dir, "RAY_USAGE_STATS_ENABLED=0", "HELVE_PYTHON="+python()), sys.env...)
	p.keeper.Stderr = stderr
	p.keeper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal reaches it through its input
	if p.in, err = p.keeper.StdinPipe(); err != nil {
		return err
	}
	out, err := p.keeper.StdoutPipe()
	if err != nil {
		return err
	}
	p.out = bufio.NewReader(out)
	begin := time.Now()
	if err := p.keeper.Start(); err != nil {
		return err
	}
	if sys.floor {
		line, err := p.out.ReadString('\n')
		p.addr = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(p.addr, "missing "); ok {
			return fmt.Errorf("%s is not installed", name)
		}
		return err
	}
	var first struct{ Text string }
	if err := p.read(&first); err != nil {
		return err
	}
	p.addr, p.took = first.Text, time.Since(begin)
	return nil
}

// address is a free address of this machine.
func address() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// ask gives a request to the program and reads its answer.
func (p *program) ask(request, answer any) error {
	if err := p.send(request); err != nil {
		return err
	}
	return p.read(answer)
}

func (p *program) send(request any) error {
	if err := json.NewEncoder(p.in).Encode(request); err != nil {
		return p.explain(err)
	}
	return nil
}

// read reads the next line of JSON. Other lines are of logs.
func (p *program) read(answer any) error {
	for {
		line, err := p.out.ReadBytes('\n')
		if err != nil {
			return p.explain(err)
		}
		if line[0] == '{' {
			return json.Unmarshal(line, answer)
		}
	}
}

// explain adds the last lines of the program's errors to an error.
func (p *program) explain(err error) error {
	text, _ := os.ReadFile(filepath.Join(p.dir, "stderr"))
	const most = 2000
	return fmt.Errorf("%w; its last words:\n%s", err, text[max(0, len(text)-most):])
}

// pause stops all processes of the program, so that a system that is not measured takes no time.
func (p *program) pause() error {
	if p.stopped {
		return nil
	}
	p.stopped = true
	return signalAll(p.keeper.Process.Pid, syscall.SIGSTOP)
}

// settle is how long a program that goes on has for its overdue work before it is measured.
const settle = 150 * time.Millisecond

func (p *program) resume() error {
	if !p.stopped {
		return nil
	}
	p.stopped = false
	err := signalAll(p.keeper.Process.Pid, syscall.SIGCONT)
	time.Sleep(settle)
	return err
}

// cpu is the processor time of all processes of the program.
func (p *program) cpu() (time.Duration, error) { return proc.TreeCPU(p.keeper.Process.Pid) }

// memory is the PSS of all processes of the program in MB, and their number.
func (p *program) memory() (mb float64, processes int, err error) {
	kids, err := proc.Children(p.keeper.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	for _, k := range kids {
		one, err := proc.TreePSS(k)
		if err != nil {
			return 0, 0, err
		}
		mb += one
	}
	all, err := proc.Descendants(p.keeper.Process.Pid)
	return mb, len(all), err
}

// close ends the program with all its processes.
func (p *program) close() error {
	var err error
	if p.keeper != nil && p.keeper.Process != nil {
		p.resume() //nolint:errcheck // the keeper does that again
		p.in.Close()
		err = p.keeper.Wait()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		err = nil // a program that was told to end may say that it did not like it
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}
