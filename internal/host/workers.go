package host

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/codefile"
	"github.com/helve-serve/helve/internal/ledger"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/output"
	"github.com/helve-serve/helve/internal/pack"
	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/pyenv"
	"github.com/helve-serve/helve/internal/secret"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/trace"
	"github.com/helve-serve/helve/internal/wire"
	"github.com/helve-serve/helve/internal/worker"
)

// Program is how a worker process is started.
type Program struct {
	Path string
	Args []string
	Env  []string
	Dir  string
}

// Python says how the Python workers of an application are started, and where their code is.
type Python struct {
	Interpreter string
	SysPath     []string // the driver's sys.path, which workers have too
	Last        []string // directories in which modules are found that are nowhere else
	Dir         string
	Env         map[string]string
	Blob        []byte                   // one cloudpickle of all deployments, from a driver
	File        string                   // or the file of that, which a durable node keeps
	Digest      string                   // of File: SHA-256 in hex
	Code        map[string]protocol.Code // or, per deployment, the code in start_replica
	Packed      []Packed                 // what a node with a state directory keeps of the program's own files
}

// Runner runs a Go worker on a goroutine of this process, for tests: it opens its connections with dial, as the worker id, counts in page, and
// returns when they or ctx have ended.
type Runner func(ctx context.Context, id string, token wire.Token, page *telemetry.Page, dial func() (net.Conn, error)) error

// Session serves a connection of a worker: see package session, which implements it.
type Session interface {
	wire.Server
	// Attach sets the peer before its first frame is read.
	Attach(p *wire.Peer)
	// Close gives back the slots and results that the worker held.
	Close()
}

// Settings are the arguments of [NewWorkers].
type Settings struct {
	Logger  *slog.Logger
	Codec   *codec.Codec
	Version string
	Node    string  // id of the node
	Program Program // of Go workers of this executable
	// Output gets the lines that workers print, behind the name of the worker. nil: they go to the log.
	Output io.Writer
	// Logs gets a file per worker. May be nil.
	Logs *logs.Dir
	// Lines gets each line that a worker prints. May be nil.
	Lines *logs.Ring
	// ArenaSize is how many bytes of shared memory the workers of one application may have for large values; 0 for 1 GiB, less
	// than 0 for none.
	ArenaSize int64
	// MaxBody is the largest body that the node and its workers take, in bytes; 0 for the default.
	MaxBody int
	// Pair makes the connections to workers that a [Runner] runs: the worker's end and the node's.
	Pair func() (net.Conn, net.Conn, error)
	// NewSession makes the session of a worker's connection. A worker has one connection for calls, and for a moment another when
	// its code asks something on the goroutine that reads the first; that one is secondary.
	NewSession func(w *Worker, referenceOver int, secondary bool) Session
	// Ledger has the resources of the node; nil for a node without GPUs, of which no amount was stated.
	Ledger *ledger.Ledger
	// Trace takes records of calls. May be nil.
	Trace *trace.Recorder
	// Changed is called when a thing has changed that the owner decides by: see [Workers.Hold] and [Workers.Snapshot].
	Changed func()
	// Starter starts the workers of a node with a directory: see [Workers.UseDir]. nil is this process.
	Starter worker.Starter
	// Beside says that the node before serves beside this one until its last call has ended: workers of it that are not wanted finish its calls.
	Beside bool
	// AttachDir is the directory in which programs that a worker starts find the node; "" for none. May be nil.
	AttachDir func() string
	// Secrets puts values in the place of the placeholders of env_vars and user configs, and takes them out of lines and errors. May be nil.
	Secrets *secret.Resolver
	// Blob reads the packed files of programs, by their digests: see [Packed]. nil for a node that keeps none.
	Blob func(digest string) (io.ReadCloser, error)
}

