package exchange

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/helve-serve/helve/helvetype"
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

// TestWebSocketHandshake has requests that the node answers alone, and such that are no WebSocket.
func TestWebSocketHandshake(t *testing.T) {
	t.Parallel()
	without := func(line string) string {
		if !strings.Contains(handshake, line) {
			t.Fatal(line)
		}
		return strings.Replace(handshake, line, "", 1)
	}
	const version, key, connection = "Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "Connection: keep-alive, Upgrade\r\n"
	for _, c := range []struct {
		name, head string
		status     int
		header     string // of the answer: name: value
		body       string
	}{
		{"no upgrade", "GET / HTTP/1.1\r\nHost: x\r\n", 200, "", "ordinary"},
		{"upgrade to another protocol", strings.Replace(handshake, "websocket", "h2c", 1), 200, "", "ordinary"},
		{"upgrade without connection", without(connection), 200, "", "ordinary"},
		{"no key", without(key), 400, "", "Sec-WebSocket-Key"},
		{"two keys", handshake + key, 400, "", "Sec-WebSocket-Key"},
		{"short key", without(key) + "Sec-WebSocket-Key: YWJj\r\n", 400, "", "Sec-WebSocket-Key"},
		{"key that is not base64", without(key) + "Sec-WebSocket-Key: ????????????????????????\r\n", 400, "", "Sec-WebSocket-Key"},
		{"no version", without(version), 426, "Sec-Websocket-Version: 13", "must be 13"},
		{"old version", without(version) + "Sec-WebSocket-Version: 8\r\n", 426, "Sec-Websocket-Version: 13", "must be 13"},
		{"another method", "POST" + handshake[3:], 405, "Allow: GET", "GET"},
		{"a body", handshake + "Content-Length: 3\r\n", 400, "", "no body"},
		{"a chunked body", handshake + "Transfer-Encoding: chunked\r\n", 400, "", "no body"},
		{"HTTP/1.0", strings.Replace(handshake, "HTTP/1.1", "HTTP/1.0", 1), 426, "Upgrade: websocket", "HTTP/1.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := dial(t, WebSocketLimits{})
				resp := l.ask(c.head + "\r\n")
				body, _ := io.ReadAll(resp.Body)
				name, value, _ := strings.Cut(c.header, ": ")
				if resp.StatusCode != c.status || !strings.Contains(string(body), c.body) || name != "" && resp.Header.Get(name) != value {
					t.Errorf("got %v\n%s", resp, body)
				}
			})
		})
	}
	t.Run("HTTP/2", func(t *testing.T) {
		t.Parallel()
		r := httptest.NewRequest(http.MethodConnect, "/chat", nil)
		r.ProtoMajor, r.ProtoMinor, r.Header[":protocol"] = 2, 0, []string{"websocket"}
		w := httptest.NewRecorder()
		if !IsWebSocket(r) || !RefuseHandshake(w, r) || w.Code != http.StatusNotImplemented || !strings.Contains(w.Body.String(), "HTTP/1.1") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// TestWebSocketAnswer has the answers of a replica to a handshake.
func TestWebSocketAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		parts []part
		end   error  // of the exchange, behind the parts
		want  string // status, header and body
		err   string
	}{
		{"accept", []part{{Accept, ""}}, nil, "101 {Connection: Upgrade, Sec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=, Upgrade: websocket} ", ""},
		{"accept with a subprotocol and headers", []part{{Accept, fields("sec-websocket-protocol", "chat.v2", "set-cookie", "a=1", "set-cookie", "b=2", "sec-websocket-accept", "mine", "connection", "close", "content-length", "9")}}, nil,
			"101 {Connection: Upgrade, Sec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=, Sec-Websocket-Protocol: chat.v2, Set-Cookie: a=1, Set-Cookie: b=2, Upgrade: websocket} ", ""},
		{"close before accept", []part{closePart(1008, "no")}, io.EOF, "403 {Content-Length: 10, Content-Type: text/plain; charset=utf-8, X-Content-Type-Options: nosniff} Forbidden\n", ""},
		{"denial", []part{{Head, head(401, "www-authenticate", "Basic", "content-type", "text/x")}, {Body, "who "}, {Body, "are you"}}, io.EOF, "401 {Content-Length: 11, Content-Type: text/x, Www-Authenticate: Basic} who are you", ""},
		{"denial without a body", []part{{Head, head(404)}}, io.EOF, "404 {Content-Length: 0} ", ""},
		{"early hints", []part{{Inform, head(103, "link", "</a>")}, {Head, head(404)}}, io.EOF, "103 {Link: </a>} 404 {Content-Length: 0} ", ""},
		{"neither", nil, io.EOF, "500", "without accepting or refusing"},
		{"failure", nil, call.NewError(helvetype.ReasonUser, "ouch"), "500", "ouch"},
		{"failure after a denial's head", []part{{Head, head(200)}}, call.NewError(helvetype.ReasonUser, "ouch"), "200", "ouch"},
		{"message before accept", []part{{Text, "x"}}, nil, "500", "kind 41 before"},
		{"odd fields", []part{{Accept, "a\x00b\x00c"}}, nil, "500", "malformed accept"},
		{"bad head", []part{{Head, "x"}}, nil, "500", "malformed head"},
		{"bad early hints", []part{{Inform, head(101)}}, nil, "500", "malformed informational head"},
		{"message in a denial", []part{{Head, head(200)}, {Text, "x"}}, nil, "200", "kind 41 in an answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := dial(t, WebSocketLimits{})
				for _, p := range c.parts {
					l.replica.parts <- p
				}
				if c.end != nil {
					l.replica.end(c.end)
				}
				var b strings.Builder
				resp := l.ask(handshake + "\r\n")
				for ; resp.StatusCode < 200; resp = l.answer() {
					describe(&b, resp)
					if resp.StatusCode == 101 {
						break
					}
				}
				if resp.StatusCode != 101 {
					describe(&b, resp)
				}
				if !strings.HasPrefix(b.String(), c.want) {
					t.Errorf("got  %s\nwant %s", b.String(), c.want)
				}
				if resp.StatusCode == 101 {
					l.send(frame(final|opClose, ""))
					l.wantClose(0, "")
					l.closed(1005, "")
				} else {
					l.wantResult(c.err)
				}
			})
		})
	}
	t.Run("the client leaves before", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := dial(t, WebSocketLimits{})
			l.send([]byte(handshake + "\r\n"))
			synctest.Wait()
			l.conn.Close()
			l.wantResult("cancelled")
		})
	})
}

