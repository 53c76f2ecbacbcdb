package arena

import (
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/helve-serve/helve/internal/kernel"
)

// BenchmarkPass moves one buffer from one side to the other: through the arena with all its accounting (the consumer looks
// at every page, or makes a copy), and over a unix socket into a buffer that is there already.
func BenchmarkPass(b *testing.B) {
	for _, n := range []int{MinBuffer, 1 << 20, 10 << 20} {
		p := content(1, n)
		name := fmt.Sprintf("%dKB", n>>10)
		for _, copied := range []bool{false, true} {
			kind := "view"
			if copied {
				kind = "copy"
			}
			b.Run("arena/"+kind+"/"+name, func(b *testing.B) { passThroughArena(b, p, copied) })
		}
		b.Run("socket/"+name, func(b *testing.B) { passOverSocket(b, p) })
	}
}

func passThroughArena(b *testing.B, p []byte, copied bool) {
	m := newMemory(b, 256<<20)
	tab := NewTable(testID, m.Offer().Size, Limits{})
	producer, consumer := tab.Join(), tab.Join()
	s := NewStock(testID, 64<<20)
	into := make([]byte, len(p))
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		r, ok := s.Take(uint64(len(p)))
		for !ok {
			n := s.NextRequest()
			g, err := m.Lease(tab, producer, n)
			if err != nil {
				b.Fatal(err)
			}
			s.AddGrant(g)
			r, ok = s.Take(uint64(len(p)))
		}
		m.Write(r.Offset, p)
		if tab.Publish(producer, r) != nil || tab.Share(producer, consumer, r) != nil || tab.Release(producer, r) != nil {
			b.Fatal("refused")
		}
		v, err := m.View(r, func(r Ref) { tab.Release(consumer, r) })
		if err != nil {
			b.Fatal(err)
		}
		v.Read(func(p []byte) error {
			if copied {
				copy(into, p)
				return nil
			}
			for i := 0; i < len(p); i += 4096 {
				into[0] += p[i]
			}
			return nil
		})
		v.Release()
	}
}

func passOverSocket(b *testing.B, p []byte) {
	out, in := socketPair(b)
	into := make([]byte, len(p))
	done := make(chan error)
	go func() {
		for {
			_, err := io.ReadFull(in, into)
			done <- err
			if err != nil {
				return
			}
		}
	}()
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if _, err := out.Write(p); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	out.Close()
	<-done
}

// BenchmarkTable is the accounting of one buffer alone, with others around it that fragment the arena.
func BenchmarkTable(b *testing.B) {
	for _, others := range []int{0, 100, 4000} {
		b.Run(fmt.Sprint(others), func(b *testing.B) {
			tab := NewTable(testID, 1<<30, Limits{})
			h, o := tab.Join(), tab.Join()
			var gs []Grant
			for range 2 * others {
				g, _, err := tab.Lease(o, Slab)
				if err != nil {
					b.Fatal(err)
				}
				gs = append(gs, g)
			}
			for i := 0; i < len(gs); i += 2 { // every second slab is free, and too small
				tab.Return(o, gs[i])
			}
			b.ReportAllocs()
			for b.Loop() {
				g, _, err := tab.Lease(o, 2*Slab)
				r := refOf(g, 2*Slab)
				if err != nil || tab.Publish(o, r) != nil || tab.Share(o, h, r) != nil ||
					tab.Release(o, r) != nil || tab.Release(h, r) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}

func socketPair(tb testing.TB) (a, b *os.File) {
	tb.Helper()
	fds, err := kernel.SocketPair()
	if err != nil {
		tb.Fatal(err)
	}
	a, b = os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
	tb.Cleanup(func() {
		a.Close()
		b.Close()
	})
	return a, b
}
