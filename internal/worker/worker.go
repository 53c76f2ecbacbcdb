// Package worker starts and ends child processes, and owns the socket on which they connect to the node. It knows no
// protocol. It is for Linux only: it relies on process groups, Pdeathsig and SO_PEERCRED.
//
// A [Spawner] starts a [Process] from a [Command], within its [Limits]. The child and all its descendants end
// together. For example, when a worker is killed, its process group is killed, then every process with the worker's
// name in its environment (family.go), and its cgroup if it has one. When the node is killed, the kernel kills the
// workers, and a guard process kills their descendants (guard.go). A child with [Command].Outlives goes on instead,
// and the next node can [Adopt] it (adopt.go).
package worker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/logs"
)

// Command describes a child to start.
type Command struct {
	Path  string
	Args  []string
	Dir   string
	Env   []string
	ID    string
	Token [32]byte // handed over by a pipe, whose descriptor is in HELVE_TOKEN_FD
	// Output gets every line that the child prints, without its end, on a goroutine of its own for each stream
	// ("stdout", "stderr"). The line is valid only during the call. Output may be nil.
	Output func(stream string, line []byte)
	// Hide takes secrets out of a line before it goes to Output, or is kept. May be nil. Report hides by itself what it decodes.
	Hide func(line []byte) []byte
	// Counts is inherited by the child as the descriptor in HELVE_COUNTS_FD, for the calls that it counts: see [CountsFile]. nil: none.
	Counts *os.File
	// Report gets every line that the child writes to the descriptor in HELVE_TELL_FD, on a goroutine of its own. That
	// stream is for reports of the child itself, apart from the prints of its code. If Report is nil, the child has no
	// such descriptor, unless Crash. The result is text that counts as printed to stderr, for [Exit]; nil for none.
	Report func(line []byte) (stderr []byte)
	// Crash makes the child, a Go program, report its crashes on that descriptor: see [ReportCrashes].
	Crash  bool
	Limits Limits
	// Outlives is a directory for the pipes of a child that goes on when this process ends, until another process
	// adopts it or it gives up. With "" the kernel kills the child when this process ends.
	Outlives string
}

const (
	tokenFD   = 3 // the first descriptor after the standard ones
	reportFD  = 4
	keptMax   = 50
	crashMax  = 30
	lineKept  = 1 << 10 // bytes of a line that are kept
	lineMax   = 64 << 10
	pipeWait  = time.Second     // time that a grandchild may keep the output open after the child has ended
	pipeTries = 10              // as many times pipeWait are for output that is there and was not read
	termWait  = 2 * time.Second // time between SIGTERM and SIGKILL
)

// Spawner starts children through a [Starter], and follows them: their output, their ends, their descendants.
type Spawner struct {
	starter Starter
	family  string // begins the family names of the children

	guard   func()        // ends the guard; nil without a guard
	guarded chan struct{} // closed when the guard runs; nil without a guard
}

// NewSpawner makes a spawner whose children are those of this process. Close ends every child that still lives.
func NewSpawner() *Spawner {
	var name [8]byte
	rand.Read(name[:]) //nolint:errcheck // never fails since Go 1.24
	return &Spawner{starter: newThread(), family: hex.EncodeToString(name[:])}
}

// NewSpawnerOf makes a spawner whose children another process starts: see [Starter].
func NewSpawnerOf(s Starter) *Spawner { return &Spawner{starter: s, family: s.Family()} }

// Close ends the spawner. Children of this process that have not ended are killed by the kernel.
func (s *Spawner) Close() {
	s.starter.Close()
	if s.guard != nil {
		s.guard()
	}
}