// describe writes status, header and body of an answer.
func describe(b *strings.Builder, resp *http.Response) {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
		for _, value := range resp.Header[name] {
			if name != "Date" {
				lines = append(lines, name+": "+value)
			}
		}
	}
	fmt.Fprintf(b, "%d {%s} ", resp.StatusCode, strings.Join(lines, ", "))
	if resp.StatusCode >= 200 {
		io.Copy(b, resp.Body)
	}
}

// TestWebSocketMessages has messages in both directions.
func TestWebSocketMessages(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789abcdef", 5<<10) // 80 KiB
	const size = sentPiece
	for _, c := range []struct {
		name string
		run  func(l *link)
	}{
		{"echo", func(l *link) {
			l.send(frame(final|opText, "hällo"))
			l.wantParts(part{Text, "hällo"})
			l.replica.parts <- part{Text, "hällo"}
			l.wantFrame(final|opText, "hällo")
			l.send(frame(final|opBinary, "\xff\x00"))
			l.wantParts(part{Binary, "\xff\x00"})
			l.replica.parts <- part{Binary, "\xff\x00"}
			l.wantFrame(final|opBinary, "\xff\x00")
		}},
		{"empty messages", func(l *link) {
			l.send(frame(final|opText, ""))
			l.send(frame(final|opBinary, ""))
			l.wantParts(part{Text, ""}, part{Binary, ""})
			l.replica.parts <- part{Text, ""}
			l.replica.parts <- part{Binary, ""}
			l.wantFrame(final|opText, "")
			l.wantFrame(final|opBinary, "")
		}},
		{"fragments of a client", func(l *link) {
			l.send(frame(opText, "a\xe2"))
			l.send(frame(opMore, "\x82"))
			l.send(frame(opMore, ""))
			l.send(frame(final|opMore, "\xacb"))
			l.wantParts(part{Text, "a€b"})
		}},
		{"ping between fragments", func(l *link) {
			l.send(frame(opBinary, "a"))
			l.send(frame(final|opPing, "are you there?"))
			l.wantFrame(final|opPong, "are you there?")
			l.send(frame(final|opPong, "unasked"))
			l.send(frame(final|opMore, "b"))
			l.wantParts(part{Binary, "ab"})
		}},
		{"long text of a client", func(l *link) {
			l.send(frame(final|opText, long))
			l.wantParts(part{TextPiece, long[:size]}, part{TextPiece, long[size : 2*size]}, part{Text, long[2*size:]})
		}},
		{"long bytes of a client", func(l *link) {
			l.send(frame(final|opBinary, long))
			l.wantParts(part{Piece, long[:size]}, part{Piece, long[size : 2*size]}, part{Binary, long[2*size:]})
		}},
		{"a character in two pieces", func(l *link) {
			text := long[:size-1] + "€" + long[:10]
			l.send(frame(final|opText, text))
			l.wantParts(part{TextPiece, text[:size]}, part{Text, text[size:]})
		}},
		{"a message of the size of a piece", func(l *link) {
			l.send(frame(final|opBinary, long[:size]))
			l.wantParts(part{Piece, long[:size]}, part{Binary, ""})
		}},
		{"pieces of a replica", func(l *link) {
			l.replica.parts <- part{TextPiece, "a\xe2\x82"}
			l.replica.parts <- part{TextPiece, "\xac"}
			l.replica.parts <- part{Text, "b"}
			l.replica.parts <- part{Piece, "c"}
			l.replica.parts <- part{Binary, ""}
			l.wantFrame(opText, "a\xe2\x82")
			l.wantFrame(opMore, "\xac")
			l.wantFrame(opMore, "b")
			l.wantFrame(final|opMore, "")
			l.wantFrame(opBinary, "c")
			l.wantFrame(opMore, "")
			l.wantFrame(final|opMore, "")
		}},
		{"long message of a replica", func(l *link) {
			l.replica.parts <- part{Binary, long}
			l.wantFrame(final|opBinary, long)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := open(t, WebSocketLimits{})
				c.run(l)
				l.send(closeFrame(1000, "bye"))
				l.wantClose(1000, "bye")
				l.wantEnd()
				l.closed(1000, "bye")
			})
		})
	}
	t.Run("frames that come with the handshake", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := dial(t, WebSocketLimits{})
			l.replica.parts <- part{Accept, ""}
			go l.send(append([]byte(handshake+"\r\n"), frame(final|opText, long[:3000])...))
			if resp := l.answer(); resp.StatusCode != 101 {
				t.Fatal(resp)
			}
			l.wantParts(part{Text, long[:3000]})
			l.send(closeFrame(1000, ""))
			l.wantClose(1000, "")
			l.closed(1000, "")
		})
	})
}

