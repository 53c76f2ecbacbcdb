package rest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/listen"
)

// Client asks the admin interface of one node. Its methods may be called from any goroutine.
type Client struct {
	address string
	base    string
	http    *http.Client
	local   bool // the node runs on this machine

	mu     sync.Mutex
	token  string
	tokens func() []string // others to try; nil for none
}

// Access has the token of a client, and the authorities by which the client knows the node.
type Access struct {
	// Token is the bearer token; "" for none.
	Token string
	// Tokens finds tokens that a node on this machine may take. It is asked once, when such a node wants one and Token is "". nil for none.
	Tokens func() []string
	// CA is a file with the certificates of the authorities that the certificate of the node must be from; "" for those of the system.
	CA string
}

// Dial gives a client without a token: see [Open].
func Dial(address string) (*Client, error) { return Open(address, Access{}) }

// Open gives a client for an address: the path of a unix socket, or a host and port, or a URL with these. It does not connect yet.
func Open(address string, access Access) (*Client, error) {
	c := &Client{address: address, http: &http.Client{CheckRedirect: stay}, token: access.Token}
	if strings.HasPrefix(address, "/") || strings.HasPrefix(address, "unix:") {
		path := strings.TrimPrefix(address, "unix:")
		c.base, c.local = "http://localhost", true
		c.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}
		return c, nil
	}
	scheme, host := "http", address
	if before, after, ok := strings.Cut(address, "://"); ok {
		scheme, host = before, after
	}
	host = strings.TrimSuffix(host, "/")
	name, _, err := net.SplitHostPort(host)
	if err != nil || strings.ContainsAny(host, "/?#@") || scheme != "http" && scheme != "https" {
		return nil, fmt.Errorf("address %q: must be a host and port such as 127.0.0.1:8265, or the path of a unix socket, or a URL such as https://node-1:8265", address)
	}
	c.local = listen.Loopback(name)
	if !c.local && scheme == "http" && access.Token != "" {
		return nil, fmt.Errorf("address %q: a token goes to another machine over TLS only: write https://%s", address, host)
	}
	transport := &http.Transport{Proxy: nil}
	if access.CA != "" {
		pem, err := os.ReadFile(access.CA)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM", access.CA)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if c.local {
		c.tokens = access.Tokens
	}
	c.base, c.http.Transport = scheme+"://"+host, transport
	return c, nil
}

// stay follows no redirect, which no node answers: the token would go to another port of the same host, or there without TLS.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Local says whether the node runs on this machine, so that paths of files mean the same for both.
func (c *Client) Local() bool { return c.local }

// Address is the argument of [Dial].
func (c *Client) Address() string { return c.address }

// URL is the URL of the node; "" for a node behind a socket.
func (c *Client) URL() string {
	if strings.HasPrefix(strings.TrimPrefix(c.address, "unix:"), "/") {
		return ""
	}
	return c.base
}

// Close closes connections that wait for the next question. A question after that opens new ones.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Curl is the command line with which a user of a shell reads a path.
func (c *Client) Curl(path string) string {
	if socket := strings.TrimPrefix(c.address, "unix:"); strings.HasPrefix(socket, "/") {
		if strings.ContainsAny(socket, " \t'\"\\$&;()<>|*?[]#~`!") {
			socket = "'" + strings.ReplaceAll(socket, "'", `'\''`) + "'"
		}
		return "curl --unix-socket " + socket + " " + c.base + path
	}
	return "curl " + c.base + path
}

// answerMax bounds the bytes of one answer.
const answerMax = 256 << 20

// Get reads a path into out.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	return c.Do(ctx, http.MethodGet, path, query, nil, out)
}

// Do sends a request with in as JSON, nil for no body, and reads the answer into out, nil for none. An answer that is an error is a
// *[helvetype.OperationError]; a node that does not answer is an [UnreachableError].
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	b, err := c.raw(ctx, method, path, query, in)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%s%s: %w", c.address, path, err)
	}
	return nil
}

// Copy writes the answer of a path to w.
func (c *Client) Copy(ctx context.Context, path string, w io.Writer) error {
	body, err := c.open(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("%s%s: %w", c.address, path, err)
	}
	return nil
}

// raw is an answer of any form.
func (c *Client) raw(ctx context.Context, method, path string, query url.Values, in any) ([]byte, error) {
	body, err := c.open(ctx, method, path, query, in)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, answerMax))
	if err != nil {
		return nil, &UnreachableError{c.address, err}
	}
	return b, nil
}

// UnreachableError says that no node answers at an address.
type UnreachableError struct {
	Address string
	Err     error
}

// Error names the address.
func (e *UnreachableError) Error() string {
	return "no node answers at " + e.Address + ": " + e.Err.Error()
}

// Unwrap is the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// open sends a request, with the token of the node if the files of this user have it. A request without it first was tried: each of them is a refusal in the log and the audit log of
// the node, as is that of an intruder.
func (c *Client) open(ctx context.Context, method, path string, query url.Values, in any) (io.ReadCloser, error) {
	var text []byte
	if in != nil {
		var err error
		if text, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	c.mu.Lock()
	token := c.token
	c.mu.Unlock()
	if token != "" || c.tokens == nil {
		return c.send(ctx, method, target, token, text)
	}
	for _, token := range c.tokens() {
		body, err := c.send(ctx, method, target, token, text)
		if refused, ok := errors.AsType[*helvetype.OperationError](err); ok && refused.Code == helvetype.CodeUnauthenticated {
			continue
		}
		c.mu.Lock()
		c.token = token
		c.mu.Unlock()
		return body, err
	}
	return c.send(ctx, method, target, "", text)
}

func (c *Client) send(ctx context.Context, method, target, token string, text []byte) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if len(text) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // without the URL, whose host is invented for a socket
		}
		return nil, &UnreachableError{c.address, err}
	}
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if bytes.Contains(b, []byte("HTTP request to an HTTPS server")) { // the answer of a server of net/http
		return nil, &UnreachableError{c.address, errors.New("it takes TLS only: write https:// in front of the address")}
	}
	failed := &helvetype.OperationError{}
	if json.Unmarshal(b, failed) != nil || failed.Message == "" {
		failed = &helvetype.OperationError{Message: fmt.Sprintf("%s answers %s: %s", c.address, resp.Status, strings.TrimSpace(string(b)))}
	}
	if failed.Code == helvetype.CodeOK {
		failed.Code = CodeOf(resp.StatusCode)
	}
	return nil, failed
}

// lineMax bounds a line of a stream.
const lineMax = 1 << 20

// Lines reads a path line by line, until ctx ends, the node does, or line returns an error, which Lines returns.
func (c *Client) Lines(ctx context.Context, path string, query url.Values, line func([]byte) error) error {
	body, err := c.open(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	in := bufio.NewScanner(body)
	in.Buffer(nil, lineMax)
	for in.Scan() {
		if err := line(in.Bytes()); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := in.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return ErrEnded
}

// ErrEnded is the error of [Client.Lines] when the node has ended.
var ErrEnded = errors.New("the node has ended")

// askTime bounds one question to a node that may hang.
const askTime = 5 * time.Second

// About asks which node it is.
func (c *Client) About(ctx context.Context) (a About, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askTime, fmt.Errorf("no answer within %s", askTime))
	defer cancel()
	return a, c.Get(ctx, "/", nil, &a)
}