// Process is one child. Its methods may be called from any goroutine.
type Process struct {
	pid  int
	id   Identity
	done chan struct{}
	exit Exit // valid after done is closed

	limits      Limits
	enforcement Enforcement
	group       *group // nil without a cgroup
	family      string // the family name of its descendants
	cancel      func() // kills a Process of [InProcess]; nil for all others
	killed      atomic.Bool
	detached    atomic.Bool            // see Detach
	pipes       [len(streams)]*os.File // that this process reads

	// The fields below are about the output. The readers write them, crashed is written by the reader of
	// the report stream, and wait reads them after the readers have ended.
	last    []string // the last lines
	crash   []string // the lines just before a line that may begin Go's report of a crash, and the first lines of the report
	after   int      // number of lines after the lines in crash
	crashed bool     // a crash was reported: see [ReportCrashes]

	keeping sync.Mutex // of the lines, which come from stderr and from reports
}

// Exit describes the end of a process.
type Exit struct {
	Code   int            // -1 if a signal ended it, or if the code is unknown
	Signal syscall.Signal // 0 if it exited by itself
	// OutOfMemory is true if the limit of its cgroup killed it, or if it failed under RLIMIT_DATA and its last words
	// name memory.
	OutOfMemory bool
	Killed      bool     // ended by [Process.Kill] or [Process.Stop]
	Lines       []string // the last lines on stderr, and the first of a crash; at most 50
	At          time.Time
	// Adopted is true if another process had started it, which is gone. The kernel tells the exit code only to the parent.
	Adopted bool

	limits                  Limits
	killsBefore, killsAfter int // by memoryKills
}

// SignalName is the name of the signal, or "" if the process exited by itself.
func (e Exit) SignalName() string {
	names := map[syscall.Signal]string{
		syscall.SIGHUP: "SIGHUP", syscall.SIGINT: "SIGINT", syscall.SIGQUIT: "SIGQUIT", syscall.SIGILL: "SIGILL",
		syscall.SIGTRAP: "SIGTRAP", syscall.SIGABRT: "SIGABRT", syscall.SIGBUS: "SIGBUS", syscall.SIGFPE: "SIGFPE",
		syscall.SIGKILL: "SIGKILL", syscall.SIGUSR1: "SIGUSR1", syscall.SIGSEGV: "SIGSEGV", syscall.SIGUSR2: "SIGUSR2",
		syscall.SIGPIPE: "SIGPIPE", syscall.SIGALRM: "SIGALRM", syscall.SIGTERM: "SIGTERM", syscall.SIGXCPU: "SIGXCPU",
		syscall.SIGXFSZ: "SIGXFSZ", syscall.SIGSYS: "SIGSYS",
	}
	switch name, ok := names[e.Signal]; {
	case ok:
		return name
	case e.Signal == 0:
		return ""
	}
	return fmt.Sprintf("signal %d", int(e.Signal))
}

// Summary is the end in one sentence.
func (e Exit) Summary() string {
	how := fmt.Sprintf("exit status %d", e.Code)
	switch {
	case e.Adopted && e.Killed:
		how = "ended by its node"
	case e.Adopted:
		how = "ended; an earlier node started it, so that nobody knows how"
	case e.Killed && e.Signal == syscall.SIGKILL:
		how = "killed by its node (SIGKILL)"
	case e.Signal == syscall.SIGKILL && e.OutOfMemory:
		how = "killed by SIGKILL"
	case e.Signal == syscall.SIGKILL:
		how = killer(e.killsBefore, e.killsAfter)
	case e.Signal != 0:
		how = fmt.Sprintf("ended by %s (%s)", e.SignalName(), e.Signal)
	}
	if e.OutOfMemory {
		return fmt.Sprintf("out of memory (limit %d MiB): %s", e.limits.MemoryBytes>>20, how)
	}
	return how
}

// Reason is the summary with the last lines.
func (e Exit) Reason() string {
	if len(e.Lines) == 0 {
		return e.Summary()
	}
	return e.Summary() + ": " + strings.Join(e.Lines, "\n")
}

// Start starts a child in a process group of its own, with /dev/null as its standard input. The caller owns the
// Process, and has to end it before it closes the Spawner.
func (s *Spawner) Start(c Command) (*Process, error) { return s.start(c, nil) }

