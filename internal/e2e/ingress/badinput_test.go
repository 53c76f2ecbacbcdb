package ingress_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// order is the input of the method below.
type order struct {
	Item  string `json:"item"`
	Count int    `json:"count"`
}

// shop is a method, and a handler that reads its body and writes much.
type shop struct{}

func (shop) Buy(_ context.Context, o order) (string, error) {
	return fmt.Sprint(o.Count, " ", o.Item), nil
}

func (shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/much" {
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprint(w, n)
}

func deployShop(t *testing.T, s *helve.System, name string, handler bool) {
	t.Helper()
	err := s.Deploy(t.Context(), func() (*helve.App, error) {
		app := helve.NewApp(name)
		h := helve.Deploy(app, "Shop", func(context.Context) (shop, error) { return shop{}, nil }, helve.Options{})
		if handler {
			app.Ingress(helve.HTTP(h))
		} else {
			app.Ingress(helve.MethodOf(h, shop.Buy))
		}
		app.RoutePrefix("/" + name)
		return app, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ending says how a connection ends after an answer.
type ending bool

const (
	closes ending = true  // the node closes it
	stays  ending = false // the node reads another request from it
)

// TestBadInput: requests as no client should send them, byte by byte, to a method and to a handler. Each has its status, the connection
// ends where its next bytes cannot be trusted, and the node serves the next client.
func TestBadInput(t *testing.T) {
	t.Parallel()
	// Clients that are slow have a node of their own, with short times: on a busy machine the others are not as fast as that.
	run := func(l helve.HTTPLimits) (*helve.System, string) {
		s := runMirror(t, helve.Config{HTTP: "127.0.0.1:0", HTTPLimits: l})
		deployShop(t, s, "method", false)
		deployShop(t, s, "handler", true)
		url, _ := s.HTTP()
		return s, strings.TrimPrefix(url, "http://")
	}
	_, patient := run(helve.HTTPLimits{MaxBody: 1000})
	s, hurried := run(helve.HTTPLimits{MaxBody: 1000, HeaderTimeout: 3 * time.Second, BodyTimeout: 4 * time.Second, StallTimeout: 3 * time.Second})
	const body = `{"item":"tea","count":2}`
	length := fmt.Sprintf("Content-Length: %d\r\n", len(body))
	post := func(path, head, body string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: x\r\n" + head + "\r\n" + body
	}
	const chunked = "Transfer-Encoding: chunked\r\n"
	for name, test := range map[string]struct {
		request string // %P is the path
		method  int    // its status at the method
		handler int    // at the handler; 0 if it is the same
		ending  ending
		text    string // in the body at the method
	}{
		// The input of a method.
		"good":                 {post("%P", length, body), 200, 0, stays, "2 tea"},
		"malformed JSON":       {post("%P", "Content-Length: 9\r\n", `{"item":}`), 400, 200, stays, "the body is not valid JSON: byte 9"},
		"wrong type":           {post("%P", "Content-Length: 13\r\n", `{"count":"x"}`), 400, 200, stays, "count"},
		"number for an object": {post("%P", "Content-Length: 1\r\n", `7`), 400, 200, stays, "takes an object"},
		"nothing":              {post("%P", "Content-Length: 0\r\n", ""), 400, 200, stays, "the body is empty"},
		"unknown method":       {"BREW %P HTTP/1.1\r\nHost: x\r\n\r\n", 405, 200, stays, "BREW is not allowed here, only POST, PUT, PATCH"},
		"too large":            {post("%P", "Content-Length: 1001\r\n", strings.Repeat("x", 1001)), 413, 200, stays, "larger than 1000 bytes"},
		"id of 257 bytes":      {post("%P", length+"X-Request-ID: "+strings.Repeat("i", 257)+"\r\n", body), 400, 0, stays, "X-Request-ID must be"},
		"model of 257 bytes":   {post("%P", length+"serve_multiplexed_model_id: "+strings.Repeat("i", 257)+"\r\n", body), 400, 0, stays, "serve_multiplexed_model_id must be"},
		"header of 80 KB":      {post("%P", length+"X: "+strings.Repeat("x", 80<<10)+"\r\n", body), 431, 0, closes, ""},
		"unknown path":         {post("/other", length, body), 404, 0, stays, "Path '/other' not found"},
		"time of a bad form":   {post("%P", length+"X-Request-Timeout-Seconds: soon\r\n", body), 400, 0, stays, "X-Request-Timeout-Seconds must be"},
		// Requests whose end a proxy in front could see at another byte than the node.
		"length and chunks":          {post("%P", "Content-Length: 4\r\n"+chunked, "0\r\n\r\nGET /secret HTTP/1.1\r\nHost: x\r\n\r\n"), 400, 200, closes, ""},
		"two lengths":                {post("%P", length+"Content-Length: 3\r\n", body), 400, 0, closes, ""},
		"length with a plus":         {post("%P", "Content-Length: +24\r\n", body), 400, 0, closes, ""},
		"negative length":            {post("%P", "Content-Length: -1\r\n", body), 400, 0, closes, ""},
		"length of 20 digits":        {post("%P", "Content-Length: 99999999999999999999\r\n", body), 400, 0, closes, ""},
		"list of lengths":            {post("%P", "Content-Length: 24, 24\r\n", body), 400, 0, closes, ""},
		"folded header":              {post("%P", length+"X-A: b\r\n c\r\n", body), 200, 0, stays, ""},
		"folded length":              {post("%P", "Content-Length:\r\n 24\r\n", body), 200, 0, stays, ""},
		"space before the colon":     {post("%P", "Content-Length : 24\r\n", body), 400, 0, closes, ""},
		"space before the name":      {"POST %P HTTP/1.1\r\n Host: x\r\n\r\n", 400, 0, closes, ""},
		"name with a NUL":            {post("%P", "X\x00: 1\r\n"+length, body), 400, 0, closes, ""},
		"value with a NUL":           {post("%P", "X: \x00\r\n"+length, body), 400, 0, closes, ""},
		"value with a CR":            {post("%P", "X: a\rContent-Length: 0\r\n"+length, body), 400, 0, closes, ""},
		"bare LF":                    {strings.ReplaceAll(post("%P", length, body), "\r\n", "\n"), 200, 0, stays, "2 tea"},
		"another encoding":           {post("%P", "Transfer-Encoding: gzip\r\n", body), 501, 0, closes, ""},
		"two encodings":              {post("%P", "Transfer-Encoding: gzip, chunked\r\n", body), 501, 0, closes, ""},
		"chunked twice":              {post("%P", chunked+chunked, "0\r\n\r\n"), 501, 0, closes, ""},
		"chunked in HTTP/1.0":        {"POST %P HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n18\r\n" + body + "\r\n0\r\n\r\n", 400, 200, closes, ""},
		"chunk with an extension":    {post("%P", chunked, "18;a=b\r\n"+body+"\r\n0\r\n\r\n"), 200, 0, stays, "2 tea"},
		"endless extensions":         {post("%P", chunked, strings.Repeat("1;"+strings.Repeat("x", 4000)+"\r\n \r\n", 20)), 400, 0, closes, ""},
		"chunk of 17 digits":         {post("%P", chunked, "10000000000000018\r\n"+body), 400, 0, closes, ""},
		"chunk size of no digit":     {post("%P", chunked, "x\r\n"+body), 400, 0, closes, ""},
		"chunk size with a minus":    {post("%P", chunked, "-18\r\n"+body), 400, 0, closes, ""},
		"chunk size with 0x":         {post("%P", chunked, "0x18\r\n"+body+"\r\n0\r\n\r\n"), 400, 0, closes, ""},
		"chunk longer than its size": {post("%P", chunked, "2\r\n"+body+"\r\n0\r\n\r\n"), 400, 0, closes, ""},
		"bare LF in a chunk":         {post("%P", chunked, "18\n"+body+"\n0\n\n"), 400, 0, closes, ""},
		"trailer of 80 KB":           {post("%P", chunked, "18\r\n"+body+"\r\n0\r\nX: "+strings.Repeat("x", 80<<10)+"\r\n\r\n"), 400, 0, closes, ""},
		// Other damage.
		"no Host":                {"POST %P HTTP/1.1\r\n" + length + "\r\n" + body, 400, 0, closes, ""},
		"two Hosts":              {post("%P", "Host: y\r\n"+length, body), 400, 0, closes, ""},
		"Host with a slash":      {"POST %P HTTP/1.1\r\nHost: x/y\r\n" + length + "\r\n" + body, 400, 0, closes, ""},
		"no HTTP":                {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, 0, closes, ""},
		"HTTP/3.0":               {"GET %P HTTP/3.0\r\nHost: x\r\n\r\n", 505, 0, closes, ""},
		"method with a space":    {"PO ST %P HTTP/1.1\r\nHost: x\r\n\r\n", 400, 0, closes, ""},
		"path with a bad escape": {post("%P/%zz", length, body), 400, 0, closes, ""},
		"unknown Expect":         {post("%P", "Expect: magic\r\n"+length, body), 417, 0, closes, ""},
		// Clients that are slow.
		"header that stops":     {"POST %P HTTP/1.1\r\nHost: x\r\nX-A", 400, 0, closes, ""},
		"body that stops":       {post("%P", length, body[:5]), 408, 400, closes, "did not arrive in time"},
		"chunk that stops":      {post("%P", chunked, "18\r\n"+body[:5]), 408, 400, closes, "did not arrive in time"},
		"length that is larger": {post("%P", "Content-Length: 900\r\n", body), 408, 400, closes, "did not arrive in time"},
	} {
		for _, path := range []string{"/method", "/handler"} {
			t.Run(name+path, func(t *testing.T) {
				t.Parallel()
				want := test.method
				if path == "/handler" && test.handler != 0 {
					want = test.handler
				}
				host := patient
				if strings.Contains(name, " that ") {
					host = hurried
				}
				conn, err := net.Dial("tcp", host)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // a test that hangs ends
				sent := make(chan struct{})
				go func() { // the node may answer before it has read all
					io.WriteString(conn, strings.ReplaceAll(test.request, "%P", path)) //nolint:errcheck // the answer tells
					close(sent)
				}()
				in := bufio.NewReader(conn)
				r, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(r.Body)
				if err != nil && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the body: %v", err)
				}
				if r.StatusCode != want || path == "/method" && !strings.Contains(string(b), test.text) {
					t.Errorf("%s %.200s, want %d %s", r.Status, b, want, test.text)
				}
				if strings.Contains(string(b), "secret") {
					t.Errorf("a second request was read: %s", b)
				}
				<-sent
				if test.ending == closes {
					if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("the connection goes on: %q %v", rest, err)
					}
					return
				}
				io.WriteString(conn, post("/method", length, body)) //nolint:errcheck // the answer tells
				if r, err = http.ReadResponse(in, nil); err != nil || r.StatusCode != 200 {
					t.Errorf("the next request: %v %v", r, err)
				}
			})
		}
	}
	deployShop(t, s, "unread", true)
	t.Run("answer that is not read", func(t *testing.T) {
		t.Parallel()
		conn, err := net.Dial("tcp", hurried)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET /unread/much HTTP/1.1\r\nHost: x\r\n\r\n") //nolint:errcheck // the end tells
		for _, want := range []int{1, 0} {                                   // the request runs until the stall time is over
			fixture.Eventually(t, func() string {
				if n := s.Status().Applications["unread"].Deployments["Shop"].Calls.Running; n != want {
					return fmt.Sprintf("%d calls run, want %d", n, want)
				}
				return ""
			})
		}
		conn.SetDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // as above
		if _, err := io.Copy(io.Discard, conn); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v", err)
		}
	})
}
