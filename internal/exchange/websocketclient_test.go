package exchange

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/internal/call"
)

// part is a part as a test sends or gets it.
type part struct {
	kind Kind
	data string
}

func (p part) String() string {
	if p.kind == Close {
		code, reason, _ := ParseClose([]byte(p.data))
		return fmt.Sprintf("close %d %s", code, reason)
	}
	return fmt.Sprintf("%d %q", p.kind, p.data)
}

// fakeReplica is a Stream whose replica is the test.
type fakeReplica struct {
	parts  chan part     // from the replica
	got    chan part     // by the replica
	credit chan struct{} // a token for each message part that the replica takes; closed: no limit
	over   chan struct{} // the exchange has ended
	err    error         // with which; io.EOF: without one
}

func newFakeReplica() *fakeReplica {
	return &fakeReplica{make(chan part, 64), make(chan part, 1024), make(chan struct{}, 1024), make(chan struct{}), nil}
}

func (f *fakeReplica) Send(ctx context.Context, kind Kind, data []byte) error {
	if kind != Close {
		select {
		case <-f.credit:
		case <-ctx.Done():
			return call.FromContext(ctx)
		case <-f.over:
			return io.ErrClosedPipe
		}
	}
	select {
	case <-f.over:
		return io.ErrClosedPipe
	case f.got <- part{kind, string(data)}:
		return nil
	}
}

func (f *fakeReplica) Receive(ctx context.Context) (Kind, []byte, bool, error) {
	var p part
	select {
	case p = <-f.parts:
	default:
		select {
		case p = <-f.parts:
		case <-ctx.Done():
			return 0, nil, false, call.FromContext(ctx)
		case <-f.over:
			select {
			case p = <-f.parts:
			default:
				return 0, nil, false, f.err
			}
		}
	}
	over := false
	select {
	case <-f.over:
		over = true
	default:
	}
	return p.kind, []byte(p.data), over || len(f.parts) > 0, nil
}

func (f *fakeReplica) Wanted(context.Context) error { return nil }

// end ends the exchange.
func (f *fakeReplica) end(err error) {
	f.err = err
	close(f.over)
}

// link is a WebSocket under test, with a client on one side and a replica on the other.
type link struct {
	t       *testing.T
	replica *fakeReplica
	conn    net.Conn // the client's
	r       *bufio.Reader
	cancel  context.CancelCauseFunc // of the request
	result  chan *call.Error        // of ServeWebSocket
}

// pipeListener is a listener with one connection.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// dial starts a server, and a client that has sent nothing. It must be called in a bubble of synctest.
func dial(t *testing.T, limits WebSocketLimits) *link {
	t.Helper()
	near, far := net.Pipe()
	l := &link{t: t, replica: newFakeReplica(), conn: near, r: bufio.NewReader(near), result: make(chan *call.Error, 1)}
	close(l.replica.credit)
	ctx, cancel := context.WithCancelCause(context.Background())
	l.cancel = cancel
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !IsWebSocket(r) {
				io.WriteString(w, "ordinary")
			} else if !RefuseHandshake(w, r) {
				e := ServeWebSocket(w, r, l.replica, limits)
				l.result <- e
				if e != nil {
					http.Error(w, e.Message, http.StatusInternalServerError)
				}
			}
		}),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    log.New(io.Discard, "", 0), // the error above comes too late if the answer has begun
	}
	listener := &pipeListener{make(chan net.Conn, 1), make(chan struct{})}
	listener.conns <- far
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(listener)
	}()
	t.Cleanup(func() {
		near.Close()
		close(listener.done)
		<-served
		server.Close()
		cancel(nil)
	})
	return l
}

const handshake = "GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// ask sends the head of a request and reads the answer.
func (l *link) ask(head string) *http.Response {
	l.t.Helper()
	l.send([]byte(head))
	return l.answer()
}

func (l *link) send(b []byte) {
	l.t.Helper()
	if _, err := l.conn.Write(b); err != nil {
		l.t.Error(err)
	}
}

