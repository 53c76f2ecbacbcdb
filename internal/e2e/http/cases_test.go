package http_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
)

// at is one case at one host.
type at struct {
	*testing.T
	host host
	url  string
	node *node
	http *http.Transport // with connections of this case alone: the node may reset one behind the answer to a request whose body it has not read
}

// TestHTTP runs the cases at each host. Cases that kill replicas, or need slots of their own, have a node of their own.
func TestHTTP(t *testing.T) {
	t.Parallel()
	for _, h := range hosts() {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			shared := h.start(t, 100)
			for name, c := range cases {
				if c.dies && !h.own || c.takes && !h.takes || h.few && !c.few {
					continue
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					n := shared
					if c.dies || c.slots > 0 || c.alone {
						n = h.start(t, max(c.slots, 1))
						if c.slots == 0 {
							n = h.start(t, 100)
						}
					}
					transport := &http.Transport{}
					t.Cleanup(transport.CloseIdleConnections)
					c.run(&at{t, h, n.url, n, transport})
				})
			}
		})
	}
}

type testCase struct {
	run   func(t *at)
	slots int  // the node has so many; 0 for many
	alone bool // the node is for this case
	dies  bool // the case kills the replica
	takes bool // the case takes the connection over, which code in other languages cannot do
	few   bool // the case runs at hosts of few cases too
}

var cases = map[string]testCase{ //nolint:gochecknoglobals // a table
	"flush":                           {run: flushes},
	"response trailers":               {run: responseTrailers},
	"request trailers":                {run: requestTrailers, few: true},
	"early hints":                     {run: earlyHints},
	"expect refused":                  {run: expectRefused},
	"expect accepted":                 {run: expectAccepted},
	"full duplex":                     {run: fullDuplex},
	"websocket":                       {run: webSocket, few: true},
	"close code of the client":        {run: closeOfClient, alone: true},
	"close code of the server":        {run: closeOfServer},
	"client leaves the queue":         {run: leavesQueue, slots: 1},
	"client leaves the handler":       {run: leavesHandler},
	"client leaves its upload":        {run: leavesUpload, alone: true},
	"client leaves its download":      {run: leavesDownload, alone: true},
	"keep-alive":                      {run: keepAlive},
	"half-closed client":              {run: halfClosed},
	"a connection that is taken over": {run: takenOver, takes: true},
	"taken over after the head":       {run: takenAfterHead, takes: true},
	"large upload":                    {run: largeUpload, alone: true},
	"large download":                  {run: largeDownload, alone: true},
	"slow reader":                     {run: slowReader, alone: true},
	"body that is not read":           {run: bodyNotRead},
	"HTTP/1.0":                        {run: oldHTTP},
	"HTTP/2":                          {run: newHTTP},
	"HEAD":                            {run: heads},
	"redirect":                        {run: redirects},
	"encodings":                       {run: encodings},
	"header limit":                    {run: headerLimit},
	"headers":                         {run: headers},
	"killed before the head":          {run: killedBefore, dies: true},
	"killed after the head":           {run: killedAfter, dies: true},
	"killed in the body":              {run: killedInBody, dies: true},
	"panic before the head":           {run: panics},
	"panic after the head":            {run: latePanics},
	"abort":                           {run: aborts},
	"end of the goroutine":            {run: ends, takes: true},
	"impossible status":               {run: impossibleStatus},
	"request timeout":                 {run: requestTimeout},
	"request timeout of a buffer":     {run: timeoutOfBuffer, takes: true},
	"deadline of the handler":         {run: handlerDeadline, takes: true},
	"client leaves its answer":        {run: leavesAnswer},
	"client leaves before its answer": {run: leavesBefore},
	"no body":                         {run: noBody},
	"statuses":                        {run: statuses},
	"large header":                    {run: largeHeader},
	"paths":                           {run: paths},
	"methods":                         {run: methods},
	"wrong lengths":                   {run: wrongLengths, alone: true},
	"read deadline":                   {run: readDeadline},
	"redeploy":                        {run: redeploys, alone: true, few: true},
}

