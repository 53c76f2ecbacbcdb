package main

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/bench/client"
	"github.com/helve-serve/helve/bench/peer"
	"github.com/helve-serve/helve/bench/proc"
	"github.com/helve-serve/helve/bench/stat"
)

// streamConns is the number of streams over HTTP at the same time, and streamItems the number of items of each that are timed.
const (
	streamConns = 1000
	streamItems = 200
)

// Ticker streams items over HTTP, as lines of JSON.
type Ticker struct{}

// Tick is one item. Its line has 75 bytes.
type Tick struct {
	Text string `json:"text"`
}

// Items yields n items. With n = 0 it yields one, and then waits for the end of its call.
func (Ticker) Items(ctx context.Context, n int) iter.Seq2[Tick, error] {
	return func(yield func(Tick, error) bool) {
		for range max(n, 1) {
			if !yield(Tick{peer.Item}, nil) {
				return
			}
		}
		if n == 0 {
			<-ctx.Done()
		}
	}
}

// streamsHelveRole is a node whose ingress is a stream of a Go replica in the node.
func streamsHelveRole() error {
	ctx := context.Background()
	s, err := helve.Run(ctx, func() (*helve.App, error) {
		app := helve.NewApp("ticker")
		h := helve.Deploy(app, "Ticker", func(context.Context) (Ticker, error) { return Ticker{}, nil },
			helve.Options{MaxOngoingRequests: new(2 * streamConns)})
		app.Ingress(helve.StreamOf(h, Ticker.Items))
		return app, nil
	})
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	url, _, err := s.Serve("127.0.0.1:0")
	if err != nil {
		return err
	}
	return ready(strings.TrimPrefix(url, "http://"))
}

// streamsBareRole is net/http with a handler that writes the same items, and flushes each.
func streamsBareRole() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n int
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		out, flusher := json.NewEncoder(w), w.(http.Flusher)
		for v, err := range (Ticker{}).Items(r.Context(), n) {
			if err != nil || out.Encode(v) != nil {
				return
			}
			flusher.Flush()
		}
	}))
	return ready(l.Addr())
}

func streamRequest(n int) []byte {
	body := strconv.Itoa(n)
	return fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// streamsLoadRole is the client of many streams that begin at the same time. Its load has items per second, and the times to the first item.
func streamsLoadRole() error {
	addr := os.Getenv(addrEnv)
	conns, err := strconv.Atoi(os.Getenv(connsEnv))
	if err != nil {
		return err
	}
	first, took, err := client.Streams(addr, conns, streamRequest(streamItems), streamItems)
	if err != nil {
		return err
	}
	rate := float64(conns*streamItems) / took.Seconds()
	return json.NewEncoder(os.Stdout).Encode(load{rate, stat.Median(first), stat.Quantile(first, 0.99), conns})
}

// holdRole is the client of connections without traffic. It opens them one after the other, each with a request to which the server answers
// in part, and keeps them until its input ends.
func holdRole() error {
	conns, err := strconv.Atoi(os.Getenv(connsEnv))
	if err != nil {
		return err
	}
	end, err := client.Hold(os.Getenv(addrEnv), conns, []byte(os.Getenv(requestEnv)), []byte(os.Getenv(untilEnv)))
	if err != nil {
		return err
	}
	defer end()
	return ready("open")
}

// memoryEach is the memory that a connection costs a server and its children, in KB: how much their PSS grows while a client holds
// connections.
func (b *bench) memoryEach(server *served, addr string, conns int, request []byte, until string) (float64, error) {
	before, err := proc.TreePSS(server.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	cmd, err := child(b.ctx, "hold", addrEnv+"="+addr, connsEnv+"="+strconv.Itoa(conns), requestEnv+"="+string(request), untilEnv+"="+until)
	if err != nil {
		return 0, err
	}
	client, err := start(cmd)
	if err != nil {
		return 0, err
	}
	defer client.stop()
	time.Sleep(b.length) // a garbage collection or two, which take the stacks of the handshakes back
	after, err := proc.TreePSS(server.cmd.Process.Pid)
	return (after - before) * 1024 / float64(conns), err
}

func kilobytes(s sample) string { return fmt.Sprintf("%.1f KB", s.v) }

// connectionRows are about many connections at the same time.
func connectionRows(b *bench) []measurement {
	role := func(name string) func() (*served, error) {
		return sync.OnceValues(func() (*served, error) {
			cmd, err := child(b.ctx, name)
			if err != nil {
				return nil, err
			}
			return b.served(start(cmd))
		})
	}
	helveStreams, bareStreams := role("streams-helve"), role("streams-bare")
	streams := func(server func() (*served, error)) func() (sample, error) {
		return func() (sample, error) {
			p, err := server()
			if err != nil {
				return sample{}, err
			}
			var l load
			out, err := b.output("streams-load", addrEnv+"="+p.line, connsEnv+"="+strconv.Itoa(streamConns))
			if err == nil {
				err = json.Unmarshal(out, &l)
			}
			return sample{v: float64(l.P50), p99: float64(l.P99), rate: l.Rate}, err
		}
	}
	load := b.once(streams(helveStreams), streams(bareStreams))
	// A server that has served before holds memory from then, so each row of memory has servers of its own.
	idle := func(cmd func() (*exec.Cmd, error), conns int, request []byte, until string) func() (sample, error) {
		return func() (sample, error) {
			c, err := cmd()
			if err != nil {
				return sample{}, err
			}
			p, err := start(c)
			if err != nil {
				return sample{}, err
			}
			defer p.stop()
			kb, err := b.memoryEach(p, p.line, conns, request, until)
			return sample{v: kb}, err
		}
	}
	idleStreams := func(role string) func() (sample, error) {
		return idle(func() (*exec.Cmd, error) { return child(b.ctx, role) }, streamConns, streamRequest(0), peer.Item)
	}
	sockets := socketCount()
	idleSockets := func(server string) func() (sample, error) {
		return idle(func() (*exec.Cmd, error) { return command(b.ctx, pythonPath(), "pybench/sockets.py", server), nil },
			sockets, []byte(handshake), "\r\n\r\n")
	}
	once := *b // memory is a count: one round will do
	once.rounds = 1
	return []measurement{
		{name: "1,000 streams over HTTP, items / net/http", measure: load.row(perSecond, rate)},
		{name: "1,000 streams over HTTP, first item / net/http", measure: load.row(latencyText, p50)},
		{name: "1,000 idle streams, memory each / net/http", exact: true, measure: func() (result, error) {
			return once.row(kilobytes, idleStreams("streams-helve"), idleStreams("streams-bare"))
		}},
		{name: fmt.Sprintf("%d idle WebSockets, memory each / uvicorn", sockets), exact: true, measure: func() (result, error) {
			return once.row(kilobytes, idleSockets("helve"), idleSockets("uvicorn"))
		}},
	}
}

const handshake = "GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// socketCount is the number of idle WebSockets: 10,000, or as many as one process may open, and a node takes clients (half of the
// descriptors, at most 8192).
func socketCount() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 100
	}
	return max(100, min(10_000, 8192, int(r.Cur)/2)-192)
}
