//go:build browser

// The page in a headless Chromium, which the test drives over the DevTools protocol. It needs the program chromium: make test-browser.

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// browser is a tab of a headless Chromium.
type browser struct {
	t    *testing.T
	conn *websocket.Conn
	id   int
}

// open starts a Chromium with the page. It ends with the test.
func open(t *testing.T, page string) *browser {
	t.Helper()
	cmd := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0",
		"--user-data-dir="+t.TempDir(), page)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) // its own children end with it, which write into the directory
		cmd.Wait()
	})
	devtools := ""
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if _, address, found := strings.Cut(lines.Text(), "DevTools listening on ws://"); found {
			devtools, _, _ = strings.Cut(address, "/")
			break
		}
	}
	if devtools == "" {
		t.Fatal("chromium has no DevTools")
	}
	go func() { // so that it is never blocked by a full pipe
		for lines.Scan() {
		}
	}()
	address := ""
	fixture.Eventually(t, func() string { // the page comes a moment after the line
		r, err := http.Get("http://" + devtools + "/json")
		if err != nil {
			return err.Error()
		}
		defer r.Body.Close()
		var tabs []struct {
			ID   string
			Type string
			WS   string `json:"webSocketDebuggerUrl"`
		}
		if err := json.NewDecoder(r.Body).Decode(&tabs); err != nil {
			return err.Error()
		}
		for _, tab := range tabs {
			if tab.Type == "page" {
				address = tab.WS
				return ""
			}
		}
		return fmt.Sprintf("chromium has no page: %+v", tabs)
	})
	conn, _, err := websocket.Dial(t.Context(), address, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return &browser{t: t, conn: conn}
}

// eval evaluates JavaScript in the page, and returns the result as text.
func (b *browser) eval(script string) string {
	b.t.Helper()
	value, mistake := b.try(script)
	if mistake != "" {
		b.t.Fatalf("%s: %s", script, mistake)
	}
	return value
}

// try is eval that returns an exception.
func (b *browser) try(script string) (value, mistake string) {
	b.t.Helper()
	b.id++
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	evaluate := map[string]any{"id": b.id, "method": "Runtime.evaluate", "params": map[string]any{"expression": script, "returnByValue": true}}
	if err := wsjson.Write(ctx, b.conn, evaluate); err != nil {
		b.t.Fatal(err)
	}
	for {
		var answer struct {
			ID     int
			Error  json.RawMessage
			Result struct {
				Result           struct{ Value any }
				ExceptionDetails json.RawMessage
			}
		}
		if err := wsjson.Read(ctx, b.conn, &answer); err != nil {
			b.t.Fatal(err)
		}
		if answer.ID == b.id { // not an event
			return fmt.Sprint(answer.Result.Result.Value), string(answer.Error) + string(answer.Result.ExceptionDetails)
		}
	}
}

// until waits until a JavaScript condition holds. A page that is being loaded may not have its functions yet.
func (b *browser) until(condition string) {
	b.t.Helper()
	fixture.Eventually(b.t, func() string {
		b.t.Helper()
		if value, _ := b.try(condition); value != "true" {
			page, mistake := b.try("document.body.innerText")
			return condition + " is " + value + "; the page has " + page + mistake
		}
		return ""
	})
}

// TestBrowser: the page reads both streams to their end; Stop, and a tab that is closed, cancel the model, and the page shows it.
func TestBrowser(t *testing.T) {
	t.Parallel()
	url := serve(t, 10*time.Millisecond)
	b := open(t, url+"/")
	b.until(`document.readyState == "complete" && $("stats").textContent != ""`)
	for i, way := range []string{"events", "socket"} {
		b.eval(`$("` + way + `").click()`)
		b.until(fmt.Sprintf(`$("state").textContent == "complete" && $("stats").textContent == "0 running, %d finished, 0 cancelled"`, i+1))
		if said := b.eval(`$("said").textContent`); said != answer("hello") {
			t.Errorf("%s: the page has %q", way, said)
		}
	}
	slow := serve(t, 200*time.Millisecond) // the answer takes 12 s: it is stopped in the middle, however slow the machine is
	b.eval(`location.href = "` + slow + `/", 0`)
	b.until(`location.href == "` + slow + `/" && document.readyState == "complete" && $("stats").textContent != ""`)
	for i, way := range []string{"events", "socket"} {
		b.eval(`$("` + way + `").click()`)
		b.until(`$("said").textContent.length > 20`)
		b.eval(`$("stop").click()`)
		b.until(fmt.Sprintf(`$("stats").textContent == "0 running, 0 finished, %d cancelled"`, i+1))
		if state := b.eval(`$("state").textContent`); state != "stopped" {
			t.Errorf("%s: the page is %q", way, state)
		}
	}
	for i, way := range []string{"events", "socket"} { // a page that is left without a word
		b.eval(`$("` + way + `").click()`)
		b.until(`$("said").textContent.length > 20`)
		b.eval(`location.reload(), 0`)
		awaitStats(t, slow, Stats{Cancelled: int64(3 + i)})
		b.until(`document.readyState == "complete" && $("state").textContent == "idle"`)
	}
}