// get asks for a path, and gives the answer with its whole body.
func (t *at) get(path string) (*http.Response, string) { return t.do(http.MethodGet, path, nil) }

func (t *at) do(method, path string, body io.Reader, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, t.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := t.http.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	return res, string(b)
}

// await waits for an event in the replica, and gives its text.
func (t *at) await(event string) string {
	t.Helper()
	_, text := t.get("/await/" + strings.ReplaceAll(event, " ", "%20"))
	return text
}

func (t *at) happen(event string) { t.get("/happen/" + strings.ReplaceAll(event, " ", "%20")) }

// conn is a connection whose bytes a case writes itself.
type conn struct {
	t *at
	*net.TCPConn
	in *bufio.Reader
}

// dial opens a connection and sends the head of a request, whose lines follow each other with | in between.
func (t *at) dial(head string) *conn {
	t.Helper()
	addr, _, _ := strings.Cut(strings.TrimPrefix(t.url, "http://"), "/")
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	c := &conn{t, nc.(*net.TCPConn), bufio.NewReader(nc)} //nolint:forcetypeassert // Dial of tcp
	c.send(strings.ReplaceAll(head, "|", "\r\n") + "\r\n\r\n")
	return c
}

func (c *conn) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads the head of an answer, and gives its body.
func (c *conn) answer(method string) *http.Response {
	c.t.Helper()
	res, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	return res
}

func (c *conn) expect(want string) {
	c.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c.in, got); string(got) != want {
		c.t.Fatalf("got %q, %v, want %q", got[:n], err, want)
	}
}

func flushes(t *at) {
	req, _ := http.NewRequestWithContext(t.Context(), "GET", t.url+"/flush?event=flush", nil)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	one := make([]byte, 3)
	if _, err := io.ReadFull(res.Body, one); string(one) != "one" {
		t.Fatalf("%q, %v", one, err)
	}
	t.happen("flush")
	if two, err := io.ReadAll(res.Body); string(two) != "two" || err != nil {
		t.Errorf("%q, %v", two, err)
	}
}

func responseTrailers(t *at) {
	res, body := t.get("/trailers")
	if body != "body" || res.Trailer.Get("X-Sum") != "7" || res.Trailer.Get("X-Late") != "8" {
		t.Errorf("%q, %v", body, res.Trailer)
	}
}

func requestTrailers(t *at) {
	c := t.dial("POST /app/sum HTTP/1.1|Host: x|Transfer-Encoding: chunked|Trailer: X-Sum")
	c.send("3\r\nabc\r\n0\r\nX-Sum: 7\r\nX-Other: 8\r\n\r\n")
	res := c.answer("POST")
	if body, err := io.ReadAll(res.Body); string(body) != "3 <nil> map[X-Other:[8] X-Sum:[7]]" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}

func earlyHints(t *at) {
	var hints []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
		hints = append(hints, fmt.Sprint(status, h.Get("Link")))
		return nil
	}})
	req, _ := http.NewRequestWithContext(ctx, "GET", t.url+"/hints", nil)
	res, err := t.http.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); string(body) != "body" || len(hints) != 1 || hints[0] != "103</style.css>; rel=preload" || res.Header.Get("Link") != "" {
		t.Errorf("%q, %q, %v", body, hints, res.Header)
	}
}

func expectRefused(t *at) {
	c := t.dial("POST /app/ignore HTTP/1.1|Host: x|Content-Length: 10|Expect: 100-continue")
	if res := c.answer("POST"); res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Error(res.Status)
	}
}

func expectAccepted(t *at) {
	c := t.dial("POST /app/echo HTTP/1.1|Host: x|Content-Length: 4|Expect: 100-continue")
	c.expect("HTTP/1.1 100 Continue\r\n\r\n")
	c.send("body")
	res := c.answer("POST")
	if body, _ := io.ReadAll(res.Body); string(body) != "body" {
		t.Errorf("%s %q", res.Status, body)
	}
}

