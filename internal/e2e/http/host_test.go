package http_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// host is a place for the code of the cases: the application that answers the paths of package subject (subject_test.go), in Go or in another
// language, in the node or in a process of its own.
type host struct {
	name string
	// start starts a node with the application below "/app", with so many slots.
	start func(t *testing.T, slots int) *node
	own   bool // the replica has a process, which can be killed
	takes bool // the code can take the connection over, and its WebSockets are its own
	few   bool // the host runs the cases that have few alone: its code is that of another host, and the start differs
	keeps bool // names of headers in answers keep the case that the code has given them
}

// node is a node that serves the application of the cases.
type node struct {
	url string // of the application, "http://127.0.0.1:1234/app"
	log *accessLog
	// redeploy replaces all replicas by new ones.
	redeploy func(t *testing.T)
}

// hosts are the places that all cases run in. A host of another language is one more entry.
func hosts() []host {
	return []host{
		{name: "in process", start: startIn(helvetest.Local), takes: true, keeps: true},
		{name: "worker", start: startIn(helvetest.Process), own: true, takes: true, keeps: true},
		{name: "Python worker", start: startPython, own: true},
		{name: "build", start: startBuild, own: true, takes: true, keeps: true, few: true},
		{name: "socket", start: startIn(helvetest.Socket), takes: true, keeps: true}, // a worker under the race detector
	}
}

// accessLog has the lines of a node's access log by the ids of their requests.
type accessLog struct {
	mu    sync.Mutex
	lines map[string]chan string
}

// Write implements io.Writer. It gets whole lines.
func (l *accessLog) Write(lines []byte) (int, error) {
	for line := range bytes.Lines(lines) {
		var of struct {
			ID string `json:"request_id"`
		}
		if err := json.Unmarshal(line, &of); err != nil {
			return 0, err
		}
		select {
		case l.of(of.ID) <- string(line):
		default: // a second request of the id
		}
	}
	return len(lines), nil
}

// of has the line of a request as soon as that has ended.
func (l *accessLog) of(id string) chan string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines == nil {
		l.lines = map[string]chan string{}
	}
	if l.lines[id] == nil {
		l.lines[id] = make(chan string, 1)
	}
	return l.lines[id]
}

// version is the version of the replicas that are started next.
var version atomic.Int64 //nolint:gochecknoglobals // builds are registered before the tests, and have no parameters

func buildWith(slots int) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp("app")
		app.RoutePrefix("/app")
		app.Ingress(helve.HTTP(helve.Deploy(app, "Subject", func(context.Context) (*subject, error) { return newSubject(), nil },
			helve.Options{MaxOngoingRequests: &slots, Version: strconv.FormatInt(version.Load(), 10)})))
		return app, nil
	}
}

var (
	buildMany = fixture.Register(buildWith(100))
	buildOne  = buildWith(1) // a worker needs no second one: the slots are the node's
)

func startIn(r helvetest.Runner) func(t *testing.T, slots int) *node {
	return func(t *testing.T, slots int) *node {
		t.Helper()
		build := buildMany
		if slots == 1 {
			build = buildOne
		}
		c, log := r.Config, &accessLog{}
		c.AccessLog, c.HTTPOptions.AccessLogFormat = log, "json"
		s := helvetest.Start(t, c, build)
		url, _, err := s.Serve("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return &node{url: url + "/app", log: log, redeploy: func(t *testing.T) {
			t.Helper()
			version.Add(1)
			if err := s.Deploy(t.Context(), build); err != nil {
				t.Error(err)
			}
		}}
	}
}

// startBuild starts a node whose application is in another executable: a copy of this one, which TestMain makes a worker. A redeploy
// deploys another executable, with one more byte, which the system's loader does not read.
func startBuild(t *testing.T, _ int) *node {
	t.Helper()
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path, more := filepath.Join(t.TempDir(), "program"), ""
	write := func() { // part by part: the cases of large bodies watch the heap of this process
		more += "\x00"
		from, err := os.Open(own)
		if err != nil {
			t.Fatal(err)
		}
		defer from.Close()
		to, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o700)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(to, io.MultiReader(from, strings.NewReader(more)))
		if err = errors.Join(err, to.Close(), os.Rename(path+".new", path)); err != nil { // processes that run keep their file
			t.Fatal(err)
		}
	}
	write()
	build := helve.Executable("exec:" + path + "#app")
	s := helvetest.Start(t, helve.Config{}, build)
	url, _, err := s.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &node{url: url + "/app", redeploy: func(t *testing.T) {
		t.Helper()
		write()
		if err := s.Deploy(t.Context(), build); err != nil {
			t.Error(err)
		}
	}}
}
