package wire

import "github.com/helve-serve/helve/internal/call"

// A call made inside of a method has ancestors: the call that runs the method, the call above that, and so on. A node
// uses them to find calls that wait for each other in a circle. A worker sends the ancestors up to the first call that
// the node has sent to it, because the node knows the rest. So this entry usually takes 14 bytes, however deep the call
// is, and the node looks at it only when the call has to wait for a slot.

// ID returns the low half of the id of the call's frame.
func (in *Incoming) ID() uint32 { return uint32(in.id) }

// Outgoing returns the sink of a call that this side has sent and that has not ended. id is the low half of its id. The
// result is nil if there is no such call.
func (p *Peer) Outgoing(id uint32) call.Sink {
	p.mu.Lock()
	defer p.mu.Unlock()
	full := p.nextCall&^(1<<32-1) | uint64(id)
	if full > p.nextCall {
		full -= 1 << 32
	}
	return p.calls[full].sink
}

// appendAbove appends the tail entry "above" of a call that a method in a worker has made. In a node it appends nothing.
func appendAbove(b []byte, i *call.Info) []byte {
	start := len(b)
	b = append(b, 5)
	b = append(b, "above\x00\x00"...)
	value := len(b)
	hops := 0
	for i.Above != nil && hops < MaxDepth {
		up := i.Above
		b = append(b, byte(i.Link))
		if up.Frame != 0 {
			b = append(b, 0)
			b = le.AppendUint32(b, up.Frame)
			le.PutUint16(b[value-2:], uint16(len(b)-value))
			return b
		}
		if up.Replica == "" || len(up.Replica) > 255 || len(up.Method) > 255 {
			break
		}
		b = append(b, byte(len(up.Replica)))
		b = append(b, up.Replica...)
		b = append(b, byte(len(up.Method)))
		b = append(b, up.Method...)
		hops++
		i = up
	}
	return b[:start]
}

// parseAbove reads the entry "above". link says how the call depends on its nearest ancestor.
func parseAbove(v []byte) (a *call.Above, link call.Link, ok bool) {
	a = &call.Above{}
	for n := 0; ; n++ {
		if len(v) < 2 || n > MaxDepth || v[0] > byte(call.Awaited) {
			return nil, 0, false
		}
		l := call.Link(v[0])
		if n == 0 {
			link = l
		}
		size := int(v[1])
		v = v[2:]
		if size == 0 {
			if len(v) != 4 {
				return nil, 0, false
			}
			a.Frame, a.Link = le.Uint32(v), l
			return a, link, true
		}
		if len(v) < size+1 || len(v) < size+1+int(v[size]) {
			return nil, 0, false
		}
		end := size + 1 + int(v[size])
		a.Hops = append(a.Hops, call.Hop{Link: l, Replica: string(v[:size]), Method: string(v[size+1 : end])})
		v = v[end:]
	}
}
