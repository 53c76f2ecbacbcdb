package http_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

func killedBefore(t *at) {
	if res, body := t.get("/die"); res.StatusCode != 500 && res.StatusCode != 503 || strings.Contains(body, "kill") {
		t.Errorf("%s %q", res.Status, body)
	}
	if _, body := t.do("POST", "/echo", strings.NewReader("again")); body != "again" {
		t.Errorf("the next replica says %q", body)
	}
}

func killedAfter(t *at)  { t.killed(1) }
func killedInBody(t *at) { t.killed(500_000) }

func (t *at) killed(after int) {
	t.Helper()
	res, err := http.Get(t.url + "/die?after=" + strconv.Itoa(after))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.CopyN(io.Discard, res.Body, int64(after)); err != nil {
		t.Fatal(err)
	}
	t.happen("die")
	if rest, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("the answer looks complete, after %d bytes more", len(rest))
	}
}

func panics(t *at) {
	if res, body := t.get("/panic"); res.StatusCode != 500 || strings.Contains(body, "secret") {
		t.Errorf("%s %q", res.Status, body)
	}
}

func latePanics(t *at) { t.cut("/late-panic") }
func aborts(t *at)     { t.cut("/abort") }

func ends(t *at) {
	if res, body := t.get("/goexit"); res.StatusCode != 500 || body != "Internal Server Error" {
		t.Errorf("%s %q", res.Status, body)
	}
}

func impossibleStatus(t *at) {
	if res, body := t.get("/status/1000"); res.StatusCode != 500 || strings.Contains(body, "1000") {
		t.Errorf("%s %q", res.Status, body)
	}
}

// id is the id of the requests of a case.
func (t *at) id() string { return strings.ReplaceAll(t.Name(), " ", "-") }

// logged waits for the line of the access log of the case's request.
func (t *at) logged(status int, bytes int) {
	t.Helper()
	select {
	case line := <-t.node.log.of(t.id()):
		if !strings.Contains(line, fmt.Sprintf(`"status":%d,`, status)) || !strings.Contains(line, fmt.Sprintf(`"bytes":%d,`, bytes)) || !strings.Contains(line, `"replica":"Subject#`) {
			t.Errorf("want the status %d and %d bytes: %s", status, bytes, line)
		}
	case <-t.Context().Done():
		t.Error("there is no line")
	}
}

// lateSeconds is the time of requests that are late. On a busy machine a handler begins within it.
const lateSeconds = "3"

// requestTimeout: an answer that has begun is cut off at the end of the request's time, and is no whole answer for the client.
func requestTimeout(t *at) {
	req, _ := http.NewRequestWithContext(t.Context(), "GET", t.url+"/late/flushed?event=time", nil)
	req.Header.Set("X-Request-Timeout-Seconds", lateSeconds)
	req.Header.Set("X-Request-ID", t.id())
	res, err := t.http.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err == nil || string(body) != "begun" || res.StatusCode != 200 {
		t.Errorf("%s %q, %v", res.Status, body, err)
	}
	t.logged(408, 5)
}

// timeoutOfBuffer: what a handler has written, and nothing has sent, is not the begin of an answer.
func timeoutOfBuffer(t *at) {
	res, body := t.do("GET", "/late/kept?event=buffer", nil, "X-Request-Timeout-Seconds", lateSeconds, "X-Request-ID", t.id())
	if res.StatusCode != 408 || body != "Request "+t.id()+" timed out after "+lateSeconds+".0s." {
		t.Errorf("%s %q", res.Status, body)
	}
	t.logged(408, len(body))
}

func handlerDeadline(t *at) {
	res, body := t.do("GET", "/late/silent?event=deadline", nil, "X-Request-Timeout-Seconds", lateSeconds)
	if res.StatusCode != 408 {
		t.Errorf("%s %q", res.Status, body)
	}
	if end := t.await("end deadline"); end != "408 true" {
		t.Errorf("the handler's context has ended as %q", end)
	}
}

func leavesAnswer(t *at) {
	c := t.dial("GET /app/late/flushed?event=answer HTTP/1.1|Host: x|X-Request-ID: " + t.id())
	c.expect("HTTP/1.1 200 OK\r\n")
	c.Close()
	t.logged(499, 5)
}

func leavesBefore(t *at) {
	c := t.dial("GET /app/late/silent?event=before HTTP/1.1|Host: x|X-Request-ID: " + t.id())
	t.await("waits before")
	c.Close()
	t.logged(499, 0)
}

func (t *at) cut(path string) {
	t.Helper()
	res, err := http.Get(t.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err == nil || string(body) != "begun" {
		t.Errorf("%q, %v", body, err)
	}
}
