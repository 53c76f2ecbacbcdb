package admin

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// pipes is a listener whose clients are the other ends of pipes.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	nc, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return nc, nil
}

func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// TestBodiesThatDoNotCome: a client that promises a body and does not send it loses its connection, whatever the answer is. It would hold one of the bounded number
// of connections for ever.
func TestBodiesThatDoNotCome(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		request, host string
		role          helvetype.Role
		remote        bool
	}{
		"of a route with a body":     {"POST /api/v1/applications/app/deployments/D/scale", "127.0.0.1", helvetype.RoleDeploy, false},
		"of a route without a body":  {"GET /api/v1/status", "127.0.0.1", helvetype.RoleRead, false},
		"of a refused role":          {"DELETE /api/v1/applications/app", "127.0.0.1", helvetype.RoleRead, false},
		"of a refused host":          {"GET /", "evil.example", "", false},
		"of a path that is not":      {"GET /none", "127.0.0.1", "", false},
		"of a client without token":  {"GET /", "node", "", true},
		"of a reader that follows":   {"GET /events?follow", "127.0.0.1", helvetype.RoleRead, false},
		"of a method that is not":    {"PUT /", "127.0.0.1", "", false},
		"of a query that is refused": {"GET /?x=1", "127.0.0.1", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := operate(t)
				server := o.tcp
				if c.remote {
					server = o.open
				}
				l := make(pipes, 1)
				go server.Serve(l) //nolint:errcheck // until the end of the test
				defer close(l)
				ours, theirs := net.Pipe()
				defer ours.Close()
				l <- theirs
				begin := time.Now()
				token := ""
				if c.role != "" {
					token = "Authorization: Bearer " + o.tokens[c.role] + "\r\n"
				}
				if _, err := fmt.Fprintf(ours, "%s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: 10\r\n\r\n", c.request, c.host, token); err != nil {
					t.Fatal(err)
				}
				ours.SetReadDeadline(begin.Add(time.Hour)) //nolint:errcheck // a pipe
				in := bufio.NewReader(ours)
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode < 400 {
					t.Errorf("%d", resp.StatusCode)
				}
				for err == nil {
					_, err = in.ReadByte()
				}
				if took := time.Since(begin); took > 2*bodyTime {
					t.Errorf("the connection was open for %s", took)
				}
			})
		})
	}
}

// TestStreamsOutlastBodies: the time for a body does not end a stream.
func TestStreamsOutlastBodies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := operate(t)
		l := make(pipes, 1)
		go o.tcp.Serve(l) //nolint:errcheck // until the end of the test
		defer close(l)
		ours, theirs := net.Pipe()
		defer ours.Close()
		l <- theirs
		if _, err := fmt.Fprintf(ours, "GET /events?follow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(ours)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		time.Sleep(2 * bodyTime) // of the bubble
		node, _ := o.set.Node.(fileNode)
		node.events.Emit(helvetype.Event{Object: helvetype.Object{Kind: helvetype.KindNode}, Reason: "r"})
		if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
			t.Errorf("%q, %v", line, err)
		}
	})
}
