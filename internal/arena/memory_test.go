package arena

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"
)

// The test executable is also the worker that it starts.
func TestMain(m *testing.M) {
	if os.Getenv("ARENA_TEST") == "" {
		os.Exit(m.Run())
	}
	var size uint64
	if _, err := fmt.Sscan(os.Getenv("ARENA_SIZE"), &size); err != nil {
		panic(err)
	}
	mem, err := Open(os.NewFile(4, "inherited"), Offer{testID, size})
	if err != nil {
		panic(err)
	}
	var r Ref // the lease comes in the environment, because the test has no connection
	if _, err := fmt.Sscan(os.Getenv("ARENA_TEST"), &r.Arena, &r.Generation, &r.Offset, &r.Length); err != nil {
		panic(err)
	}
	if err := mem.Write(r.Offset, bytes.Repeat([]byte("w"), int(r.Length))); err != nil {
		panic(err)
	}
	fmt.Print(r.Arena, " ", r.Generation, " ", r.Offset, " ", r.Length)
}

func newMemory(tb testing.TB, size uint64) *Memory {
	tb.Helper()
	m, err := New("test", testID, size)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { m.Close() })
	return m
}

func content(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

func resident(t *testing.T, m *Memory) uint64 {
	t.Helper()
	n, err := m.Resident()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestMemoryIsSparseAndShrinks(t *testing.T) {
	t.Parallel()
	m := newMemory(t, 64<<30)
	tab := NewTable(testID, m.Offer().Size, Limits{})
	h := tab.Join()
	if n := resident(t, m); n != 0 {
		t.Errorf("an unused arena has %d bytes", n)
	}
	g, err := m.Lease(tab, h, 3<<20)
	if err != nil {
		t.Fatal(err)
	}
	if n := resident(t, m); n != 3<<20 {
		t.Errorf("a lease of 3 MB has %d bytes", n)
	}
	p := content(1, 3<<20)
	if err := m.Write(g.Offset, p); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Lease(tab, h, 1<<20); err != nil { // stays
		t.Fatal(err)
	}
	r := refOf(g, 3<<20)
	if err := tab.Publish(h, r); err != nil {
		t.Fatal(err)
	}
	v, err := m.View(r, func(r Ref) { tab.Release(h, r) })
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := m.Reclaim(tab, 1<<30); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := v.Copy(); err != nil || !bytes.Equal(b, p) {
		t.Errorf("the view changed under reclaim: %v", err)
	}
	v.Release()
	for i, want := range []uint64{4 << 20, 1 << 20} {
		if err := m.Reclaim(tab, 1<<30); err != nil {
			t.Fatal(err)
		}
		if n := resident(t, m); n != want || tab.Stats().Filled != want {
			t.Errorf("after %d reclaims: %d bytes, filled %d, want %d", i+1, n, tab.Stats().Filled, want)
		}
	}
}

func TestLeaseWithoutMemory(t *testing.T) {
	t.Parallel()
	m := newMemory(t, 4*Slab)
	tab := NewTable(testID, 4*Slab, Limits{})
	h := tab.Join()
	m.Close() // stands for a system that has no memory left: Fill fails
	_, err := m.Lease(tab, h, Slab)
	wantErr(t, "lease", err, ErrFull)
	wantErr(t, "why", err, ErrClosed)
	wantErr(t, "reclaim", errors.Join(m.Punch(Extent{0, Slab}), m.Write(0, nil)), ErrClosed)
	if s := tab.Stats(); s.Leased != 0 || s.Filled != 0 {
		t.Errorf("%+v", s)
	}
}

func TestMemoryBounds(t *testing.T) {
	t.Parallel()
	m := newMemory(t, 2*Slab-1)
	if m.Offer() != (Offer{testID, 2 * Slab}) {
		t.Fatalf("%+v", m.Offer())
	}
	const most = ^uint64(0)
	for _, e := range []Extent{{2 * Slab, 1}, {0, 2*Slab + 1}, {most, 1}, {most - 1, 2}, {1, most}} {
		if _, err := m.View(Ref{testID, 1, e.Offset, e.Length}, nil); err == nil {
			t.Errorf("a view of %+v", e)
		}
		if m.Fill(e) == nil || m.Punch(e) == nil {
			t.Errorf("%+v was filled or punched", e)
		}
	}
	if m.Write(2*Slab-1, []byte("ab")) == nil {
		t.Error("written beyond the end")
	}
	_, err := m.View(Ref{testID + 1, 1, 0, 1}, nil)
	wantErr(t, "another arena", err, ErrBuffer)
	if v, err := m.View(Ref{testID, 1, 2 * Slab, 0}, nil); err != nil || v.Len() != 0 {
		t.Errorf("an empty view at the end: %v", err)
	}
	if err := errors.Join(m.Write(2*Slab-1, []byte("a")), m.Punch(Extent{2 * Slab, 0})); err != nil {
		t.Error(err)
	}
	for _, size := range []uint64{0, 1<<62 + 1, 1 << 62} { // the last is larger than files are
		if m, err := New("test", 1, size); err == nil {
			m.Close()
			t.Errorf("an arena of %d bytes", size)
		}
	}
	if _, err := New("a\x00b", 1, Slab); err == nil {
		t.Error("a name with a zero byte")
	}
}

// A worker with the descriptor cannot end this process.
func TestSeals(t *testing.T) {
	t.Parallel()
	m := newMemory(t, 4*Slab)
	if m.File().Truncate(0) == nil || m.File().Truncate(8*Slab) == nil {
		t.Error("the size was changed")
	}
	const fSealWrite = 8
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, m.File().Fd(), fAddSeals, fSealWrite); errno != syscall.EPERM {
		t.Errorf("sealed against writing: %v", errno)
	}
	plain, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.Truncate(Slab); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(plain, Offer{1, Slab}); err == nil || plain.Close() == nil {
		t.Errorf("a file that is not sealed: %v; or it was left open", err)
	}
	for _, size := range []uint64{0, 1, Slab, 8 * Slab} {
		f, err := m.ReadOnly()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(f, Offer{1, size}); err == nil {
			t.Errorf("opened as %d bytes", size)
		}
	}
	if _, err := Open(plain, Offer{1, Slab}); err == nil {
		t.Error("opened a closed file")
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	m := newMemory(t, 4*Slab)
	f, err := m.ReadOnly()
	if err != nil {
		t.Fatal(err)
	}
	reader, err := Open(f, m.Offer())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	m.Write(Slab, []byte("seen"))
	v, err := reader.View(Ref{testID, 1, Slab, 4}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	if b, err := v.Copy(); string(b) != "seen" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if err := reader.Write(0, []byte("x")); !errors.Is(err, syscall.EACCES) {
		t.Errorf("write: %v", err)
	}
	if err := reader.Punch(Extent{0, Slab}); !errors.Is(err, syscall.EBADF) {
		t.Errorf("punch: %v", err)
	}
	v.Read(func(b []byte) error { // the mapping cannot be made writable either
		page := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(b))), Slab)
		if err := syscall.Mprotect(page, syscall.PROT_READ|syscall.PROT_WRITE); err != syscall.EACCES {
			t.Errorf("mprotect: %v", err)
		}
		return nil
	})
}