// TestWebSocketClientEnd has the ends of a connection by the client, and its mistakes.
func TestWebSocketClientEnd(t *testing.T) {
	t.Parallel()
	tooMuch := strings.Repeat("x", 1001)
	for _, c := range []struct {
		name   string
		frames []byte
		gets   []byte // the payload of the close frame; nil for none
		code   int    // for the replica
		reason string
	}{
		{"normal", closeFrame(1000, ""), []byte("\x03\xe8"), 1000, ""},
		{"going away", closeFrame(1001, "tab closed"), []byte("\x03\xe9tab closed"), 1001, "tab closed"},
		{"library's code", closeFrame(3000, "x"), []byte("\x0b\xb8x"), 3000, "x"},
		{"application's code", closeFrame(4999, strings.Repeat("r", 123)), []byte("\x13\x87" + strings.Repeat("r", 123)), 4999, strings.Repeat("r", 123)},
		{"no code", frame(final|opClose, ""), []byte{}, 1005, ""},
		{"reason that is not UTF-8", closeFrame(1000, "\xff"), []byte("\x03\xe8\xff"), 1000, "\uFFFD"},
		{"code that frames must not have", closeFrame(1005, ""), []byte("\x03\xea"), 1002, "protocol error"},
		{"code below all", closeFrame(999, ""), []byte("\x03\xea"), 1002, "protocol error"},
		{"code of one byte", frame(final|opClose, "x"), []byte("\x03\xea"), 1002, "protocol error"},
		{"lost", nil, nil, 1006, ""},
		{"lost in a frame", frame(final|opText, "hello")[:8], nil, 1006, ""},
		{"lost in a message", frame(opText, "hello"), nil, 1006, ""},
		{"text that is not UTF-8", frame(final|opText, "a\xff"), []byte("\x03\xef"), 1007, "a text message that is not UTF-8"},
		{"text that ends in a character", frame(final|opText, "a\xe2\x82"), []byte("\x03\xef"), 1007, "a text message that is not UTF-8"},
		{"surrogate", frame(final|opText, "\xed\xa0\x80"), []byte("\x03\xef"), 1007, "a text message that is not UTF-8"},
		{"too big", frame(final|opText, tooMuch), []byte("\x03\xf1"), 1009, "message too big"},
		{"too big in fragments", append(frame(opBinary, tooMuch[:900]), frame(opMore, tooMuch)...), []byte("\x03\xf1"), 1009, "message too big"},
		{"unmasked frame", []byte{final | opText, 1, 'x'}, []byte("\x03\xea"), 1002, "protocol error"},
		{"reserved bit", frame(final|0x40|opText, "x"), []byte("\x03\xea"), 1002, "protocol error"},
		{"unknown opcode", frame(final|3, "x"), []byte("\x03\xea"), 1002, "protocol error"},
		{"long ping", frame(final|opPing, tooMuch), []byte("\x03\xea"), 1002, "protocol error"},
		{"ping in fragments", frame(opPing, ""), []byte("\x03\xea"), 1002, "protocol error"},
		{"continuation of nothing", frame(final|opMore, "x"), []byte("\x03\xea"), 1002, "protocol error"},
		{"message in a message", append(frame(opText, "x"), frame(final|opText, "y")...), []byte("\x03\xea"), 1002, "protocol error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := open(t, WebSocketLimits{Message: 1000})
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					l.conn.Write(c.frames) // the server need not read all of it
					if c.gets == nil {
						l.conn.Close()
					}
				}()
				if c.gets != nil {
					op, payload, err := l.next()
					if err != nil || op != final|opClose || !bytes.HasPrefix([]byte(payload), c.gets) || len(c.gets) == 0 && payload != "" {
						t.Errorf("the client gets %#x %q, %v", op, payload, err)
					}
				}
				for p := range l.replica.got { // the parts of a message that has failed go before
					if p.kind == Close {
						if want := closePart(c.code, c.reason); p != want {
							t.Errorf("the replica gets %v, it should be %v", p, want)
						}
						break
					}
				}
				l.replica.end(io.EOF)
				l.wantResult("")
				l.wantEnd()
				l.conn.Close()
				<-sent
			})
		})
	}
}

