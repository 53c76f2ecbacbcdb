package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// message is one line on a control connection. An answer has no name and the id of its request. A request without an id is a notice, which has no
// answer. Descriptors travel with the first byte of their line, so that they are there when the line is complete:
//
//	{"do":"start","id":7,"files":3,"body":{"id":"hello-1","path":"/usr/bin/python3", ...}}   and three descriptors
//	{"id":7,"body":{"pid":4711}}
type message struct {
	Do    string          `json:"do,omitempty"`
	ID    uint64          `json:"id,omitempty"`
	Files int             `json:"files,omitempty"`
	Error *Failure        `json:"error,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
}

// Failure is an error of the other side.
type Failure struct {
	Text  string        `json:"text"`
	Errno syscall.Errno `json:"errno,omitempty"` // of the kernel; 0 if the error is another one
}

func (f *Failure) Error() string { return f.Text }

// Unwrap is the error of the kernel, nil for another one.
func (f *Failure) Unwrap() error {
	if f.Errno == 0 {
		return nil
	}
	return f.Errno
}

func failureOf(err error) *Failure {
	if err == nil {
		return nil
	}
	f := &Failure{Text: err.Error()}
	errors.As(err, &f.Errno)
	return f
}

// Conn is one end of a control connection, between the keeper and a node, or between the keeper and a command. Both ends ask and answer. Its
// methods may be called from any goroutine.
type Conn struct {
	nc     *net.UnixConn
	handle func(*Request)

	write sync.Mutex // one line at a time

	mu       sync.Mutex
	last     uint64 // the id of the last request
	waiting  map[uint64]chan answer
	err      error      // why the connection has ended
	rest     []byte     // received, and not a whole line
	received []*os.File // with lines that are not complete
	frozen   bool
	stopped  chan struct{} // closed when the present reader has stopped

	ended chan struct{} // closed when the connection has ended
}

type answer struct {
	body  json.RawMessage
	files []*os.File
	err   error
}

// lineMax is the longest line. The environment and arguments of a process are at most 6 MiB (execve(2)).
const lineMax = 32 << 20

// errGone is the error of requests whose connection has ended.
var errGone = errors.New("the control connection has ended")

// newConn makes an end of a connection, whose reader has not begun. handle is called for each request in the order of their lines, on the
// goroutine of the reader: a request that takes long goes on on another goroutine.
func newConn(nc *net.UnixConn, handle func(*Request)) *Conn {
	return &Conn{nc: nc, handle: handle, waiting: map[uint64]chan answer{}, stopped: make(chan struct{}), ended: make(chan struct{})}
}

// connOf is the connection on a descriptor, which is closed: the connection has one of its own.
func connOf(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "control")
	if f == nil {
		return nil, errors.New("not a descriptor")
	}
	defer f.Close()
	nc, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := nc.(*net.UnixConn)
	if !ok {
		nc.Close()
		return nil, errors.New("not a unix socket")
	}
	return u, nil
}

// Request is a request or a notice of the other end.
type Request struct {
	Do    string
	Body  json.RawMessage
	Files []*os.File // the handler's, which closes them

	conn *Conn
	id   uint64
}

// Decode reads the body, and answers with an error if that is malformed: then the result is false.
func (r *Request) Decode(to any) bool {
	if err := decode(r.Body, to); err != nil {
		r.Answer(nil, err)
		return false
	}
	return true
}

// Answer answers a request, once. The answer of a notice goes nowhere. The files stay the caller's.
func (r *Request) Answer(body any, err error, files ...*os.File) {
	closeFiles(r.Files)
	r.Files = nil
	if r.id == 0 {
		return
	}
	r.conn.send(message{ID: r.id, Error: failureOf(err)}, body, files) //nolint:errcheck // the other end is gone, or sees the end
}

// Tell sends a notice.
func (c *Conn) Tell(do string, body any, files ...*os.File) error {
	return c.send(message{Do: do}, body, files)
}

// Ask sends a request and waits for its answer. The files of the answer are the caller's.
func (c *Conn) Ask(ctx context.Context, do string, body any, files ...*os.File) (json.RawMessage, []*os.File, error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil, nil, c.err
	}
	c.last++
	id, got := c.last, make(chan answer, 1)
	c.waiting[id] = got
	c.mu.Unlock()
	forget := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, id)
	}
	if err := c.send(message{Do: do, ID: id}, body, files); err != nil {
		forget()
		return nil, nil, err
	}
	select {
	case a := <-got:
		return a.body, a.files, a.err
	case <-ctx.Done():
		forget()
		return nil, nil, context.Cause(ctx)
	}
}

func (c *Conn) send(m message, body any, files []*os.File) error {
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		m.Body = b
	}
	m.Files = len(files)
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			if fds[i], err = descriptor(f); err != nil {
				return err
			}
		}
		rights = syscall.UnixRights(fds...)
	}
	c.write.Lock()
	defer c.write.Unlock()
	for len(b) > 0 {
		n, _, err := c.nc.WriteMsgUnix(b, rights, nil)
		if err != nil {
			return fmt.Errorf("%w: %w", errGone, err)
		}
		b, rights = b[n:], nil
	}
	return nil
}

// descriptor is the number of a file. [os.File.Fd] would make the file blocking, and with it the sockets of another process that has them too.
func descriptor(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	if cerr := raw.Control(func(n uintptr) { fd = int(n) }); cerr != nil {
		return -1, cerr
	}
	return fd, nil
}

// serve reads the connection until it ends, and gives the reason.
func (c *Conn) serve() error {
	c.mu.Lock()
	stopped := c.stopped
	c.mu.Unlock()
	defer close(stopped)
	buffer, control := make([]byte, 16<<10), make([]byte, syscall.CmsgSpace(253*4)) // the kernel's limit of descriptors in a message
	for {
		err := c.lines()
		var n, controls int
		if err == nil {
			n, controls, _, _, err = c.nc.ReadMsgUnix(buffer, control)
		}
		if err == nil && n == 0 {
			err = errGone
		}
		if err != nil {
			return c.end(err)
		}
		files, err := filesIn(control[:controls])
		if err != nil {
			return c.end(err)
		}
		c.mu.Lock()
		c.rest, c.received = append(c.rest, buffer[:n]...), append(c.received, files...)
		tooLong := len(c.rest) > lineMax
		c.mu.Unlock()
		if tooLong {
			return c.end(errors.New("a line of the control connection is too long"))
		}
	}
}

// lines takes the lines that are complete.
func (c *Conn) lines() error {
	for {
		c.mu.Lock()
		end := bytes.IndexByte(c.rest, '\n')
		if end < 0 || c.frozen {
			c.mu.Unlock()
			return nil
		}
		var m message
		err := json.Unmarshal(c.rest[:end], &m)
		c.rest = append([]byte(nil), c.rest[end+1:]...)
		if err == nil && (m.Files < 0 || m.Files > len(c.received)) {
			err = errors.New("descriptors are missing")
		}
		if err != nil {
			c.mu.Unlock()
			return fmt.Errorf("a line of the control connection: %w", err)
		}
		files := c.received[:m.Files:m.Files]
		c.received = c.received[m.Files:]
		if m.Do != "" {
			c.mu.Unlock()
			c.handle(&Request{Do: m.Do, Body: m.Body, Files: files, conn: c, id: m.ID})
			continue
		}
		got := c.waiting[m.ID]
		delete(c.waiting, m.ID)
		c.mu.Unlock()
		if got == nil { // the wait has ended
			closeFiles(files)
			continue
		}
		a := answer{body: m.Body, files: files}
		if m.Error != nil {
			a.err = m.Error
		}
		got <- a
	}
}

// Close ends the connection.
func (c *Conn) Close() { c.nc.Close() }

// filesIn are the descriptors in a control message.
func filesIn(control []byte) (files []*os.File, err error) {
	if len(control) == 0 {
		return nil, nil
	}
	all, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	for i := range all {
		fds, err := syscall.ParseUnixRights(&all[i])
		if err != nil {
			continue // another kind
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// end ends the connection, and all requests that wait. A reader that was stopped ends nothing.
func (c *Conn) end(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen {
		return err
	}
	if c.err == nil {
		c.err = fmt.Errorf("%w: %w", errGone, err)
		close(c.ended)
	}
	for id, got := range c.waiting {
		got <- answer{err: c.err}
		delete(c.waiting, id)
	}
	closeFiles(c.received)
	c.received = nil
	c.nc.Close()
	return c.err
}

// stopReader has the reader hand over no request any more. What comes meanwhile stays in the socket, or in the bytes that are no whole line yet.
func (c *Conn) stopReader() {
	c.mu.Lock()
	c.frozen = true
	stopped := c.stopped
	c.mu.Unlock()
	c.nc.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // it has ended
	<-stopped
}

// resumeReader begins another reader after stopReader.
func (c *Conn) resumeReader() {
	c.nc.SetReadDeadline(time.Time{}) //nolint:errcheck // it has ended
	c.mu.Lock()
	c.frozen, c.stopped = false, make(chan struct{})
	c.mu.Unlock()
	go c.serve() //nolint:errcheck // as before
}