func TestViewEndsOnce(t *testing.T) {
	t.Parallel()
	m := newMemory(t, Slab)
	m.Write(0, []byte("abcd"))
	var ended []Ref
	r := Ref{testID, 1, 1, 2}
	v, err := m.View(r, func(r Ref) { ended = append(ended, r) })
	if err != nil {
		t.Fatal(err)
	}
	if v.Ref() != r || v.Len() != 2 {
		t.Errorf("%+v", v.Ref())
	}
	var out bytes.Buffer
	if n, err := v.WriteTo(&out); n != 2 || err != nil || out.String() != "bc" {
		t.Errorf("%d, %v, %q", n, err, out.String())
	}
	m.Close()
	err = v.Read(func(b []byte) error {
		v.Release()
		v.Release()
		if len(ended) != 0 || string(b) != "bc" || cap(b) != 2 {
			t.Errorf("released under a Read: %v, %q", ended, b)
		}
		return io.EOF
	})
	wantErr(t, "the error of the function", err, io.EOF)
	if len(ended) != 1 || ended[0] != r {
		t.Errorf("ended %v", ended)
	}
	if m.read != nil {
		t.Error("the memory is still mapped after the last view of a closed arena")
	}
	_, err = v.Copy()
	wantErr(t, "read after release", err, ErrClosed)
	_, err = m.View(r, nil)
	wantErr(t, "view after close", err, ErrClosed)
	wantErr(t, "close again", m.Close(), nil)
}