// TestWebSocketReplicaEnd has the ends of a connection by the replica, and its mistakes.
func TestWebSocketReplicaEnd(t *testing.T) {
	t.Parallel()
	public := &call.Error{Code: helvetype.CodeUnknown, Reason: helvetype.ReasonUser, Message: "secret", Public: "try another room"}
	for _, c := range []struct {
		name   string
		parts  []part
		end    error // of the exchange, behind the parts
		code   uint16
		reason string
		err    string // of ServeWebSocket
	}{
		{"normal", []part{closePart(1000, "")}, nil, 1000, "", ""},
		{"going away", []part{closePart(1001, "bye")}, nil, 1001, "bye", ""},
		{"library's code", []part{closePart(3000, "x")}, nil, 3000, "x", ""},
		{"application's code", []part{closePart(4999, "x")}, nil, 4999, "x", ""},
		{"no code", []part{closePart(1005, "")}, nil, 0, "", ""},
		{"long reason", []part{closePart(1000, strings.Repeat("€", 50))}, nil, 1000, strings.Repeat("€", 41), ""},
		{"reason that is not UTF-8", []part{closePart(1000, "\xff")}, nil, 1000, "\uFFFD", ""},
		{"in a message", []part{{Piece, "x"}, closePart(1000, "")}, nil, 1000, "", ""},
		{"end without a close", nil, io.EOF, codeAway, "going away", ""},
		{"exception", nil, call.NewError(helvetype.ReasonUser, "secret"), 1011, "internal error", "secret"},
		{"exception with a public text", nil, public, 1011, "try another room", "secret"},
		{"replica died", nil, call.NewError(helvetype.ReasonReplicaDied, "killed"), 1012, "the replica has ended", "killed"},
		{"deployment deleted", nil, call.NewError(helvetype.ReasonDeploymentUnavailable, "deleted"), 1001, "going away", "deleted"},
		{"deadline", nil, call.NewError(helvetype.ReasonDeadline, "late"), 1011, "deadline", "late"},
		{"code that frames must not have", []part{closePart(1006, "")}, nil, 1011, "internal error", "code 1006"},
		{"code that nobody has", []part{closePart(2999, "")}, nil, 1011, "internal error", "code 2999"},
		{"close without a code", []part{{Close, "x"}}, nil, 1011, "internal error", "code 0"},
		{"accept twice", []part{{Accept, ""}}, nil, 1011, "internal error", "kind 40"},
		{"text that is not UTF-8", []part{{Text, "\xff"}}, nil, 1011, "internal error", "not UTF-8"},
		{"message of two types", []part{{Piece, "x"}, {Text, "y"}}, nil, 1011, "internal error", "text and binary"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := open(t, WebSocketLimits{})
				for _, p := range c.parts {
					l.replica.parts <- p
				}
				if c.end != nil {
					l.replica.end(c.end)
				}
				var op byte
				var got string
				for op != final|opClose {
					var err error
					if op, got, err = l.next(); err != nil {
						t.Fatal(err)
					}
				}
				want := c.reason
				if c.code != 0 {
					want = string(binary.BigEndian.AppendUint16(nil, c.code)) + c.reason
				}
				if got != want {
					t.Errorf("the client gets %q, it should be %q", got, want)
				}
				l.send(frame(final|opText, "too late"))
				l.send(frame(final|opClose, got))
				l.wantEnd()
				if c.err == "" && c.end == nil {
					code := int(c.code)
					if code == 0 {
						code = 1005
					}
					p := <-l.replica.got
					if p.kind == Text { // if the client's goroutine has read it
						p = <-l.replica.got
					}
					if got, _, _ := ParseClose([]byte(p.data)); p.kind != Close || got != code {
						t.Errorf("the replica gets %v, it should be a close with %d", p, code)
					}
					l.replica.end(io.EOF)
				}
				l.wantResult(c.err)
			})
		})
	}
	t.Run("the client answers with another code", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := open(t, WebSocketLimits{})
			l.replica.parts <- closePart(1000, "")
			l.wantClose(1000, "")
			l.send(closeFrame(4000, "mine"))
			p := <-l.replica.got
			if code, _, _ := ParseClose([]byte(p.data)); p.kind != Close || code != 4000 {
				t.Error(p)
			}
			l.replica.end(io.EOF)
			l.wantResult("")
		})
	})
	t.Run("the client does not answer", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := open(t, WebSocketLimits{})
			l.replica.parts <- closePart(1000, "")
			l.wantClose(1000, "")
			l.wantEnd() // after some seconds
			if p := <-l.replica.got; p.kind != Close || !strings.HasPrefix(p.String(), "close 1006") {
				t.Error(p)
			}
			l.replica.end(io.EOF)
			l.wantResult("")
		})
	})
	t.Run("while a message of the client waits for credit", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := open(t, WebSocketLimits{})
			l.replica.credit = make(chan struct{})
			l.send(frame(final|opText, "x"))
			synctest.Wait()
			l.replica.parts <- closePart(1000, "")
			l.wantClose(1000, "")
			l.send(closeFrame(1000, ""))
			l.wantParts(closePart(1000, ""))
			l.replica.end(io.EOF)
			l.wantResult("")
		})
	})
}