// start is Start in an existing cgroup, if the parameter in is not nil.
func (s *Spawner) start(c Command, in *group) (*Process, error) {
	tr, tw, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer tr.Close()
	_, err = tw.Write(c.Token[:]) // fits into the pipe
	if cerr := tw.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	p := &Process{done: make(chan struct{}), limits: c.Limits, family: s.family + "." + c.ID, exit: Exit{killsBefore: memoryKills()}}
	var pipes, ends [len(streams)]*os.File
	for i, stream := range streams {
		if !c.has(stream) {
			continue
		}
		r, w, err := c.pipe(stream)
		if err != nil {
			closeAll(pipes[:])
			return nil, err
		}
		defer w.Close()
		pipes[i], ends[i] = r, w
	}
	l := Launch{ID: c.ID, Path: c.Path, Args: c.Args, Dir: c.Dir, Limits: c.Limits, Outlives: c.Outlives != "", in: in}
	files := []*os.File{ends[0], ends[1], tr}
	l.Env = append(c.Env[:len(c.Env):len(c.Env)], fmt.Sprintf("HELVE_TOKEN_FD=%d", tokenFD), familyEnv+"="+p.family)
	if c.has(reportStream) {
		files = append(files, ends[2])
		l.Env = append(l.Env, fmt.Sprintf("%s=%d", reportEnv, reportFD))
	}
	if c.Counts != nil {
		files = append(files, c.Counts)
		l.Env = append(l.Env, fmt.Sprintf("%s=%d", countsEnv, c.countsFD()))
	}
	started, err := s.starter.Start(l, files)
	if err != nil {
		closeAll(pipes[:])
		return nil, c.missing(err)
	}
	p.pid, p.enforcement = started.PID, started.Enforcement
	if p.enforcement.Why == nil && started.Why != "" {
		p.enforcement.Why = errors.New(started.Why)
	}
	if started.Group != "" {
		p.group = &group{path: started.Group}
	}
	p.identify(c)
	p.follow(pipes, c, func() { p.reap(s.starter) })
	return p, nil
}

// missing names the file that a failed start misses. The kernel's error is the same for a missing directory, a
// missing program, and the missing interpreter of a script.
func (c *Command) missing(err error) error {
	if st, derr := os.Stat(c.Dir); c.Dir != "" && (derr != nil || !st.IsDir()) {
		return fmt.Errorf("its directory %s (working_dir) is not there, or is no directory: %w", c.Dir, err)
	}
	if !errors.Is(err, syscall.ENOENT) {
		return err
	}
	path := c.Path
	if !filepath.IsAbs(path) && strings.Contains(path, "/") {
		path = filepath.Join(c.Dir, path)
	}
	if _, serr := os.Stat(path); serr == nil {
		return fmt.Errorf("%s is there, but what runs it is not (the interpreter in its first line, or the dynamic linker): %w", path, err)
	}
	return err
}

const (
	reportStream = "told"
	reportEnv    = "HELVE_TELL_FD"
)

// RecordReport is the word in front of a record that a worker reports.
const RecordReport = "record"

var streams = [...]string{"stdout", "stderr", reportStream} //nolint:gochecknoglobals // a constant

// has reports whether the child has a stream.
func (c *Command) has(stream string) bool {
	return stream != reportStream || c.Report != nil || c.Crash
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// ReportCrashes makes this process, a Go worker, report its crashes on the descriptor in HELVE_TELL_FD too. Without
// it the node would have to look for them in the printed lines, where the text of a client may look like a crash. The result takes
// lines of reports, each in one Write; it is nil for a process without the descriptor.
func ReportCrashes() *os.File {
	fd, err := strconv.Atoi(os.Getenv(reportEnv))
	os.Unsetenv(reportEnv) //nolint:errcheck // it has a name
	if err != nil {
		return nil
	}
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), reportStream)
	debug.SetCrashOutput(f, debug.CrashOptions{}) //nolint:errcheck // stderr has them all the same
	return f
}

