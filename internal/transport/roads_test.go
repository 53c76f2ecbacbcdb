package transport_test

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/wire"
)

// framed sees the frames that are written to a connection.
type framed struct {
	net.Conn

	mu     sync.Mutex
	frames map[wire.Type]int // that were written whole
	head   []byte            // of the frame that is being written
	body   int               // bytes of it that are still to come
	left   int               // whole frames until cut; negative for never
	cut    func(nc net.Conn)
	over   bool
	valve  valve // nil: open
}

// valve lets nothing through while it is shut. It is a channel, so that a bubble sees who waits at it.
type valve chan struct{}

func newValve() valve { return make(valve, 1) }
func (v valve) shut() { v <- struct{}{} }
func (v valve) open() { <-v }

var errCut = errors.New("the connection was cut")

// Write passes whole frames on until it is time to cut.
func (f *framed) Write(p []byte) (int, error) {
	if f.valve != nil {
		f.valve.shut()
		f.valve.open()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for n < len(p) && !f.over {
		if f.left == 0 && len(f.head) == 0 {
			f.over = true
			break
		}
		if len(f.head) < 16 {
			k := min(16-len(f.head), len(p)-n)
			f.head = append(f.head, p[n:n+k]...)
			n += k
			if len(f.head) < 16 {
				break
			}
			f.body = int(binary.LittleEndian.Uint32(f.head)) + int(binary.LittleEndian.Uint16(f.head[4:]))
		}
		k := min(f.body, len(p)-n)
		f.body -= k
		n += k
		if f.body == 0 {
			f.frames[wire.Type(f.head[6])]++
			f.head = f.head[:0]
			f.left--
		}
	}
	if k, err := f.Conn.Write(p[:n]); err != nil {
		return k, err
	}
	if f.over {
		f.cut(f.Conn)
		return n, errCut
	}
	return n, nil
}

func (f *framed) count(t wire.Type) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.frames[t]
}

func (f *framed) total() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.frames {
		n += k
	}
	return n
}

func watched(nc net.Conn) *framed { return &framed{Conn: nc, frames: map[wire.Type]int{}, left: -1} }

// die is the end of a process.
func die(nc net.Conn) {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	nc.Close()
}

// deafen ends one direction.
func deafen(nc net.Conn) { nc.(interface{ CloseWrite() error }).CloseWrite() }

// delayed is a connection whose bytes arrive late, but no fewer of them.
type delayed struct {
	net.Conn
	latency *atomic.Int64
	in      chan parcel
	now     parcel
}

type parcel struct {
	data []byte
	due  time.Time
	err  error
}

func newDelayed(nc net.Conn, latency *atomic.Int64) *delayed {
	d := &delayed{Conn: nc, latency: latency, in: make(chan parcel, 10_000)}
	go func() {
		for {
			buf := make([]byte, 64<<10)
			n, err := nc.Read(buf)
			d.in <- parcel{buf[:n], time.Now().Add(time.Duration(latency.Load())), err}
			if err != nil {
				return
			}
		}
	}()
	return d
}

func (d *delayed) Read(p []byte) (int, error) {
	if len(d.now.data) == 0 && d.now.err == nil {
		d.now = <-d.in
		time.Sleep(time.Until(d.now.due))
	}
	if len(d.now.data) == 0 {
		return 0, d.now.err
	}
	n := copy(p, d.now.data)
	d.now.data = d.now.data[n:]
	return n, nil
}
