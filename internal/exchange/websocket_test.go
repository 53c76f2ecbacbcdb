package exchange

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
				if sent != i+1 { // a send that waits for credit
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
				if taken := cap(l.replica.parts) - len(l.replica.parts); taken != i+1 { // a send that waits for the client
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