// follow reads the child's streams and waits for its end. The function ended waits for the process itself.
func (p *Process) follow(pipes [len(streams)]*os.File, c Command, ended func()) {
	p.pipes = pipes
	var readers sync.WaitGroup
	for i, stream := range streams {
		if pipes[i] != nil {
			sink := p.sink(stream, c)
			if hide := c.Hide; hide != nil && stream != reportStream {
				shown := sink
				sink = func(line []byte) { shown(hide(line)) }
			}
			readers.Go(func() { p.read(pipes[i], sink) })
		}
	}
	go p.wait(&readers, pipes[:], ended)
}

// sink is the function that gets the lines of a stream.
func (p *Process) sink(stream string, c Command) func(line []byte) {
	switch {
	case stream == reportStream && c.Crash:
		return func(line []byte) {
			if c.Report != nil && bytes.HasPrefix(line, []byte(RecordReport+" ")) {
				p.keepLines(c.Report(line))
				return
			}
			p.crashed = true
		}
	case stream == reportStream:
		return func(line []byte) { p.keepLines(c.Report(line)) }
	}
	return func(line []byte) {
		if stream == "stderr" {
			p.keepLines(line)
		}
		if c.Output != nil {
			c.Output(stream, line)
		}
	}
}

func (p *Process) read(r io.Reader, sink func(line []byte)) {
	in := bufio.NewReaderSize(r, lineMax)
	for cut := false; ; {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 && !cut {
			sink(bytes.TrimRight(line, "\r\n"))
		}
		cut = errors.Is(err, bufio.ErrBufferFull) // the rest of a very long line is dropped
		if err != nil && !cut {
			return
		}
	}
}

// keepLines is keep for each line of a text.
func (p *Process) keepLines(text []byte) {
	if len(text) == 0 {
		return
	}
	p.keeping.Lock()
	defer p.keeping.Unlock()
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		p.keep(line)
	}
}

// keep remembers the last lines of stderr. Go's report of a crash begins with the reason and the stack of the
// goroutine that crashed, and goes on with the stacks of all others. So the first lines of a report are kept beside
// the last ones. A line that looks like the beginning of a report may be any text; the field crashed says whether
// there was a crash.
func (p *Process) keep(line []byte) {
	if len(line) == 0 {
		return
	}
	text := keepable(line)
	switch {
	case logs.Crash(line):
		p.crash, p.after = slices.Concat(p.last[max(len(p.last)-crashMax/3, 0):], []string{text}), 0
	case len(p.crash) > 0 && len(p.crash) < crashMax:
		p.crash = append(p.crash, text)
	default:
		p.after++
	}
	if len(p.last) == keptMax {
		p.last = append(p.last[:0], p.last[1:]...)
	}
	p.last = append(p.last, text)
}

func keepable(line []byte) string {
	if len(line) > lineKept {
		return string(logs.Clean(nil, line[:lineKept], false)) + "..."
	}
	return string(logs.Clean(nil, line, false))
}

// lines are the last lines of stderr, and the first of a crash.
func (p *Process) lines() []string {
	if !p.crashed {
		return p.last
	}
	return slices.Concat(p.crash, p.last[len(p.last)-min(p.after, keptMax-len(p.crash), len(p.last)):])
}

