package peer

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
)

// item is the kind of frames that are an item of a stream: their call goes on.
const item = 4

// Relay is the minimal relay between the two connections that it accepts, the callee's first: frames of a header and a body, ids mapped, one
// write per read.
func Relay(l net.Listener) error {
	callee, err := l.Accept()
	if err != nil {
		return err
	}
	defer callee.Close()
	calling, err := l.Accept()
	if err != nil {
		return err
	}
	defer calling.Close()
	var mu sync.Mutex
	pending := map[uint64]uint64{}
	next := uint64(0)
	go func() {
		relay(calling, callee, func(_ uint32, id uint64) uint64 {
			mu.Lock()
			defer mu.Unlock()
			next++
			pending[next] = id
			return next
		})
		callee.Close() // ends the other direction
	}()
	relay(callee, calling, func(kind uint32, id uint64) uint64 {
		mu.Lock()
		defer mu.Unlock()
		was := pending[id]
		if kind != item {
			delete(pending, id)
		}
		return was
	})
	return nil
}

// relay copies frames (u32 length, u32 type, u64 id, body), giving each the id that its receiver knows, until one side
// ends or sends a frame larger than the buffer.
func relay(from io.Reader, to io.Writer, rename func(kind uint32, id uint64) uint64) {
	in := make([]byte, 256<<10)
	lo, hi := 0, 0
	for hi < len(in) {
		n, err := from.Read(in[hi:])
		if err != nil {
			return
		}
		hi += n
		start := lo
		for hi-lo >= 16 {
			size := 16 + int(binary.LittleEndian.Uint32(in[lo:]))
			if hi-lo < size {
				break
			}
			kind, id := binary.LittleEndian.Uint32(in[lo+4:]), in[lo+8:lo+16]
			binary.LittleEndian.PutUint64(id, rename(kind, binary.LittleEndian.Uint64(id)))
			lo += size
		}
		if lo > start {
			if _, err := to.Write(in[start:lo]); err != nil {
				return
			}
		}
		hi = copy(in, in[lo:hi])
		lo = 0
	}
}