func (l *link) answer() *http.Response {
	l.t.Helper()
	resp, err := http.ReadResponse(l.r, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return resp
}

// fields encodes names and values.
func fields(all ...string) string {
	var b []byte
	for i := 0; i < len(all); i += 2 {
		b = AppendField(b, 0, all[i], all[i+1])
	}
	return string(b)
}

// head encodes a head.
func head(status int, all ...string) string {
	return string(binary.LittleEndian.AppendUint16(nil, uint16(status))) + fields(all...)
}

func closePart(code int, reason string) part {
	return part{Close, string(AppendClose(nil, code, reason))}
}

// open opens a WebSocket.
func open(t *testing.T, limits WebSocketLimits) *link {
	t.Helper()
	l := dial(t, limits)
	l.replica.parts <- part{Accept, ""}
	if resp := l.ask(handshake + "\r\n"); resp.StatusCode != 101 || resp.Header.Get("Sec-Websocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatal(resp)
	}
	synctest.Wait() // net/http cancels the request of a client that leaves before it has given the connection away
	return l
}

// The opcodes of frames; final is the bit of the last frame of a message.
const (
	opMore, opText, opBinary, opClose, opPing, opPong = 0, 1, 2, 8, 9, 10
	final                                             = 0x80
)

// frame is a frame of a client. Its mask is zero, so that its payload is as it is.
func frame(op byte, payload string) []byte {
	b := []byte{op}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

func closeFrame(code uint16, reason string) []byte {
	return frame(final|opClose, string(binary.BigEndian.AppendUint16(nil, code))+reason)
}

// next reads a frame of the server.
func (l *link) next() (op byte, payload string, err error) {
	var h [2]byte
	if _, err := io.ReadFull(l.r, h[:]); err != nil {
		return 0, "", err
	}
	n := uint64(h[1])
	switch n {
	case 126:
		var b [2]byte
		io.ReadFull(l.r, b[:])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		io.ReadFull(l.r, b[:])
		n = binary.BigEndian.Uint64(b[:])
	}
	p := make([]byte, n)
	_, err = io.ReadFull(l.r, p)
	return h[0], string(p), err
}

// wantFrame reads a frame that the client must get.
func (l *link) wantFrame(op byte, payload string) {
	l.t.Helper()
	if gotOp, got, err := l.next(); err != nil || gotOp != op || got != payload {
		l.t.Fatalf("the client gets a frame %#x %.80q, %v; it should be %#x %.80q", gotOp, got, err, op, payload)
	}
}

// wantClose reads a close frame that the client must get; code 0 stands for none.
func (l *link) wantClose(code uint16, reason string) {
	l.t.Helper()
	payload := reason
	if code != 0 {
		payload = string(binary.BigEndian.AppendUint16(nil, code)) + reason
	}
	l.wantFrame(final|opClose, payload)
}

// wantEnd reads the end of the connection.
func (l *link) wantEnd() {
	l.t.Helper()
	if op, payload, err := l.next(); err == nil {
		l.t.Errorf("the client gets another frame %#x %q", op, payload)
	}
}

// wantParts takes parts that the replica must get.
func (l *link) wantParts(all ...part) {
	l.t.Helper()
	for _, want := range all {
		if got := <-l.replica.got; got != want {
			l.t.Fatalf("the replica gets %.100s; it should be %.100s", got, want)
		}
	}
}

// wantNoPart holds that the replica gets no part now.
func (l *link) wantNoPart() {
	l.t.Helper()
	synctest.Wait()
	select {
	case p := <-l.replica.got:
		l.t.Fatalf("the replica gets %.100s", p)
	default:
	}
}

// wantResult takes the result of ServeWebSocket. The text is a part of its error's, "" for none.
func (l *link) wantResult(text string) {
	l.t.Helper()
	e := <-l.result
	if text == "" && e != nil || text != "" && (e == nil || !strings.Contains(e.Error(), text)) {
		l.t.Errorf("the result is %v; it should have %q", e, text)
	}
}

// closed ends a link whose client has closed it.
func (l *link) closed(code int, reason string) {
	l.t.Helper()
	l.wantParts(closePart(code, reason))
	l.replica.end(io.EOF)
	l.wantResult("")
}