// wait reaps the child, ends its group, and closes done when its output has been read.
func (p *Process) wait(readers *sync.WaitGroup, pipes []*os.File, ended func()) {
	ended()
	killed := p.killed.Load()             // a Kill from now on is not why it has ended
	syscall.Kill(-p.pid, syscall.SIGKILL) //nolint:errcheck // nobody may be left
	if p.group != nil {
		p.group.kill()
	}
	endFamily(p.family, false)
	read := make(chan struct{})
	go func() { readers.Wait(); close(read) }()
	late := time.NewTimer(pipeWait)
	for tries, wait := 1, true; wait; tries++ {
		select {
		case <-read:
			wait = false
		case <-late.C: // a descendant outside of the group holds the pipe, or a busy machine has not run the readers
			wait = tries < pipeTries && slices.ContainsFunc(pipes, kernel.Unread)
			late.Reset(pipeWait)
		}
	}
	late.Stop()
	closeAll(pipes) // ends the readers that have not ended
	<-read
	p.exit.Killed, p.exit.Lines, p.exit.At, p.exit.limits = killed, p.lines(), time.Now(), p.limits
	p.exit.OutOfMemory, p.exit.killsAfter = p.outOfMemory(), memoryKills()
	p.id.removePipes()
	if p.group != nil {
		p.group.remove()
	}
	close(p.done)
}

// reap waits for the end of a child, and takes its status from the process that started it.
func (p *Process) reap(s Starter) {
	st, ok := s.Wait(p.pid)
	if !ok {
		st.Code, p.exit.Adopted = -1, true
	}
	p.exit.Code, p.exit.Signal = st.Code, st.Signal
}

// outOfMemory reports whether the child ended for lack of memory. The cgroup counts such ends. Under RLIMIT_DATA a
// process ends in its own way when an allocation fails, and only its last words tell.
func (p *Process) outOfMemory() bool {
	if p.exit.Code == 0 {
		return false
	}
	switch p.enforcement.Memory {
	case "cgroup":
		return p.group.oomKills() > 0
	case "RLIMIT_DATA":
		return !p.exit.Killed && slices.ContainsFunc(p.lastWords(), noMemory)
	}
	return false
}

// lastWords are the lines that a process wrote about its own end: the report of a crash of a Go program, or the last
// lines of another program. Earlier lines may be the text of a client.
func (p *Process) lastWords() []string {
	const most = 10
	if p.crashed {
		return p.crash
	}
	return p.last[max(len(p.last)-most, 0):]
}

func noMemory(line string) bool {
	return slices.ContainsFunc(
		[]string{"out of memory", "annot allocate memory", "failed to allocate", "MemoryError", "std::bad_alloc"},
		func(text string) bool { return strings.Contains(line, text) })
}

// Enforcement says how its limits are enforced.
func (p *Process) Enforcement() Enforcement { return p.enforcement }

// PID is the child's process id, or 0 for a Process of [InProcess].
func (p *Process) PID() int { return p.pid }

// Done is closed when the child has ended, was reaped, and its output was read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit describes the end. It is valid after Done.
func (p *Process) Exit() Exit { return p.exit }

// Kill ends the child and its group at once. It does not wait: see Done.
func (p *Process) Kill() {
	select {
	case <-p.done:
	default:
		p.signal(syscall.SIGKILL)
	}
}

func (p *Process) signal(s syscall.Signal) {
	if p.detached.Load() {
		return
	}
	// The group exists as long as the child is not reaped, and wait alone reaps. An adopted child is reaped by
	// another process, but its id is not used again so soon.
	p.killed.Store(true)
	if p.cancel != nil {
		p.cancel()
		return
	}
	syscall.Kill(-p.pid, s) //nolint:errcheck // it may have ended
}

// Stop ends the child and returns when it is gone. It waits for the child to exit by itself for at most grace, then
// sends SIGTERM, and SIGKILL after termWait. The end of ctx shortens every wait.
func (p *Process) Stop(ctx context.Context, grace time.Duration) {
	for _, step := range []struct {
		wait   time.Duration
		signal syscall.Signal
	}{{grace, syscall.SIGTERM}, {termWait, syscall.SIGKILL}} {
		t := time.NewTimer(step.wait)
		select {
		case <-p.done:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		select {
		case <-p.done:
			return
		default:
			p.signal(step.signal)
		}
	}
	<-p.done
}