// TestWebSocketTime has limits of time, and the end of the request's context.
func TestWebSocketTime(t *testing.T) {
	t.Parallel()
	run := func(name string, limits WebSocketLimits, f func(t *testing.T, l *link)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { f(t, open(t, limits)) })
		})
	}
	run("the application ends after the client", WebSocketLimits{}, func(t *testing.T, l *link) {
		l.conn.Close()
		l.wantParts(closePart(1006, ""))
		l.replica.parts <- part{Text, "nobody reads this"}
		time.Sleep(29 * time.Second)
		l.replica.end(io.EOF)
		l.wantResult("")
	})
	run("the application does not end", WebSocketLimits{}, func(t *testing.T, l *link) {
		begun := time.Now()
		l.conn.Close()
		l.wantResult("has not ended in the time")
		if d := time.Since(begun); d != 30*time.Second {
			t.Error("it had", d)
		}
	})
	run("the application does not end after its close", WebSocketLimits{Grace: time.Minute}, func(t *testing.T, l *link) {
		l.replica.parts <- closePart(1000, "")
		l.wantClose(1000, "")
		begun := time.Now()
		l.send(closeFrame(1000, ""))
		l.wantResult("has not ended in the time")
		if d := time.Since(begun); d != time.Minute {
			t.Error("it had", d)
		}
	})
	run("the call is cancelled", WebSocketLimits{}, func(t *testing.T, l *link) {
		l.cancel(call.NewError(helvetype.ReasonDeploymentUnavailable, "the node has closed"))
		l.wantClose(1001, "going away")
		l.send(closeFrame(1001, ""))
		l.wantEnd()
		l.wantResult("the node has closed")
	})
	run("the call is cancelled while the client does not read", WebSocketLimits{}, func(t *testing.T, l *link) {
		l.replica.parts <- part{Text, "x"}
		synctest.Wait()
		l.cancel(context.DeadlineExceeded)
		l.wantResult("deadline")
	})
	run("a client that answers pings stays", WebSocketLimits{}, func(t *testing.T, l *link) {
		for range 30 {
			op, payload, err := l.next()
			if err != nil || op != final|opPing {
				t.Fatal(op, payload, err)
			}
			time.Sleep(19 * time.Second)
			l.send(frame(final|opPong, payload))
		}
		l.conn.Close()
		l.closed(1006, "")
	})
	run("a client that does not answer pings is closed", WebSocketLimits{}, func(t *testing.T, l *link) {
		begun := time.Now()
		if op, _, err := l.next(); err != nil || op != final|opPing {
			t.Fatal(op, err)
		}
		l.wantClose(1011, "keepalive ping timeout")
		l.wantEnd()
		l.closed(1006, "")
		if d := time.Since(begun); d != 45*time.Second { // the last five are for the client's close frame
			t.Error("it was closed after", d)
		}
	})
	run("a client that sends gets no pings", WebSocketLimits{}, func(t *testing.T, l *link) {
		for range 30 {
			l.send(frame(final|opText, "x"))
			l.wantParts(part{Text, "x"})
			time.Sleep(15 * time.Second)
		}
		go l.send(closeFrame(1000, ""))
		l.wantClose(1000, "") // the first frame
		l.closed(1000, "")
	})
	run("a client whose messages wait for credit gets no pings", WebSocketLimits{}, func(t *testing.T, l *link) {
		l.replica.credit = make(chan struct{})
		l.send(frame(final|opText, "x"))
		time.Sleep(10*time.Minute + 5*time.Second) // between two fires of the timer
		close(l.replica.credit)
		l.wantParts(part{Text, "x"})
		go l.send(closeFrame(1000, ""))
		l.wantClose(1000, "") // the first frame
		l.closed(1000, "")
	})
	run("no pings", WebSocketLimits{Ping: -1}, func(t *testing.T, l *link) {
		time.Sleep(24 * time.Hour)
		go l.send(closeFrame(1000, ""))
		l.wantClose(1000, "") // the first frame
		l.closed(1000, "")
	})
}

