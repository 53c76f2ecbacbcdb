package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client reads the admin interface of one node.
type Client struct {
	address string
	base    string
	http    *http.Client
}

// Dial gives a client for an address: the path of a unix socket, or a host and port, or a URL with these. It does not connect yet.
func Dial(address string) (*Client, error) {
	c := &Client{address: address, http: &http.Client{}}
	if strings.HasPrefix(address, "/") || strings.HasPrefix(address, "unix:") {
		path := strings.TrimPrefix(address, "unix:")
		c.base = "http://localhost"
		c.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}
		return c, nil
	}
	host := strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/")
	if _, _, err := net.SplitHostPort(host); err != nil || strings.ContainsAny(host, "/?#") {
		return nil, fmt.Errorf("address %q: must be a host and port such as 127.0.0.1:8265, or the path of a unix socket", address)
	}
	c.base = "http://" + host
	c.http.Transport = &http.Transport{Proxy: nil}
	return c, nil
}

// Address is the argument of [Dial].
func (c *Client) Address() string { return c.address }

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
	body, err := c.open(ctx, path, query)
	if err != nil {
		return err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, answerMax))
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil {
		return fmt.Errorf("%s%s: %w", c.address, path, err)
	}
	return nil
}

func (c *Client) open(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // without the URL, whose host is invented for a socket
		}
		return nil, fmt.Errorf("no node answers at %s: %w", c.address, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var f Failure
	if json.Unmarshal(b, &f) != nil || f.Error == "" {
		f.Error = strings.TrimSpace(string(b))
	}
	return nil, fmt.Errorf("%s answers %s: %s", c.address, resp.Status, f.Error)
}

// lineMax bounds a line of a stream.
const lineMax = 1 << 20

// Lines reads a path line by line, until ctx ends, the node does, or line returns an error, which Lines returns.
func (c *Client) Lines(ctx context.Context, path string, query url.Values, line func([]byte) error) error {
	body, err := c.open(ctx, path, query)
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