func fullDuplex(t *at) {
	c := t.dial("POST /app/duplex HTTP/1.1|Host: x|Transfer-Encoding: chunked")
	res := c.answer("POST")
	for i := range 20 {
		word := fmt.Sprintf("word %02d", i)
		c.send("7\r\n" + word + "\r\n")
		got := make([]byte, 7)
		if _, err := io.ReadFull(res.Body, got); string(got) != word {
			t.Fatalf("%q, %v", got, err)
		}
	}
	c.send("0\r\n\r\n")
	if rest, err := io.ReadAll(res.Body); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

func (t *at) socket(path string) (*websocket.Conn, *http.Response) {
	t.Helper()
	c, res, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(t.url, "http")+path, &websocket.DialOptions{Subprotocols: []string{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	c.SetReadLimit(1 << 20)
	return c, res
}

func webSocket(t *at) {
	c, _ := t.socket("/ws/echo")
	if p := c.Subprotocol(); p != "a" && p != "b" {
		t.Errorf("the subprotocol is %q", p)
	}
	for _, kind := range []websocket.MessageType{websocket.MessageText, websocket.MessageBinary} {
		for _, n := range []int{0, 1, 5000, 200_000} {
			w, err := c.Writer(t.Context(), kind) // in fragments
			if err != nil {
				t.Fatal(err)
			}
			for left := n; left > 0; left -= 3000 {
				w.Write(bytes.Repeat([]byte("x"), min(left, 3000)))
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			got, data, err := c.Read(t.Context())
			if err != nil || got != kind || len(data) != n {
				t.Fatalf("%v of %d came back as %v of %d, %v", kind, n, got, len(data), err)
			}
		}
	}
	ctx := c.CloseRead(t.Context())
	if err := c.Ping(ctx); err != nil {
		t.Errorf("ping: %v", err)
	}
}

func closeOfClient(t *at) {
	c, _ := t.socket("/ws/echo")
	c.Close(4002, "bye")
	if code := t.await("closed"); code != "4002" {
		t.Errorf("the code is %s", code)
	}
}

func closeOfServer(t *at) {
	c, _ := t.socket("/ws/close")
	_, _, err := c.Read(t.Context())
	if e, ok := errors.AsType[websocket.CloseError](err); !ok || e.Code != 4001 || e.Reason != "enough" {
		t.Error(err)
	}
}

func leavesQueue(t *at) {
	busy := t.dial("GET /app/hold?event=q HTTP/1.1|Host: x")
	queued := t.dial("GET /app/hold?event=never HTTP/1.1|Host: x")
	queued.Close()
	busy.Close() // frees the slot
	next := t.dial("GET /app/echo HTTP/1.1|Host: x")
	if res := next.answer("GET"); res.StatusCode != 200 {
		t.Error(res.Status)
	}
}

func leavesHandler(t *at) {
	c := t.dial("GET /app/hold?event=h HTTP/1.1|Host: x")
	t.await("held h")
	c.Close()
	t.await("left h")
}

func leavesUpload(t *at) {
	c := t.dial("POST /app/read HTTP/1.1|Host: x|Content-Length: 1000000")
	c.send("first")
	if got := t.await("read"); got != "first" {
		t.Errorf("read %q", got)
	}
	c.Close()
	if got := t.await("read ended"); got != "true" {
		t.Error("the body has come to its end")
	}
}

func leavesDownload(t *at) {
	c := t.dial("GET /app/down?bytes=100000000000 HTTP/1.1|Host: x")
	c.expect("HTTP/1.1 200 OK\r\n")
	c.SetLinger(0)
	c.Close()
	t.await("down ended")
}

// keepAlive: a connection goes on after an answer, whatever bodies its requests have had.
func keepAlive(t *at) {
	c := t.dial("GET /app/echo HTTP/1.1|Host: x")
	c.answer("GET").Body.Close()
	for range 2 {
		for _, rest := range []string{"Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"} {
			c.send("POST /app/sum HTTP/1.1\r\nHost: x\r\n" + rest)
			res := c.answer("POST")
			if got, _ := io.ReadAll(res.Body); !strings.HasPrefix(string(got), "3 <nil>") {
				t.Errorf("%s: %q", rest, got)
			}
		}
	}
	c.send("GET /app/echo HTTP/1.1\r\nHost: x\r\n\r\n")
	if res := c.answer("GET"); res.StatusCode != 200 {
		t.Error(res.Status)
	}
}

// halfClosed: a client that has closed its half counts as a client that has left, because the two look the same.
func halfClosed(t *at) {
	c := t.dial("GET /app/hold?event=half HTTP/1.1|Host: x")
	t.await("held half")
	c.CloseWrite()
	t.await("left half")
}

func takenOver(t *at) {
	for _, path := range []string{"/app/hijack", "/app/hijack?after=return"} {
		t.lines(path)
	}
}

// takenAfterHead: a handler that writes the head by its ResponseWriter and takes the connection over then.
func takenAfterHead(t *at) {
	t.lines("/app/hijack?head=written")
	t.lines("/app/hijack?head=written&after=return")
}

func (t *at) lines(path string) {
	t.Helper()
	c := t.dial("GET " + path + " HTTP/1.1|Host: x|Connection: Upgrade|Upgrade: lines")
	if head := c.answer("GET"); head.StatusCode != 101 || head.Header.Get("Upgrade") != "lines" || head.Header.Get("Connection") != "Upgrade" {
		t.Errorf("%s %v", head.Status, head.Header)
	}
	for range 3 {
		c.send("hello\n")
		c.expect("HELLO\n")
	}
	c.CloseWrite()
	c.expect("end: EOF\n")
	if rest, err := io.ReadAll(c.in); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

// grown is the most that the heap may grow while a large body passes.
const grown = 64 << 20

type zeros struct {
	left int64
	peak *heap
}

func (z *zeros) Read(p []byte) (int, error) {
	n := int(min(int64(len(p)), z.left))
	if z.left -= int64(n); n == 0 {
		return 0, io.EOF
	}
	z.peak.look(large - z.left)
	return n, nil
}

func largeUpload(t *at) {
	z := &zeros{left: large, peak: heapPeak()}
	_, body := t.do("POST", "/up", struct{ io.Reader }{z})
	var n, growth int64
	if _, err := fmt.Sscanf(body, "%d EOF %d", &n, &growth); err != nil || n != large {
		t.Errorf("%q, %v", body, err)
	}
	t.bounded(growth, z.peak.growth())
}

func (t *at) bounded(growths ...int64) {
	t.Helper()
	for _, g := range growths {
		if g > grown {
			t.Errorf("the heap has grown by %d MiB", g>>20)
		}
	}
}

func largeDownload(t *at) {
	res, err := http.Get(t.url + "/down?bytes=" + strconv.Itoa(large))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	peak, n := heapPeak(), int64(0)
	buf := make([]byte, 256<<10)
	for err == nil {
		var m int
		m, err = res.Body.Read(buf)
		n += int64(m)
		peak.look(n)
	}
	if n != large || err != io.EOF {
		t.Errorf("%d bytes, %v", n, err)
	}
	growth, _ := strconv.ParseInt(res.Trailer.Get("X-Growth"), 10, 64)
	t.bounded(growth, peak.growth())
}

// slowReader: a handler is never far ahead of its client.
func slowReader(t *at) {
	const ahead = 32 << 20
	c := t.dial("GET /app/down?bytes=" + strconv.Itoa(large) + " HTTP/1.1|Host: x")
	c.SetReadBuffer(64 << 10)
	body := c.answer("GET").Body
	for read := int64(0); read < 4*ahead; read += 16 << 20 {
		_, text := t.get("/wrote")
		if wrote, err := strconv.ParseInt(text, 10, 64); wrote > read+ahead || err != nil {
			t.Fatalf("the handler has written %d bytes, and the client has read %d", wrote, read)
		}
		if read+16<<20 <= large {
			io.CopyN(io.Discard, body, 16<<20)
		}
	}
}

func bodyNotRead(t *at) {
	c := t.dial("POST /app/ignore HTTP/1.1|Host: x|Content-Length: 50000000")
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range 50 {
			if _, err := c.Write(make([]byte, 1_000_000)); err != nil {
				return
			}
		}
	}()
	res := c.answer("POST")
	if body, _ := io.ReadAll(res.Body); res.StatusCode != 413 || string(body) != "too large for me\n" {
		t.Errorf("%s %q", res.Status, body)
	}
	c.Close()
	<-sent
}

func oldHTTP(t *at) {
	c := t.dial("GET /app/request/x HTTP/1.0|X-A: b")
	res := c.answer("GET")
	if body, err := io.ReadAll(res.Body); !strings.HasPrefix(string(body), "GET HTTP/1.0 /request/x /request/x? ") || err != nil {
		t.Errorf("%q, %v", body, err)
	}
	if _, err := c.in.ReadByte(); err != io.EOF {
		t.Errorf("the connection goes on: %v", err)
	}
}

func newHTTP(t *at) {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p}
	t.Cleanup(tr.CloseIdleConnections)
	client := &http.Client{Transport: tr}
	res, err := client.Post(t.url+"/request/x?a=b", "text/plain", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if !strings.HasPrefix(string(body), "POST HTTP/2.0 /request/x /request/x?a=b ") {
		t.Errorf("%q", body)
	}
	in, out := io.Pipe()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", t.url+"/duplex", in)
	if res, err = client.Do(req); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for _, word := range []string{"one", "two"} {
		io.WriteString(out, word)
		got := make([]byte, 3)
		if _, err := io.ReadFull(res.Body, got); string(got) != word {
			t.Fatalf("%q, %v", got, err)
		}
	}
	out.Close()
	if rest, err := io.ReadAll(res.Body); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	if res, err = client.Get(t.url + "/trailers"); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	if res.Trailer.Get("X-Sum") != "7" {
		t.Errorf("trailers %v", res.Trailer)
	}
}

func heads(t *at) {
	for path, length := range map[string]int64{"/guess": 12, "/status/200": 10, "/status/204": -1} {
		res, body := t.do("HEAD", path, nil)
		if body != "" || length >= 0 && res.ContentLength != length {
			t.Errorf("%s: %q, length %d", path, body, res.ContentLength)
		}
	}
	if res, _ := t.do("HEAD", "/guess", nil); res.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("%v", res.Header)
	}
	if res, _ := t.get("/guess"); res.Header.Get("Content-Type") != "text/html; charset=utf-8" || res.ContentLength != 12 {
		t.Errorf("%v", res.Header)
	}
}

func redirects(t *at) {
	res, body := t.get("/redirect")
	if res.StatusCode != 302 || res.Header.Get("Location") != "/app/target" || !strings.Contains(body, "Found") {
		t.Errorf("%s %v %q", res.Status, res.Header, body)
	}
}

func encodings(t *at) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, "compressed")
	z.Close()
	res, body := t.do("POST", "/echo", bytes.NewReader(b.Bytes()), "Content-Encoding", "gzip", "Content-Type", "text/plain", "Accept-Encoding", "gzip")
	if body != b.String() || res.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%q, %v", body, res.Header)
	}
}

