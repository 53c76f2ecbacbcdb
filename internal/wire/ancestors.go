package wire

import "github.com/helve-serve/helve/internal/call"

// The ancestors of a call travel as far as only the worker knows them: up to the call that the node sent it. From there on the node
// knows them itself, so a call carries 14 bytes as a rule, however deep it is, and the node looks them up only when it has to wait.

// ID is the low half of the frame's id.
func (in *Incoming) ID() uint32 { return uint32(in.id) }

// Outgoing is the sink of a call that this side has sent and that has not ended, by the low half of its id; nil if there is none.
func (p *Peer) Outgoing(id uint32) call.Sink {
	p.mu.Lock()
	defer p.mu.Unlock()
	full := p.nextCall&^(1<<32-1) | uint64(id)
	if full > p.nextCall {
		full -= 1 << 32
	}
	return p.calls[full].sink
}

// appendAbove writes the tail entry of a call that was made in a worker's method. In a node there is no frame above, and
// nothing is written.
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

// parseAbove reads what appendAbove wrote, and how the call hangs on the nearest.
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
