package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/updates"
)

// TestLogs: the newest lines, and how many are not kept.
func TestLogs(t *testing.T) {
	t.Parallel()
	o := operate(t)
	o.operator.lines = []helvetype.LogLine{{App: "app", Text: "one"}, {App: "app", Text: "two"}}
	w := o.ask(t, helvetype.RoleRead, "GET /api/v1/logs?app=app&tail=5", "")
	var list rest.LogList
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list.Lines) != 2 || list.Missed != 3 || o.operator.last() != "logs app tail=5 follow=false" {
		t.Errorf("%d %s, asked %q", w.Code, w.Body, o.operator.last())
	}
	o.operator.fail(&helvetype.OperationError{Code: helvetype.CodeNotFound, Message: "no app"})
	if w := o.ask(t, helvetype.RoleRead, "GET /api/v1/logs?follow", ""); w.Code != 404 || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// TestStreams: a client gets lines of JSON, or server-sent events if it takes these, as they come; Close ends the stream.
func TestStreams(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path, accept, kind string
		want               []string
	}{
		"lines":            {"/api/v1/logs?follow", "*/*", "application/jsonl", []string{`{"missed":3}`, `{"time":"0001-01-01T00:00:00Z","level":"","message":"one"}`, `{"time":"0001-01-01T00:00:00Z","level":"","message":"two"}`}},
		"events of a page": {"/api/v1/logs", "text/event-stream", "text/event-stream", []string{"event: missed", `data: {"missed":3}`, "", "event: line", `data: {"time":"0001-01-01T00:00:00Z","level":"","message":"one"}`, "", "event: line", `data: {"time":"0001-01-01T00:00:00Z","level":"","message":"two"}`, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := operate(t)
			o.operator.lines = []helvetype.LogLine{{Text: "one"}}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- o.Serve(l) }()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+c.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+o.tokens[helvetype.RoleRead])
			req.Header.Set("Accept", c.accept)
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if kind := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || kind != c.kind {
				t.Fatalf("%d, %s", resp.StatusCode, kind)
			}
			o.operator.more <- helvetype.LogLine{Text: "two"}
			lines := bufio.NewReader(resp.Body)
			for _, want := range c.want {
				if line, err := lines.ReadString('\n'); err != nil || line != want+"\n" {
					t.Fatalf("%q, want %q: %v", line, want, err)
				}
			}
			o.Close()
			if _, err := lines.ReadString('\n'); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the end is %v", err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHeadOfAStream: HEAD has the type of the stream, and its answer ends at once.
func TestHeadOfAStream(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/api/v1/events?follow", "/api/v1/logs?follow", "/api/v1/updates"} {
		synctest.Test(t, func(t *testing.T) {
			o := operate(t)
			defer o.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			o.set.Updates = updates.New(ctx, &quiet{telemetry.NewEvents(nil)})
			r := httptest.NewRequestWithContext(ctx, http.MethodHead, path, http.NoBody)
			r.Host, r.RemoteAddr = "127.0.0.1:8265", "127.0.0.1:1234"
			r.Header.Set("Authorization", "Bearer "+o.tokens[helvetype.RoleRead])
			w, begun := httptest.NewRecorder(), time.Now()
			o.tcp.Handler.ServeHTTP(w, r)
			if took := time.Since(begun); w.Code != 200 || w.Header().Get("Content-Type") != "application/jsonl" || took != 0 || len(o.streams) != 0 {
				t.Errorf("%s: %d after %v, %v, %d readers", path, w.Code, took, w.Header(), len(o.streams))
			}
		})
	}
}

// quiet is a node in which nothing happens.
type quiet struct{ events *telemetry.Events }

func (q *quiet) Facts(context.Context) *updates.Facts { return &updates.Facts{At: time.Now()} }
func (q *quiet) Events() *telemetry.Events            { return q.events }

// TestEventsGoOnAfterTheLastOne: a page that connects again sends the id of the last event that it has.
func TestEventsGoOnAfterTheLastOne(t *testing.T) {
	t.Parallel()
	o := operate(t)
	node, _ := o.set.Node.(fileNode)
	for range 3 {
		node.events.Emit(helvetype.Event{Object: helvetype.Object{Kind: helvetype.KindNode}, Reason: "r"})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := &stalled{ResponseWriter: httptest.NewRecorder(), begun: make(chan struct{}), goOn: make(chan struct{}), wrote: make(chan struct{}, 1)}
	close(w.goOn)
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/events", nil)
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Last-Event-ID", "2")
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.unix.Handler.ServeHTTP(w, r)
	}()
	<-w.begun
	for !strings.Contains(w.text(), "\n\n") {
		<-w.wrote
	}
	cancel()
	<-done
	if text := w.text(); !strings.HasPrefix(text, "id: 3\nevent: transition\ndata: {") || strings.Count(text, "id: ") != 1 {
		t.Errorf("%s", text)
	}
}

// TestStreamsAreBounded: one reader more is told to come again. Readers without a token take no place of the others.
func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	o := operate(t)
	for range strangeMax {
		o.strange <- struct{}{}
	}
	if w := o.ask(t, "", "GET /events?follow", ""); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/events?follow", nil)
	w := httptest.NewRecorder()
	if o.unix.Handler.ServeHTTP(w, r); w.Code != 200 {
		t.Errorf("over the socket: %d %s", w.Code, w.Body)
	}
	for range streamsMax {
		o.streams <- struct{}{}
	}
	if w := o.ask(t, helvetype.RoleDeploy, "GET /events?follow", ""); w.Code != 503 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
