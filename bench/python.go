package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/helve-serve/helve"
)

// pythonPath is the interpreter that has the helve package.
func pythonPath() string {
	for _, p := range []string{os.Getenv("HELVE_BENCH_PYTHON"), os.Getenv("HELVE_PYTHON")} {
		if p != "" {
			return p
		}
	}
	p, _ := filepath.Abs("../.venv/bin/python")
	return p
}

type caller interface {
	Run(context.Context, runIn) (timings, error)
}

type pyEcho interface {
	Echo(context.Context, string) (string, error)
}

type runIn struct {
	Seconds  float64 `json:"seconds"`
	InFlight int     `json:"in_flight"`
}

type timings struct {
	Rate float64 `json:"rate"`
	P50  float64 `json:"p50"` // seconds
}

// buildPython is one Python deployment that calls another; the measuring loop is in the calling replica.
func buildPython() (*helve.App, error) {
	app := helve.NewApp("python")
	opts := helve.Options{MaxOngoingRequests: new(1000)}
	echo := helve.Python[pyEcho](app, "Echo", "pybench.app:Echo", helve.Args{}, opts)
	opts.Uses = []helve.Target{echo}
	c := helve.Python[caller](app, "Caller", "pybench.app:Caller", helve.Args{Positional: []any{echo}}, opts)
	app.Ingress(helve.MethodOf(c, caller.Run))
	return app, nil
}

// relayRole is the minimal relay: two connections, frames of a header and a body, ids mapped, one write per read.
func relayRole() error {
	l, err := net.Listen("unix", os.Getenv("BENCH_SOCKET"))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	callee, err := l.Accept()
	if err != nil {
		return err
	}
	calling, err := l.Accept()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	pending := map[uint64]uint64{}
	next := uint64(0)
	go relay(calling, callee, func(id uint64) uint64 {
		mu.Lock()
		defer mu.Unlock()
		next++
		pending[next] = id
		return next
	})
	relay(callee, calling, func(id uint64) uint64 {
		mu.Lock()
		defer mu.Unlock()
		was := pending[id]
		delete(pending, id)
		return was
	})
	return nil
}

// relay copies frames (u32 length, u32 type, u64 id, body), giving each the id that its receiver knows.
func relay(from, to net.Conn, rename func(uint64) uint64) {
	in := make([]byte, 256<<10)
	lo, hi := 0, 0
	for {
		n, err := from.Read(in[hi:])
		if err != nil {
			return
		}
		hi += n
		start := lo
		for hi-lo >= 16 {
			size := 16 + int(binary.LittleEndian.Uint32(in[lo:]))
			if hi-lo < size {
				break
			}
			id := in[lo+8 : lo+16]
			binary.LittleEndian.PutUint64(id, rename(binary.LittleEndian.Uint64(id)))
			lo += size
		}
		if _, err := to.Write(in[start:lo]); err != nil {
			return
		}
		hi = copy(in, in[lo:hi])
		lo = 0
	}
}

// minimal runs the two Python processes of the relay.
type minimal struct {
	in  io.WriteCloser
	out *bufio.Reader
	end []func()
}

func startMinimal(dir string) (*minimal, error) {
	m := &minimal{}
	sock := filepath.Join(dir, "relay")
	stop, _, err := serve("relay", "BENCH_SOCKET="+sock)
	if err != nil {
		return nil, err
	}
	m.end = append(m.end, stop)
	for _, role := range []string{"callee", "caller"} {
		cmd := exec.Command(pythonPath(), "pybench/minimal.py", role, sock)
		cmd.Stderr = os.Stderr
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
		m.end = append(m.end, func() { in.Close(); waitFor(cmd) })
		m.in, m.out = in, bufio.NewReader(out)
		if _, err := m.out.ReadString('\n'); err != nil {
			return nil, fmt.Errorf("minimal %s: %w", role, err)
		}
	}
	return m, nil
}

func (m *minimal) run(in runIn) (t timings, err error) {
	if err = json.NewEncoder(m.in).Encode(in); err != nil {
		return t, err
	}
	line, err := m.out.ReadBytes('\n')
	if err != nil {
		return t, err
	}
	return t, json.NewDecoder(bytes.NewReader(line)).Decode(&t)
}

func (m *minimal) close() {
	for i := len(m.end) - 1; i >= 0; i-- {
		m.end[i]()
	}
}

func pythonRows(b *bench) ([]row, error) {
	os.Setenv("HELVE_PYTHON", pythonPath())
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	m, err := startMinimal(dir)
	if err != nil {
		return nil, err
	}
	defer m.close()
	ctx := context.Background()
	s, err := helve.Run(ctx, buildPython)
	if err != nil {
		return nil, err
	}
	defer s.Close(ctx)
	h, err := helve.HandleOf[caller](s, "python", "Caller")
	if err != nil {
		return nil, err
	}
	run := helve.MethodOf(h, caller.Run)
	var rows []row
	for _, inFlight := range []int{64, 8, 1} {
		in := runIn{b.length.Seconds(), inFlight}
		pick := func(t timings, err error) (float64, error) {
			if inFlight == 1 {
				return t.P50 * 1e9, err
			}
			return t.Rate, err
		}
		o, r, err := b.both(
			func() (float64, error) { return pick(run.Call(ctx, in)) },
			func() (float64, error) { return pick(m.run(in)) })
		if err != nil {
			return nil, err
		}
		switch inFlight {
		case 1:
			rows = append(rows, row{"Python to Python, p50 at 1 / minimal relay", us(time.Duration(o)), us(time.Duration(r)), o / r, 1.8, false})
		case 64:
			rows = append(rows, row{"Python to Python, 64 in flight / minimal relay", perSecond(o), perSecond(r), o / r, 0.4, true})
		default:
			rows = append(rows, row{"Python to Python, 8 in flight / minimal relay", perSecond(o), perSecond(r), o / r, 0, true})
		}
	}
	return rows, nil
}