// Workers are the child processes of a node. Its methods may be called from any goroutine.
type Workers struct {
	set Settings
	log *slog.Logger

	ctx  context.Context // ends when the node closes
	stop context.CancelCauseFunc
	wg   sync.WaitGroup // connections, watchers

	cpusReported atomic.Bool // the log has said that CPU time is not limited
	output       *output.Sink
	code         codefile.Files // of Python applications

	mu       sync.Mutex
	all      map[string]*Worker // by id, from spawn to reaped
	lastID   uint64
	socket   *worker.Listener
	spawner  *worker.Spawner // made with the socket
	families worker.Families // of processes beside the workers
	openings listen.HalfOpen // connections in their opening
	noArena  bool            // shared memory cannot be had
	former   former
	cache    pyenv.Lazy
	unpacked pack.Lazy
	closing  bool
}

// NewWorkers makes a node's set of child processes, which is empty.
func NewWorkers(s Settings) *Workers {
	ctx, stop := context.WithCancelCause(context.Background())
	if s.Ledger == nil {
		s.Ledger = ledger.New(placement.Unstated(s.Node))
	}
	return &Workers{set: s, log: s.Logger, ctx: ctx, stop: stop, all: map[string]*Worker{}, output: output.NewSink(s.Logger, s.Output, s.Logs, s.Lines)}
}

// ReplicaID makes the id of another replica: no replica of this node has had it, nor one of the node before in the same directory. It is
// short enough to read aloud, such as "Down#00a".
func (ws *Workers) ReplicaID(deployment string) string {
	const digits = "0123456789abcdefghjkmnpqrstvwxyz"
	ws.mu.Lock()
	ws.lastID++
	k := ws.lastID
	ws.mu.Unlock()
	var b []byte
	for ; k > 0 || len(b) < 3; k /= 32 {
		b = append(b, digits[k%32])
	}
	slices.Reverse(b)
	return deployment + "#" + string(b)
}

// Close kills the workers that are left, and waits for their ends. ended is the reason that connections get.
func (ws *Workers) Close(ended error) {
	ws.stop(ended)
	ws.openings.Close()
	ws.mu.Lock()
	ws.closing = true
	var left []*worker.Process
	for _, w := range ws.all {
		if w.proc != nil { // a worker that is being started, or taken over, sees that the context has ended
			left = append(left, w.proc)
		}
	}
	socket, spawner, dir := ws.socket, ws.spawner, ws.former.dir
	ws.mu.Unlock()
	for _, p := range left {
		p.Kill()
	}
	if socket != nil {
		socket.Close()
	}
	ws.wg.Wait()
	if spawner != nil {
		spawner.Close()
	}
	ws.families.Close()
	if dir != "" {
		codefile.Sweep(dir)
	}
}

// Dir is the private directory of the node, which is made for the first worker.
func (ws *Workers) Dir() (string, error) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if err := ws.listenLocked(); err != nil {
		return "", err
	}
	return filepath.Dir(ws.socket.Path()), nil
}

func (ws *Workers) listenLocked() error {
	if ws.socket != nil {
		return nil
	}
	l, err := worker.Listen("")
	if err != nil {
		return err
	}
	ws.socket, ws.spawner = l, worker.NewSpawner()
	if err := ws.spawner.Guard(); err != nil {
		ws.log.Warn("processes that workers start may outlive a node that is killed", "error", err)
	}
	ws.wg.Go(func() { ws.accept(l) })
	return nil
}

func (ws *Workers) accept(l *worker.Listener) {
	patient := listen.New(l, func(err error, times int) {
		ws.log.Warn("workers cannot connect now, the node tries again", "error", err, "times", times)
	})
	for {
		nc, err := patient.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				ws.log.Error("the workers' socket has failed", "error", err)
			}
			return
		}
		ws.wg.Go(func() { ws.open(nc) })
	}
}

// maxBodyEnv tells workers the largest body that they take.
func (ws *Workers) maxBodyEnv() []string {
	if ws.set.MaxBody == 0 {
		return nil
	}
	return []string{"HELVE_WORKER_MAX_BODY=" + strconv.Itoa(ws.set.MaxBody)}
}

// attachEnv tells the programs that a worker starts where the node is.
func (ws *Workers) attachEnv() []string {
	if ws.set.AttachDir == nil {
		return nil
	}
	if dir := ws.set.AttachDir(); dir != "" {
		return []string{AttachEnv + "=" + dir}
	}
	return nil
}

// AttachEnv names the directory or the attach socket of a node, for programs that are drivers of it.
const AttachEnv = "HELVE_NODE"
