package durable_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/kernel"
)

// clientEnv is set in processes that are clients.
const clientEnv = "LEDGER_CLIENT"

// The numbers of the application in testdata/ledger.py, and of the callers of each client. Six callers share four slots, so that calls queue.
const (
	replicas = 2
	slots    = 2
	callers  = 2
)

// clientPatience is the time after which a call is said to hang.
const clientPatience = time.Minute

// load makes calls until ctx ends: some callers, each with one call under way. Every call has an id of its own, is made once and never repeated, and leaves a line in
// a file: answered, or failed with a kind and a text.
func load(ctx context.Context, dir, name string, call func(ctx context.Context, id string) error, kind func(error) string) {
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id, begin := fmt.Sprintf("%s-%d-%d", name, c, i), time.Now()
				err := func() error {
					ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clientPatience)
					defer cancel()
					return call(ctx, id)
				}()
				line := fmt.Sprintf("%s %d %d", id, begin.UnixNano(), time.Now().UnixNano())
				if err == nil {
					note(dir, "answered."+name, line)
					continue
				}
				note(dir, "failed."+name, line+" "+kind(err)+" "+strings.Join(strings.Fields(err.Error()), " "))
				select { // a node that is away refuses at once, and would be asked without an end
				case <-ctx.Done():
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	wg.Wait()
}

// note appends a line to a file. A failure of the file system ends the program: its ledger would be wrong.
func note(dir, file, line string) {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(line + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		panic(err)
	}
}

// httpLoad is the load of a client of HTTP: connections are kept, and no request is sent twice.
func (m *machine) httpLoad(ctx context.Context, name string) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	defer client.CloseIdleConnections()
	load(ctx, m.ledger, name, func(ctx context.Context, id string) error {
		_, err := m.post(ctx, client, id)
		return err
	}, httpKind)
}

// statusError is an answer that is not 200.
type statusError struct {
	code int
	body string
}

func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.code, e.body) }

// post sends a text to the ingress of the ledger, and gives the answer.
func (m *machine) post(ctx context.Context, client *http.Client, text string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+m.http+"/ledger", strings.NewReader(text))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "text/plain")
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = &statusError{resp.StatusCode, string(b)}
	}
	return string(b), err
}

// httpKind is the word for a failed request.
func httpKind(err error) string {
	var status *statusError
	var timeout net.Error
	switch {
	case errors.As(err, &status):
		return strconv.Itoa(status.code)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "reset"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "late"
	}
	return "other"
}

// client is a client in a process of its own, which makes calls all the time.
type client struct {
	m    *machine
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	said *fixture.Output
	done chan struct{} // closed when the process has ended
}

// startClient starts a program as a client of the machine. The program takes requests as lines of JSON, and answers each by one.
func (m *machine) startClient(name, path string, args ...string) *client {
	m.t.Helper()
	c := &client{m: m, name: name, cmd: exec.Command(path, args...), said: fixture.NewOutput(), done: make(chan struct{})}
	c.cmd.Env = m.environment("HELVE_NODE="+m.state, clientEnv+"="+name, "PYTHONDONTWRITEBYTECODE=1")
	c.cmd.Dir, c.cmd.Stderr, c.cmd.WaitDelay = m.root, c.said, time.Second
	c.cmd.SysProcAttr = kernel.Child(syscall.SIGKILL) // a test that panics runs no cleanup
	in, err := c.cmd.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		m.t.Fatal(err)
	}
	c.cmd.Stdout = w
	if err := c.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	w.Close()
	c.in, c.out = in, bufio.NewReader(r)
	go func() {
		defer close(c.done)
		c.cmd.Wait() //nolint:errcheck // the tests look at ProcessState
	}()
	m.t.Cleanup(func() { c.kill(); r.Close() })
	return c
}

// startPython starts the client in Python.
func (m *machine) startPython(name string) *client {
	m.t.Helper()
	return m.startClient(name, os.Getenv("HELVE_PYTHON"), filepath.Join(fixture.Root(m.t), "internal", "e2e", "durable", "testdata", "client.py"), name, m.ledger, strconv.Itoa(callers))
}

// startGo starts the client in Go, which is this executable again.
func (m *machine) startGo(name string) *client {
	m.t.Helper()
	return m.startClient(name, os.Args[0], m.ledger)
}

// request has a client do an operation.
type request struct {
	Op      string `json:"op"`
	App     string `json:"app,omitempty"`
	Version string `json:"version,omitempty"`
}

// do sends a request and waits for its answer. The end of the client is an error too.
func (c *client) do(r request) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		return err
	}
	answer, err := c.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the client has ended: %w", err)
	}
	var reply struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(answer, &reply); err != nil {
		return fmt.Errorf("%q: %w", answer, err)
	}
	if reply.Error != "" {
		return errors.New(reply.Error)
	}
	return nil
}

// must is do, for a request that nothing disturbs.
func (c *client) must(r request) {
	c.m.t.Helper()
	if err := c.do(r); err != nil {
		c.m.t.Fatalf("%s, %+v: %v\n%s\n%s", c.name, r, err, c.said.Text(), c.m.report())
	}
}

// kill ends the client as kill -9 does.
func (c *client) kill() {
	c.cmd.Process.Kill() //nolint:errcheck // it may have ended
	<-c.done
}

// end has the client finish its calls and end in order.
func (c *client) end() {
	c.m.t.Helper()
	c.in.Close()
	select {
	case <-c.done:
		if s := c.cmd.ProcessState; !s.Success() {
			c.m.t.Errorf("%s ended with %s:\n%s", c.name, s, c.said.Text())
		}
	case <-time.After(patience):
		c.m.t.Errorf("%s does not end:\n%s", c.name, c.said.Text())
	}
}

// goClient is the client in Go: its calls go through handles of helve.Connect.
func goClient() error {
	name, dir := os.Getenv(clientEnv), os.Args[1]
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		wg.Go(func() { load(ctx, dir, name, connect(ctx), goKind) })
		fmt.Println("{}")
	}
	return lines.Err()
}

// python fails the test if there is no interpreter for its clients.
func python(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(os.Getenv("HELVE_PYTHON")); err != nil {
		t.Fatalf("HELVE_PYTHON: %v", err)
	}
}