func headerLimit(t *at) {
	c := t.dial("GET /app/echo HTTP/1.1|Host: x|X-Large: " + strings.Repeat("x", 80<<10))
	if res := c.answer("GET"); res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(res.Status)
	}
}

func headers(t *at) {
	c := t.dial("GET /app/request/h HTTP/1.1|Host: example.com|X-B: 1|x-a: 2|X-B: 3|X-Empty:" + func() (many string) {
		for i := range 100 {
			many += fmt.Sprintf("|X-Many-%02d: %d", i, i)
		}
		return many
	}())
	res := c.answer("GET")
	body, _ := io.ReadAll(res.Body)
	if got := string(body); !strings.Contains(got, " example.com 0 /app/request/h [X-A=2 X-B=1|3 X-Empty= X-Many-00=0 ") || !strings.Contains(got, "X-Many-99=99") {
		t.Errorf("%q", got)
	}
	if res, _ := t.get("/headers"); strings.Join(res.Header["Set-Cookie"], " ") != "a=1 b=2" || res.Header.Get("X-Request-Id") == "" {
		t.Errorf("%v", res.Header)
	}
}

func noBody(t *at) {
	for _, status := range []int{204, 304} {
		if res, body := t.get("/status/" + strconv.Itoa(status)); res.StatusCode != status || body != "" {
			t.Errorf("%s %q", res.Status, body)
		}
	}
}