// TestForgottenView: the collector releases a view that is forgotten, and no view that is in use.
func TestForgottenView(t *testing.T) {
	t.Parallel()
	m := newMemory(t, Slab)
	ended := make(chan Ref, 2)
	forgotten, kept := Ref{testID, 1, 0, 1}, Ref{testID, 2, 1, 1}
	k, err := m.View(kept, func(r Ref) { ended <- r })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.View(forgotten, func(r Ref) { ended <- r }); err != nil {
		t.Fatal(err)
	}
	for done := false; !done; {
		runtime.GC()
		select {
		case r := <-ended:
			if r != forgotten {
				t.Fatalf("ended %+v", r)
			}
			done = true
		default:
			runtime.Gosched()
		}
	}
	runtime.GC()
	if err := k.Read(func([]byte) error { return nil }); err != nil {
		t.Error(err)
	}
	k.Release()
	if r := <-ended; r != kept {
		t.Errorf("ended %+v", r)
	}
}

// TestForgottenViewsAreFound: views that cannot be reached end, even if the program allocates no other memory.
func TestForgottenViewsAreFound(t *testing.T) {
	t.Parallel()
	m := newMemory(t, 16*Slab)
	var open atomic.Int64
	for range 200 {
		open.Add(1)
		if _, err := m.View(Ref{testID, 1, 0, 16 * Slab}, func(Ref) { open.Add(-1) }); err != nil {
			t.Fatal(err)
		}
	}
	for open.Load() > 150 { // a collection began at the 65th, whose end cannot be observed
		runtime.Gosched()
	}
}

func TestViewConcurrently(t *testing.T) {
	t.Parallel()
	m := newMemory(t, Slab)
	for range 200 {
		var ends sync.WaitGroup
		ends.Add(1) // a second end panics
		v, err := m.View(Ref{testID, 1, 0, Slab}, func(Ref) { ends.Done() })
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			go v.Release()
			go v.Copy()
		}
		ends.Wait()
	}
	if m.users != 0 {
		t.Errorf("%d users are left", m.users)
	}
}

func TestInheritedBySpawnedWorker(t *testing.T) {
	t.Parallel()
	m := newMemory(t, 16*Slab)
	tab := NewTable(testID, 16*Slab, Limits{})
	w := tab.Join()
	g, err := m.Lease(tab, w, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.ExtraFiles = []*os.File{nil, m.File()}
	lease := fmt.Sprintf("ARENA_TEST=%d %d %d %d", testID, g.Generation, g.Offset, 100_000)
	cmd.Env = append(os.Environ(), fmt.Sprint("ARENA_SIZE=", m.Offer().Size), lease)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r Ref
	if _, err := fmt.Sscan(string(out), &r.Arena, &r.Generation, &r.Offset, &r.Length); err != nil {
		t.Fatal(err)
	}
	node := tab.Join()
	if err := errors.Join(tab.Publish(w, r), tab.Share(w, node, r)); err != nil {
		t.Fatal(err)
	}
	tab.Drop(w) // the process has ended
	v, err := m.View(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	if b, _ := v.Copy(); string(b) != strings.Repeat("w", 100_000) {
		t.Errorf("%d bytes came", len(b))
	}
}