// TestWebSocketBackpressure has ends that do not read.
func TestWebSocketBackpressure(t *testing.T) {
	t.Parallel()
	t.Run("a replica that does not read stops the client", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := open(t, WebSocketLimits{})
			credit := make(chan struct{}, 1)
			l.replica.credit = credit
			sent := 0
			go func() {
				for range 100 {
					if _, err := l.conn.Write(frame(final|opBinary, strings.Repeat("x", 10<<10))); err != nil {
						return
					}
					sent++
				}
			}()
			for i := range 5 {
				synctest.Wait()
				if sent != i+1 { // one that waits for credit
					t.Errorf("the client has sent %d messages, the replica has taken %d", sent, i)
				}
				credit <- struct{}{}
				<-l.replica.got
			}
			l.conn.Close()
			close(credit)
			for p := range l.replica.got {
				if p.kind == Close {
					break
				}
			}
			l.replica.end(io.EOF)
			l.wantResult("")
		})
	})
	t.Run("a client that does not read stops the replica", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := open(t, WebSocketLimits{})
			for range cap(l.replica.parts) {
				l.replica.parts <- part{Text, strings.Repeat("x", bufferSize)}
			}
			for i := range 5 {
				synctest.Wait()
				if taken := cap(l.replica.parts) - len(l.replica.parts); taken != i+1 { // one that waits for the client
					t.Errorf("%d messages were taken, the client has read %d", taken, i)
				}
				l.wantFrame(final|opText, strings.Repeat("x", bufferSize))
			}
			l.conn.Close()
			l.closed(1006, "")
		})
	})
	t.Run("a ping is answered while the replica is busy", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := open(t, WebSocketLimits{})
			l.replica.credit = make(chan struct{}) // it takes nothing
			l.send(frame(final|opPing, "1"))
			l.wantFrame(final|opPong, "1")
			l.conn.Close()
			l.closed(1006, "")
		})
	})
	t.Run("a ping of a client that does not read", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := open(t, WebSocketLimits{})
			l.replica.parts <- part{Binary, "x"} // its write waits
			synctest.Wait()
			l.send(frame(final|opPing, "1"))
			time.Sleep(20 * time.Second)
			l.send(frame(final|opText, "still here"))
			l.wantFrame(final|opBinary, "x")
			l.wantParts(part{Text, "still here"})
			l.conn.Close()
			l.closed(1006, "")
		})
	})
}