func statuses(t *at) {
	for _, status := range []int{200, 201, 418, 499, 500, 599, 999} {
		if res, body := t.get("/status/" + strconv.Itoa(status)); res.StatusCode != status || body != fmt.Sprintf("status %d", status) {
			t.Errorf("%d: %s %q", status, res.Status, body)
		}
	}
}

func largeHeader(t *at) {
	if res, body := t.get("/headers?bytes=200000"); body != "body" || len(res.Header.Get("X-Large-199")) != 1000 {
		t.Errorf("%s, %d headers", res.Status, len(res.Header))
	}
}

func paths(t *at) {
	for target, want := range map[string]string{
		"/app/request/a%20b?x=1&y=%20": "/request/a b /request/a%20b?x=1&y=%20",
		"/app/request/a%2Fb":           "/request/a/b /request/a%2Fb?",
		"/app/request/%C3%A4":          "/request/ä /request/%C3%A4?",
		"/app/request/%00":             "/request/\x00 /request/%00?",
		"/app/request/~a+b;c,d":        "/request/~a+b;c,d /request/~a+b;c,d?",
	} {
		res := t.dial("GET " + target + " HTTP/1.1|Host: x").answer("GET")
		body, _ := io.ReadAll(res.Body)
		if got := string(body); !strings.HasPrefix(got, "GET HTTP/1.1 "+want+" ") || !strings.Contains(got, " 0 "+target+" [") {
			t.Errorf("%s: %q", target, got)
		}
	}
}

