package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve"
)

// httpBareRole is net/http with the same handler: it reads the body and sends it back as text.
func httpBareRole() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write(body)
	}))
	fmt.Println(l.Addr())
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// httpHelveRole is the proxy, the router and a Go replica in the node.
func httpHelveRole() error {
	s, _, err := startEcho(helve.InNode)
	if err != nil {
		return err
	}
	defer s.Close(context.Background())
	url, _, err := s.Serve("127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(strings.TrimPrefix(url, "http://"))
	io.Copy(io.Discard, os.Stdin)
	return nil
}

type load struct {
	Rate float64
	P50  time.Duration
	P99  time.Duration
}

// loadRole is the client: keep-alive connections, one request at a time on each, as little work per request as can be.
func loadRole() error {
	addr := os.Getenv("BENCH_ADDR")
	conns, err := strconv.Atoi(os.Getenv("BENCH_CONNS"))
	if err != nil {
		return err
	}
	length, err := time.ParseDuration(os.Getenv("BENCH_TIME"))
	if err != nil {
		return err
	}
	request := []byte("POST / HTTP/1.1\r\nHost: bench\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nworld")
	var mu sync.Mutex
	var all []time.Duration
	var first error
	var wg sync.WaitGroup
	start := time.Now()
	end := start.Add(length)
	for range conns {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			var mine []time.Duration
			if err == nil {
				defer c.Close()
				r := bufio.NewReader(c)
				for time.Now().Before(end) {
					t := time.Now()
					if _, err = c.Write(request); err != nil {
						break
					}
					if err = readResponse(r); err != nil {
						break
					}
					mine = append(mine, time.Since(t))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
			if first == nil {
				first = err
			}
		})
	}
	wg.Wait()
	if first != nil {
		return first
	}
	slices.Sort(all)
	return json.NewEncoder(os.Stdout).Encode(load{
		float64(len(all)) / time.Since(start).Seconds(), all[len(all)/2], all[len(all)*99/100],
	})
}

// readResponse reads a response that has a Content-Length.
func readResponse(r *bufio.Reader) error {
	n := -1
	for i := 0; ; i++ {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		switch {
		case i == 0:
			if !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
				return fmt.Errorf("answer %q", line)
			}
		case len(line) == 2:
			if n < 0 {
				return fmt.Errorf("no Content-Length")
			}
			_, err := r.Discard(n)
			return err
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			if n, err = strconv.Atoi(string(bytes.TrimSpace(line[16:]))); err != nil {
				return err
			}
		}
	}
}

func measureHTTP(addr string, conns int, length time.Duration) (load, error) {
	var l load
	out, err := child("load", "BENCH_ADDR="+addr, "BENCH_CONNS="+strconv.Itoa(conns), "BENCH_TIME="+length.String()).Output()
	if err != nil {
		return l, err
	}
	return l, json.Unmarshal(out, &l)
}

func httpRows(b *bench) ([]row, error) {
	stop1, ours, err := serve("http-helve")
	if err != nil {
		return nil, err
	}
	defer stop1()
	stop2, bare, err := serve("http-bare")
	if err != nil {
		return nil, err
	}
	defer stop2()
	ours, bare = strings.TrimSpace(ours), strings.TrimSpace(bare)
	rate := func(addr string) func() (float64, error) {
		return func() (float64, error) { l, err := measureHTTP(addr, 64, b.length); return l.Rate, err }
	}
	p50 := func(addr string) func() (float64, error) {
		return func() (float64, error) { l, err := measureHTTP(addr, 1, b.length/2); return float64(l.P50), err }
	}
	o, r, err := b.both(rate(ours), rate(bare))
	if err != nil {
		return nil, err
	}
	rows := []row{{"HTTP noop, 64 connections / net/http", perSecond(o), perSecond(r), o / r, 0.75, true}}
	if o, r, err = b.both(p50(ours), p50(bare)); err != nil {
		return nil, err
	}
	return append(rows, row{"HTTP noop, p50 at 1 / net/http", us(time.Duration(o)), us(time.Duration(r)), o / r, 0, false}), nil
}