// TestTextCheck compares textCheck with package utf8, for every way to divide a text into two pieces.
func TestTextCheck(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "a", "ä", "€", "\U0001F600", "a\U0001F600b€", "\xe2\x82", "\xf0\x9f\x98", "\xff", "\xc0\xaf", "\xed\xa0\x80", "a\x80", "\xe2\x82a", "\xe2\xe2\x82\xac", "\xf4\x90\x80\x80"} {
		for i := range len(s) + 1 {
			for j := i; j <= len(s); j++ {
				var c textCheck
				got := c.next([]byte(s[:i]), false) && c.next([]byte(s[i:j]), false) && c.next([]byte(s[j:]), true)
				if got != utf8.ValidString(s) {
					t.Errorf("%q, %q, %q: %v", s[:i], s[i:j], s[j:], got)
				}
			}
		}
	}
}

// FuzzWebSocketReplica feeds a client with the parts of a replica that follows no protocol. The client must see a correct WebSocket or
// answer of HTTP, and the exchange must end.
//
// Each part is a byte for its kind, a byte for its length, and its data.
func FuzzWebSocketReplica(f *testing.F) {
	add := func(parts ...part) {
		var b []byte
		for _, p := range parts {
			b = append(append(b, byte(p.kind), byte(len(p.data))), p.data...)
		}
		f.Add(b, true)
		f.Add(b, false)
	}
	add()
	add(part{Accept, ""})
	add(part{Accept, fields("sec-websocket-protocol", "a\r\nb: c")}, part{Text, "x"}, part{Binary, "\xff"}, closePart(1000, "bye"), part{Text, "late"})
	add(part{Accept, ""}, part{TextPiece, "\xe2"}, part{Text, "\x82\xac"}, part{Piece, "x"}, part{Binary, ""}, closePart(4000, "\xff"))
	add(part{Accept, ""}, part{TextPiece, "x"}, part{Binary, "x"})
	add(part{Accept, ""}, closePart(1006, ""))
	add(part{Inform, head(103, "a", "b")}, part{Head, head(401, "content-length", "3")}, part{Body, "abcdef"}, part{Trailers, ""})
	add(part{Head, head(204)}, part{Body, "x"})
	add(part{Head, head(101)}, part{Body, "x"})
	add(closePart(1000, ""), part{Body, ""})
	f.Fuzz(func(t *testing.T, parts []byte, fails bool) {
		synctest.Test(t, func(t *testing.T) {
			l := dial(t, WebSocketLimits{})
			l.replica.parts = make(chan part, len(parts)/2+1)
			for len(parts) >= 2 {
				n := min(int(parts[1]), len(parts)-2)
				l.replica.parts <- part{Kind(parts[0]), string(parts[2 : 2+n])}
				parts = parts[2+n:]
			}
			end := error(io.EOF)
			if fails {
				end = call.NewError(helvetype.ReasonUser, "ouch")
			}
			l.replica.end(end)
			conn, _, err := websocket.Dial(context.Background(), "ws://x/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
				DialContext:       func(context.Context, string, string) (net.Conn, error) { return l.conn, nil },
				DisableKeepAlives: true,
			}}})
			for err == nil {
				var typ websocket.MessageType
				var data []byte
				if typ, data, err = conn.Read(context.Background()); err == nil && typ == websocket.MessageText && !utf8.Valid(data) {
					t.Errorf("the client gets a text message %q", data)
				}
			}
			if conn != nil {
				var closed websocket.CloseError
				if !errors.As(err, &closed) {
					t.Errorf("the client's connection ends with %v", err)
				}
				conn.CloseNow()
			}
			<-l.result
		})
	})
}
