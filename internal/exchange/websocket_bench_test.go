package exchange

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// idleReplica is a Stream of a replica that accepts, and ends when its client has gone.
type idleReplica struct {
	accepted <-chan part
	closed   chan struct{}
}

func (r *idleReplica) Send(_ context.Context, kind Kind, _ []byte) error {
	if kind == Close {
		close(r.closed)
	}
	return nil
}

func (r *idleReplica) Receive(context.Context) (Kind, []byte, bool, error) {
	select {
	case p, ok := <-r.accepted:
		if ok {
			r.accepted = nil
			return p.kind, nil, false, nil
		}
	case <-r.closed:
	}
	return 0, nil, false, io.EOF
}

func (r *idleReplica) Wanted(context.Context) error { return nil }

// BenchmarkIdleWebSocket prints the memory of a WebSocket without traffic: its objects and the stacks of its goroutines, of net/http and
// of this package. The replica is a channel. The clients are bare descriptors, which cost no memory of the process.
func BenchmarkIdleWebSocket(b *testing.B) {
	path := filepath.Join(b.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	accepted := make(chan part, 1)
	var serving sync.WaitGroup
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serving.Add(1)
		defer serving.Done()
		ServeWebSocket(w, r, &idleReplica{accepted, make(chan struct{})}, WebSocketLimits{})
	})}
	go server.Serve(listener)
	defer server.Close()
	buf := make([]byte, 1024)
	connect := func() int {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			b.Fatal(err)
		}
		if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
			b.Fatal(err)
		}
		syscall.Write(fd, []byte(handshake+"\r\n"))
		accepted <- part{Accept, ""}
		for n := 0; !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")); {
			m, err := syscall.Read(fd, buf[n:])
			if err != nil || m == 0 {
				b.Fatalf("%s %v", buf[:n], err)
			}
			n += m
		}
		return fd
	}
	memory := func() (heap, stack uint64) {
		for range 5 { // each halves the stacks that are mostly empty
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, m.StackInuse
	}
	fds := make([]int, 0, b.N)
	heap, stack := memory()
	b.ResetTimer()
	for range b.N {
		fds = append(fds, connect())
	}
	b.StopTimer()
	heapAfter, stackAfter := memory()
	b.ReportMetric(float64(heapAfter-heap)/float64(b.N), "heap-B/conn")
	b.ReportMetric((float64(stackAfter)-float64(stack))/float64(b.N), "stack-B/conn")
	for _, fd := range fds {
		syscall.Close(fd)
	}
	serving.Wait()
}
