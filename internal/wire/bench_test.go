package wire

import (
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// handed is a sink that keeps nothing.
type handed chan *call.Error

func (h handed) Complete(_ *call.Batch, r call.Result) { h <- r.Err }

// BenchmarkEcho sends values there and back: over a bare socket, over one connection, and over two.
func BenchmarkEcho(b *testing.B) {
	for _, n := range []int{1 << 20, 10 << 20} {
		data := pattern(n)
		b.Run(fmt.Sprintf("%dMB/socket", n>>20), func(b *testing.B) {
			x, y := pair(b)
			go func() {
				for {
					buf := make([]byte, n)
					if _, err := io.ReadFull(y, buf); err != nil {
						return
					}
					if _, err := y.Write(buf); err != nil {
						return
					}
				}
			}()
			b.SetBytes(int64(2 * n))
			for b.Loop() {
				if _, err := x.Write(data); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(x, make([]byte, n)); err != nil {
					b.Fatal(err)
				}
			}
		})
		for name, connect := range map[string]func(testing.TB) *Peer{
			"one": func(t testing.TB) *Peer { p, _ := connect(t, &server{}, &server{}); return p },
			"two": func(t testing.TB) *Peer { p, _ := linked(t, &server{}, &server{}, bulkTerms, bulkTerms); return p },
		} {
			b.Run(fmt.Sprintf("%dMB/%s", n>>20, name), func(b *testing.B) {
				p := connect(b)
				done := make(handed, 1)
				b.SetBytes(int64(2 * n))
				for b.Loop() {
					p.Start(nil, 0, raw(data), 0, done)
					if e := <-done; e != nil {
						b.Fatal(e)
					}
				}
			})
		}
	}
}

// BenchmarkBeside makes small calls, one at a time, beside eight callers with 1 MB, and prints their median.
func BenchmarkBeside(b *testing.B) {
	for name, connect := range map[string]func(testing.TB) *Peer{
		"one": func(t testing.TB) *Peer { p, _ := connect(t, &server{}, &server{}); return p },
		"two": func(t testing.TB) *Peer { p, _ := linked(t, &server{}, &server{}, bulkTerms, bulkTerms); return p },
	} {
		b.Run(name, func(b *testing.B) {
			p := connect(b)
			stop := make(chan struct{})
			defer close(stop)
			data := pattern(1 << 20)
			for range 8 {
				go func() {
					done := make(handed, 1)
					for {
						p.Start(nil, 0, raw(data), 0, done)
						select {
						case <-done:
						case <-stop:
							return
						}
					}
				}()
			}
			var took []time.Duration
			done := make(handed, 1)
			for b.Loop() {
				at := time.Now()
				p.Start(nil, 0, raw([]byte("small")), 0, done)
				if e := <-done; e != nil {
					b.Fatal(e)
				}
				took = append(took, time.Since(at))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
		})
	}
}

// BenchmarkOpening measures the cost of the second connection at the start of a worker.
func BenchmarkOpening(b *testing.B) {
	token := NewToken()
	for b.Loop() {
		x, y := net.Pipe()
		go Offer{Version: "v", Node: "n"}.Accept(x, func(Hello) (Token, error) { return token, nil }) //nolint:errcheck // Open tells
		if _, err := Open(y, token, Hello{Kind: "worker"}); err != nil {
			b.Fatal(err)
		}
		x.Close()
		y.Close()
	}
}
