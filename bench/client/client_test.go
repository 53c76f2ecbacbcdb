package client

import (
	"bufio"
	"strings"
	"testing"
)

func TestReadResponse(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nworld"
	const chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nwor\r\n2\r\nld\r\n0\r\n\r\n"
	lower := strings.ReplaceAll(ok, "Content-", "content-")
	for name, c := range map[string]struct {
		in   string
		fail bool
	}{
		"two":        {in: ok + ok},
		"lower case": {in: lower + lower},
		"chunks":     {in: chunks + chunks},
		"no end":     {in: strings.TrimSuffix(chunks, "0\r\n\r\n"), fail: true},
		"long chunk": {in: strings.Replace(chunks, "3\r\n", "2\r\n", 1), fail: true},
		"error":      {in: "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", fail: true},
		"no length":  {in: "HTTP/1.1 200 OK\r\n\r\n", fail: true},
		"short body": {in: ok[:len(ok)-1], fail: true},
		"nothing":    {fail: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := bufio.NewReader(strings.NewReader(c.in))
			err := readResponse(r, "HTTP/1.1 200")
			if (err != nil) != c.fail {
				t.Fatalf("error %v", err)
			}
			if c.fail {
				return
			}
			if err := readResponse(r, "HTTP/1.1 200"); err != nil {
				t.Fatalf("second response: %v", err)
			}
			if r.Buffered() != 0 {
				t.Errorf("%d bytes left", r.Buffered())
			}
		})
	}
}
