package telemetry

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/helve-serve/helve/internal/kernel"
)

// Page is memory with a Calls for each replica of one Go worker. The node makes it and gives the worker its descriptor: the worker
// counts there the calls under lent slots, which the node does not see, and the node reads them. So the node asks no worker, and the counts
// of a worker that is killed are there to the last call. For example, a worker has begun 10 calls under lent slots and ended 9 when it
// dies: the node reads 10 started, and counts the tenth as failed ([Counts.Settle]).
//
// A slot carries a digest of its replica's id, by which the worker, and a node that takes the worker over, find it. The worker can write
// anything to the page; a node believes it as much as it believed the answer to a question. The seals of the file keep its
// size, so that a read never fails.
type Page struct {
	mem  []byte
	file *os.File // nil for a page inside of one process

	mu sync.Mutex // of the node: one slot is taken at a time
}

// slot is one Calls with its owner, on cache lines of its own.
type slot struct {
	calls Calls
	_     [slotSize - int(unsafe.Sizeof(Calls{}))]byte
}

const (
	slotSize  = 256
	pageSlots = 4095
	pageSize  = slotSize * (1 + pageSlots) // 1 MiB with the head; memory only as far as it is used
)

// Values of linux/fcntl.h that package syscall lacks.
const (
	fAddSeals = 1033
	fGetSeals = 1034
	pageSeals = 1 | 2 | 4 // F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW
)

// NewPage makes a page for a worker with a process of its own.
func NewPage() (*Page, error) {
	f, err := kernel.MemoryFile("helve-counts")
	if err != nil {
		return nil, err
	}
	err = f.Truncate(pageSize)
	if err == nil {
		if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), fAddSeals, pageSeals); errno != 0 {
			err = os.NewSyscallError("fcntl(F_ADD_SEALS)", errno)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return OpenPage(f)
}

// NewLocalPage makes a page for a worker that is a goroutine of this process.
func NewLocalPage() *Page {
	words := make([]uint64, pageSize/8) // aligned for atomics
	return &Page{mem: unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), pageSize)}
}

// OpenPage maps the page of a file, which it owns from then on, also if it fails. A file that is not a page is an error.
func OpenPage(f *os.File) (*Page, error) {
	var seals uintptr
	errno := syscall.Errno(0)
	st, err := f.Stat()
	if err == nil {
		raw, cerr := f.SyscallConn()
		if err = cerr; err == nil {
			err = raw.Control(func(fd uintptr) { seals, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, fGetSeals, 0) })
		}
	}
	switch {
	case err != nil:
	case errno != 0:
		err = os.NewSyscallError("fcntl(F_GET_SEALS)", errno)
	case seals&pageSeals != pageSeals || st.Size() != pageSize:
		err = errors.New("not a page of counts")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	var mem []byte
	raw, err := f.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(fd uintptr) {
			mem, err = syscall.Mmap(int(fd), 0, pageSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		})
		err = errors.Join(err, cerr)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("the page of counts: %w", err)
	}
	p := &Page{mem: mem, file: f}
	runtime.AddCleanup(p, func(mem []byte) { syscall.Munmap(mem) }, mem) //nolint:errcheck // it was mapped
	return p, nil
}

// PageOf opens the page of another process of this user, where it has the descriptor fd.
func PageOf(pid, fd int) (*Page, error) {
	f, err := os.OpenFile("/proc/"+strconv.Itoa(pid)+"/fd/"+strconv.Itoa(fd), os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return OpenPage(f)
}

// File is the page's file, for a child to inherit; nil for a local page, and for no page.
func (p *Page) File() *os.File {
	if p == nil {
		return nil
	}
	return p.file
}

func digest(replica string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(replica))                    //nolint:errcheck // never fails
	return min(h.Sum64(), math.MaxUint64-1) + 1 // 0 is nobody's
}

func (p *Page) slot(i int) *slot { return (*slot)(unsafe.Pointer(&p.mem[(1+i)*slotSize])) }

// used is how many slots have ever had an owner: the others are not looked at, so that they need no memory. It is the head of the page.
func (p *Page) used() *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&p.mem[0])) }

func (p *Page) find(owner uint64) *slot {
	for i := range min(p.used().Load(), pageSlots) {
		if s := p.slot(int(i)); s.calls.owner.Load() == owner {
			return s
		}
	}
	return nil
}

// Lent is the counters of one replica in a page.
type Lent struct {
	page *Page // keeps the memory mapped
	slot *slot
}

// Take gives a free slot to a replica, with its counters at zero. It is the node's. false: the page is full.
func (p *Page) Take(replica string) (*Lent, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.find(0)
	if s == nil {
		n := p.used().Load()
		if n >= pageSlots {
			return nil, false
		}
		s = p.slot(int(n))
		p.used().Store(n + 1)
	}
	s.calls.clear()
	s.calls.owner.Store(digest(replica))
	return &Lent{p, s}, true
}

// Find gives the counters of a replica that has a slot; false if it has none.
func (p *Page) Find(replica string) (*Lent, bool) {
	if s := p.find(digest(replica)); s != nil {
		return &Lent{p, s}, true
	}
	return nil, false
}

// FindOrTake gives the counters of a replica that has a slot, as one that was taken over has, or a free slot. false: the page is full.
func (p *Page) FindOrTake(replica string) (*Lent, bool) {
	if l, ok := p.Find(replica); ok {
		return l, true
	}
	return p.Take(replica)
}

// Free gives the slot back. Nothing counts there any more.
func (l *Lent) Free() {
	l.page.mu.Lock()
	defer l.page.mu.Unlock()
	l.slot.calls.owner.Store(0)
}

// Calls are the counters, as long as l is in use.
func (l *Lent) Calls() *Calls { return &l.slot.calls }

// Counts reads the counters.
func (l *Lent) Counts() Counts {
	k := l.slot.calls.Counts()
	runtime.KeepAlive(l.page)
	return k
}

// Started is the number of calls that have begun.
func (l *Lent) Started() uint64 {
	n := l.slot.calls.Started()
	runtime.KeepAlive(l.page)
	return n
}

func (c *Calls) clear() {
	c.started.Store(0)
	c.busy.Store(0)
	c.failed.Store(0)
	c.late.Store(0)
	for i := range c.buckets {
		c.buckets[i].Store(0)
	}
}
