package policy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/lines"
	"github.com/helve-serve/helve/internal/spec"
)

// Described is a policy of a process.
type Described struct {
	// Function is the import path of a function or class in Python, or the name of a function in Go behind [helvetype.GoPolicy].
	Function string `json:"function"`
	// Kwargs are the arguments of a class, a JSON object.
	Kwargs json.RawMessage `json:"kwargs,omitempty"`
	// Entry names the pickle of the policy in the file of the application's code; "" for a policy that is imported. A file that does not have it, or has it under
	// another path, is no mistake. Of a policy in Go it is the name of the deployment in the executable; "" for the policy of an application.
	Entry string `json:"entry,omitempty"`
}

// Environment is that of a process of policies: the one of the replicas of the application.
type Environment struct {
	// Program is the interpreter with the arguments of [pystart.Args], or an executable in Go that calls [Main].
	Program string
	Args    []string
	Dir     string
	Env     []string
	// Limits are the limits of the process of a replica. Memory and open files are limited for this process too, CPUs are not.
	Limits spec.Limits
	// Code is the file of the application's pickles; "" for none.
	Code string
	// Release is called when the process has ended, which does not read Code any more: it ends processes that this one has started. May be nil.
	Release func()
}

// ProcessSettings are the arguments of [NewProcess].
type ProcessSettings struct {
	// Open prepares the environment, which may take minutes: it installs packages. It is called for each start of the process.
	Open func(ctx context.Context) (Environment, error)
	// Line gets each line that the process prints. May be nil.
	Line func(text string)
}

// Process runs policies in Python, or policies of an executable in Go. It is started by the first question, and again by the question after its end: the states of classes begin anew then, and states that
// policies return go on. Its methods may be called from any goroutine.
type Process struct {
	set  ProcessSettings
	ctx  context.Context
	stop context.CancelCauseFunc
	wg   sync.WaitGroup

	starting chan struct{} // of one: full while the process is being started
	mu       sync.Mutex
	running  *running // nil for none
}

// NewProcess makes the process of policies, which does not run yet.
func NewProcess(s ProcessSettings) *Process {
	ctx, stop := context.WithCancelCause(context.Background())
	return &Process{set: s, ctx: ctx, stop: stop, starting: make(chan struct{}, 1)}
}

// Policy is a policy that the process runs, with the time of one answer. It has the name of its deployment, "" for one of an application, and is loaded by its first question.
func (p *Process) Policy(name string, of Described, limit time.Duration) Policy {
	return ofProcess{p, name, of, limit}
}

// Close ends the process. Questions fail from then on.
func (p *Process) Close() {
	p.stop(errClosed)
	p.starting <- struct{}{} // a start that is under way ends, and no other begins
	<-p.starting
	p.wg.Wait()
}

type ofProcess struct {
	process *Process
	name    string
	of      Described
	limit   time.Duration
}

const (
	// hangTime is the time beyond its limit after which an answer is not awaited any more: the process itself says that an answer is late, and has not done so. For example, code in C
	// holds the lock of the interpreter. The process is ended then. Where a policy has answered in the process before, and so is loaded, the time is no longer than stuck times its limit: with a
	// limit of 2 s the process ends 6 s after the question. It is leastHang at least: with a limit of 0.1 s a busy machine may not run the process for 0.3 s.
	hangTime  = 20 * time.Second
	stuck     = 3 // as STUCK in _policies.py
	leastHang = 2 * time.Second
	// answerMax is the size of an answer: the numbers and states of the deployments of an application.
	answerMax = 64 << 20
)

// Ask implements [Policy].
func (o ofProcess) Ask(ctx context.Context, views []View) (map[string]Answer, error) {
	r, err := o.process.run(ctx)
	if err != nil {
		return nil, err
	}
	limit := o.limit
	most := limit + hangTime
	key := o.key()
	if _, loaded := r.loaded.Load(key); loaded {
		most = min(most, max(stuck*limit, leastHang))
	}
	asked, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("its process has not answered for %s, and is ended", most))
	defer cancel()
	a, err := r.ask(asked, question{Policy: o.name, Of: o.of, Limit: limit.Seconds(), Views: views})
	if asked.Err() != nil && ctx.Err() == nil {
		r.kill()
		o.process.gone(r)
	}
	if err != nil {
		return nil, err
	}
	if a.Error != "" {
		return nil, &Error{Text: a.Error, Traceback: a.Traceback}
	}
	out := make(map[string]Answer, len(a.Replicas))
	for name, n := range a.Replicas {
		out[name] = Answer{Replicas: n, State: a.States[name]}
		if err := check(out[name]); err != nil {
			return nil, err
		}
	}
	r.loaded.Store(key, true)
	return out, nil
}