func methods(t *at) {
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} {
		if _, body := t.do(method, "/request/m", nil); !strings.HasPrefix(body, method+" ") {
			t.Errorf("%s: %q", method, body)
		}
	}
	if _, body := t.do("BREW", "/pot", nil); body != "BREW /pot" {
		t.Errorf("%q", body)
	}
}

func wrongLengths(t *at) {
	for _, path := range []string{"/short", "/long"} {
		if res, err := http.Get(t.url + path); err == nil {
			if body, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("%s: the answer looks complete: %q", path, body)
			}
			res.Body.Close()
		}
	}
	if got := t.await("long"); !strings.Contains(got, "Content-Length") {
		t.Errorf("the error is %q", got)
	}
}

func readDeadline(t *at) {
	c := t.dial("POST /app/deadline HTTP/1.1|Host: x|Content-Length: 1000000")
	res := c.answer("POST")
	if body, _ := io.ReadAll(res.Body); string(body) != "true" {
		t.Errorf("%s %q", res.Status, body)
	}
}

func redeploys(t *at) {
	ctx, stop := context.WithCancel(t.Context())
	var served atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				body := strings.Repeat("x", i%5*40_000)
				res, got := t.do("POST", "/echo", strings.NewReader(body))
				if res.StatusCode != 200 || got != body {
					t.Errorf("%s, %d of %d bytes: %.200s", res.Status, len(got), len(body), got)
					return
				}
				served.Add(1)
			}
		})
	}
	for range 3 {
		t.node.redeploy(t.T)
	}
	stop()
	clients.Wait()
	if served.Load() == 0 {
		t.Error("no request was served")
	}
}
