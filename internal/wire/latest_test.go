package wire

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/call"
)

// TestLatest: of what says how something is now, one frame of each type and id waits for a peer that does not read, the newest.
func TestLatest(t *testing.T) {
	t.Parallel()
	for name, pair := range map[string]func() (x, y net.Conn){
		"pipe": net.Pipe,
		"unix": func() (x, y net.Conn) { x, y = pair(t); return x, y },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := pair()
			defer a.Close()
			c := NewConn(a)
			stuff := pattern(sharedFrame)
			stuffed := 0
			for ; name == "unix" && c.written.Load() == c.queued || stuffed == 0; stuffed++ { // until the socket takes no more
				c.Append(Header{Type: TypeItems}, nil, stuff)
				c.Flush()
			}
			for taken := false; !taken; runtime.Gosched() { // by the writer, who waits now
				c.mu.Lock()
				taken = len(c.pend)+len(c.parts) == 0
				c.mu.Unlock()
			}
			for i := range 10_000 {
				if err := c.Replace(Header{Type: TypeLoad, ID: 1}, u32(uint32(i)), nil); err != nil {
					t.Fatal(err)
				}
				c.Replace(Header{Type: TypeLoad, ID: 2}, u32(uint32(i)), nil)
				c.Replace(Header{Type: TypeModels, ID: 1}, nil, fmt.Appendf(nil, "%*d", i%7, i)) // of every length
				c.Replace(Header{Type: TypeMember, ID: 9}, nil, nil)
				if c.Withdraw(TypeMember, 9) != true || c.Withdraw(TypeMember, 9) {
					t.Fatal("withdrawn twice, or not at all")
				}
				if i%100 == 0 {
					c.Flush()
				}
			}
			c.mu.Lock()
			if n := len(c.latest.order); n > 3 || len(c.latest.frames) != n {
				t.Errorf("%d frames wait, in an order of %d", len(c.latest.frames), n)
			}
			if wait := c.queued - c.written.Load(); wait > uint64(stuffed)*(headerLen+sharedFrame)+200 {
				t.Errorf("%d bytes wait", wait)
			}
			c.mu.Unlock()
			c.Append(Header{Type: TypeEnd}, nil)
			c.Flush()
			var got []string
			end := false
			NewConn(b).Read(func(_ *call.Batch, h Header, meta, body []byte) error {
				switch h.Type {
				case TypeItems:
				case TypeEnd:
					end = true
				case TypeLoad:
					got = append(got, fmt.Sprint("load ", h.ID, " ", le.Uint32(meta)))
				default:
					got = append(got, fmt.Sprint(h.Type, " ", h.ID, " ", strings.TrimSpace(string(body))))
				}
				newest := 0
				for _, s := range got {
					if strings.HasSuffix(s, " 9999") {
						newest++
					}
				}
				if end && newest == 3 {
					return ErrClosed
				}
				return nil
			})
			if len(got) != 3 {
				t.Errorf("arrived: %q", got)
			}
			if err := c.Replace(Header{Type: TypeModels, ID: 1}, nil, make([]byte, sharedFrame+1)); err == nil {
				t.Error("too large")
			}
			c.Close(ErrClosed)
			if err := c.Replace(Header{Type: TypeModels, ID: 1}, nil, nil); !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		})
	}
}

// TestChanged: the other side hears of full and not full, if it calls; what a later frame says is not said twice.
func TestChanged(t *testing.T) {
	t.Parallel()
	p, e, _, c, s := halfNodes(t, 2, func(*call.Batch, *Incoming) call.Canceler { return nil })
	serve(t, p)
	small := reader{t, e.small}
	small.expect(TypeMember, 0, 1)
	set := func(load int) { c.set(load); s.Changed() }
	waiting := func() int {
		p.conn.small.mu.Lock()
		defer p.conn.small.mu.Unlock()
		return len(p.conn.small.latest.order)
	}
	id := uint64(0)
	arrive := func(want Type, load uint32) {
		t.Helper()
		id++
		write(t, e.small, frameOf(Header{Type: TypeArrival, ID: id}, arrivalMeta(t, 1, 0, 0, nil), nil))
		if meta, _ := small.expect(want, 0, id); le.Uint32(meta) != load {
			t.Errorf("load %d", meta)
		}
	}
	load := func(want uint32) {
		t.Helper()
		if meta, _ := small.expect(TypeLoad, 0, 1); le.Uint32(meta) != want {
			t.Errorf("load %d", meta)
		}
	}
	set(2) // it has not called, so it is not told
	set(0)
	set(2)
	arrive(TypeReject, 2)
	set(1)
	load(1)
	for range 10 { // it has not called since
		set(2)
		set(0)
	}
	arrive(TypeAccept, 1)
	set(2)
	load(2)
	set(2)
	set(1)
	load(1)
	arrive(TypeAccept, 2)
	set(2) // which it knows
	p.conn.small.mu.Lock()
	p.conn.small.writing = true // somebody writes
	p.conn.small.mu.Unlock()
	set(1)
	if waiting() != 1 {
		t.Error("not told")
	}
	set(2)
	set(0)
	if waiting() != 1 {
		t.Errorf("%d frames wait", waiting())
	}
	s.Grant(nil, 1, 1) // says the load
	if waiting() != 0 {
		t.Error("said twice")
	}
	s.SetModels([]string{"m"})
	s.SetModels(nil)
	p.conn.small.mu.Lock()
	p.conn.small.writing = false
	p.conn.small.mu.Unlock()
	p.conn.Flush()
	if meta, _ := small.expect(TypeSlot, 0, 1); le.Uint32(meta[16:]) != 0 {
		t.Errorf("load %d", meta)
	}
	if _, body := small.expect(TypeModels, 0, 1); string(body) != "[]" {
		t.Errorf("models %s", body)
	}
	many := make([]string, 9000)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	if err := s.SetModels(many); err != nil {
		t.Error(err)
	}
	if _, body := small.expect(TypeModels, 0, 1); len(body) > maxOneMember || !strings.HasPrefix(string(body), `["0","1",`) {
		t.Errorf("models in %d bytes", len(body))
	}
	set(2)
	s.Remove(nil)
	s.SetModels(nil)
	set(0)
	small.expect(TypeMember, FlagGone, 1)
	if waiting() != 0 {
		t.Error("more of a replica that has gone")
	}
}

// TestNeverAnnounced: a replica that came and went while the other side did not read is not spoken of.
func TestNeverAnnounced(t *testing.T) {
	t.Parallel()
	p, e := halfLinked(t, &server{}, nodeTerms)
	p.Between(newTold())
	p.conn.small.writing = true
	for i := range 1000 {
		s, err := p.AddMember(Member{Replica: fmt.Sprint(i), Slots: 1}, func(Granter) Admission { return &counter{slots: 1} }, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.SetModels([]string{"m"})
		if i < 999 {
			s.Remove(nil)
		}
	}
	p.conn.small.mu.Lock()
	p.conn.small.writing = false
	p.conn.small.mu.Unlock()
	serve(t, p)
	p.conn.Flush()
	small := reader{t, e.small}
	small.expect(TypeMember, 0, 1000)
	small.expect(TypeModels, 0, 1000)
}