// key names the policy in its process. Two deployments may have one class with other arguments: each makes an object of its own.
func (o ofProcess) key() string {
	return strings.Join([]string{o.name, o.of.Function, string(o.of.Kwargs), o.of.Entry}, "\x00")
}

// run gives the process that runs, which it starts if need be.
func (p *Process) run(ctx context.Context) (*running, error) {
	select {
	case p.starting <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-p.ctx.Done():
		return nil, errClosed
	}
	defer func() { <-p.starting }()
	if p.ctx.Err() != nil {
		return nil, errClosed
	}
	p.mu.Lock()
	r := p.running
	p.mu.Unlock()
	if r != nil {
		return r, nil
	}
	opening, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.ctx, func() { cancel(errClosed) })()
	env, err := p.set.Open(opening)
	if err != nil {
		return nil, err
	}
	if env.Release == nil {
		env.Release = func() {}
	}
	if p.ctx.Err() != nil {
		env.Release()
		return nil, errClosed
	}
	r, err = p.start(env)
	if err != nil {
		env.Release()
		return nil, err
	}
	p.mu.Lock()
	p.running = r
	p.mu.Unlock()
	p.wg.Go(func() {
		defer env.Release()
		stop := context.AfterFunc(p.ctx, r.kill)
		defer stop()
		r.serve()
		p.gone(r)
		r.end(p.ctx)
	})
	return r, nil
}

// gone has the next question start another process.
func (p *Process) gone(r *running) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == r {
		p.running = nil
	}
}

// running is one process.
type running struct {
	cmd       *exec.Cmd
	ended     chan error // the end of the process, once
	questions *os.File
	answers   *os.File
	out       *lines.Writer
	loaded    sync.Map // the keys of the policies that have answered

	write   sync.Mutex // of questions
	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan answer // nil when the process has ended
	why     error                  // the end, set before the channels are closed
	reaped  bool                   // another process may have its number
}

// question is a line to the process, and answer a line from it.
type question struct {
	ID     uint64    `json:"id"`
	Policy string    `json:"policy"`
	Of     Described `json:"of"`
	Limit  float64   `json:"limit"` // seconds
	Views  []View    `json:"views"`
	Load   bool      `json:"load,omitempty"` // the policy is loaded, and not called
}

type answer struct {
	ID        uint64                     `json:"id"`
	Replicas  map[string]float64         `json:"replicas,omitempty"`
	States    map[string]json.RawMessage `json:"states,omitempty"`
	Error     string                     `json:"error,omitempty"`
	Traceback string                     `json:"traceback,omitempty"`
}

func (p *Process) start(env Environment) (*running, error) {
	first, err := json.Marshal(map[string]any{"code": env.Code})
	if err != nil {
		return nil, err
	}
	theirQuestions, questions, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirQuestions.Close()
	answers, theirAnswers, err := os.Pipe()
	if err != nil {
		questions.Close()
		return nil, err
	}
	defer theirAnswers.Close()
	r := &running{questions: questions, answers: answers, out: lines.NewWriter(p.set.Line), waiting: map[uint64]chan answer{}, ended: make(chan error, 1)}
	r.cmd = exec.Command(env.Program, env.Args...)
	r.cmd.Dir, r.cmd.Env, r.cmd.Stdin, r.cmd.ExtraFiles = env.Dir, env.Env, theirQuestions, []*os.File{theirAnswers}
	r.cmd.Stdout, r.cmd.Stderr = r.out, r.out
	r.cmd.SysProcAttr = kernel.Child(syscall.SIGKILL) // a policy that blocks in C does not read the end of its questions when the node is killed
	r.cmd.WaitDelay = time.Second
	if err := r.begin(env.Limits); err != nil {
		questions.Close()
		answers.Close()
		return nil, fmt.Errorf("the process of autoscaling policies does not start: %w", err)
	}
	if err := r.line(first); err != nil {
		r.kill() // it has ended: serve says why
	}
	return r, nil
}

// begin starts the process within its limits. The kernel kills it when the thread that has started it ends, which need not be the end of this process (golang/go#27505): so the thread
// waits for the process.
func (r *running) begin(l spec.Limits) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := r.cmd.Start()
		if err == nil {
			err = limit(r.cmd.Process.Pid, l)
		}
		if err != nil && r.cmd.Process != nil {
			r.kill()
			r.cmd.Wait() //nolint:errcheck // reaped, whatever it says
		}
		if started <- err; err == nil {
			r.ended <- r.cmd.Wait()
		}
	}()
	return <-started
}

// limit sets the limits of a process that has just started.
func limit(pid int, l spec.Limits) error {
	set := func(resource int, most int64) error {
		if most <= 0 {
			return nil
		}
		return kernel.Limit(pid, resource, syscall.Rlimit{Cur: uint64(most), Max: uint64(most)})
	}
	return errors.Join(set(syscall.RLIMIT_DATA, l.Memory), set(syscall.RLIMIT_NOFILE, int64(l.OpenFiles)))
}

// line writes a line to the process. A process that reads none is not waited for.
func (r *running) line(text []byte) error {
	r.write.Lock()
	defer r.write.Unlock()
	r.questions.SetWriteDeadline(time.Now().Add(hangTime)) //nolint:errcheck // a pipe has deadlines
	_, err := r.questions.Write(append(bytes.Clone(text), '\n'))
	return err
}

func (r *running) ask(ctx context.Context, q question) (a answer, err error) {
	got := make(chan answer, 1)
	r.mu.Lock()
	if r.waiting == nil {
		err = r.why
		r.mu.Unlock()
		return a, err
	}
	r.last++
	id := r.last
	q.ID = id
	r.waiting[id] = got
	r.mu.Unlock()
	body, err := json.Marshal(q)
	if err != nil { // the process has done nothing wrong
		r.forget(id)
		return a, &Error{Text: "its question cannot be written: " + err.Error()}
	}
	if err := r.line(body); err != nil {
		r.kill()
	}
	select {
	case a, ok := <-got:
		if !ok {
			return a, r.why
		}
		return a, nil
	case <-ctx.Done():
		r.forget(id)
		return a, context.Cause(ctx)
	}
}

// forget takes no answer to a question any more.
func (r *running) forget(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, id)
}

// serve reads answers until the process has closed its end.
func (r *running) serve() {
	in := bufio.NewReaderSize(r.answers, 64<<10)
	for {
		line, err := readLine(in)
		var a answer
		if err == nil {
			err = json.Unmarshal(line, &a)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.out.Write([]byte("the answer of the process is not one: " + err.Error() + "\n")) //nolint:errcheck // never fails
			}
			return
		}
		r.mu.Lock()
		got := r.waiting[a.ID]
		delete(r.waiting, a.ID)
		r.mu.Unlock()
		if got != nil {
			got <- a
		}
	}
}

// end waits for the end of the process, and fails the questions that it has not answered.
func (r *running) end(ctx context.Context) {
	r.kill()
	err := <-r.ended
	r.kill() // processes that the user's code has started in the group
	r.mu.Lock()
	r.reaped = true
	r.mu.Unlock()
	r.questions.Close()
	r.answers.Close()
	r.out.End()
	why := errClosed
	if ctx.Err() == nil {
		why = &Error{Text: fmt.Sprintf("its process has ended (%v)%s", err, r.out.Said())}
		if r.out.Contains("No module named 'helve") {
			why = &Error{Text: fmt.Sprintf("%s does not have the Python package of Helve, which runs policies: install helve-serve there", r.cmd.Path)}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.why = why
	for _, got := range r.waiting {
		close(got)
	}
	r.waiting = nil
}

// kill ends the process and the processes that it has started.
func (r *running) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reaped {
		return
	}
	syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // there may be none
}

func readLine(in *bufio.Reader) (line []byte, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > answerMax {
			return nil, fmt.Errorf("it is larger than %d bytes", answerMax)
		}
		line = append(line, part...)
		if err == nil || err != bufio.ErrBufferFull {
			return line, err
		}
	}
}
