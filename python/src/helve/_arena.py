"""The node's shared memory for large buffers, as a worker uses it (in Go: internal/arena, whose package comment has
the mechanism).

A worker copies a large buffer into memory that it has leased, and sends a reference (`Arena.put`). A receiver
gets a read-only memoryview of the mapping (`Arena.view`). The reference is queued for release when the last
object over the bytes has died: the view, slices and casts of it, numpy arrays or unpickled objects.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import socket
import sys
import weakref
from collections import deque
from typing import Any, Callable, NamedTuple, Optional

SLAB = 64 << 10
LEAST = 128 << 10  # bytes; smaller buffers are faster inline
ENV = "HELVE_ARENA"
FIRST_ASK = 1 << 20
# The stock asks for more when it has less than this many buffers of the recent size. The number doubles, up to the second one, after a buffer found no
# room, and falls by one after ENOUGH requests between which all found some.
AHEAD, MOST_AHEAD, ENOUGH = 2, 16, 8
_SEALS = 1 | 2 | 4  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW
_GET_SEALS = 1034
_MAP_NORESERVE = 0x4000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class Ref(NamedTuple):
    """A reference that stands in a value for the bytes of a buffer."""

    arena: int
    generation: int
    offset: int
    length: int


class Grant(NamedTuple):
    """An extent that this worker may write into. A length of 0 is a refusal."""

    generation: int
    offset: int
    length: int


def _slabs(n: int) -> int:
    return -(-n // SLAB) * SLAB


class Stock:
    """The leased extents without a buffer. It does no I/O; it belongs to one thread, the event loop's."""

    def __init__(self, arena: int, most: int):
        self.arena, self.most = arena, most // SLAB * SLAB
        self.grants: list[Grant] = []
        self.surplus: list[Grant] = []  # extents to be given back
        self.held = self.need = 0
        self.ahead, self.enough = AHEAD, 0
        self.asked = self.refused = self.short = False

    def take(self, n: int) -> Optional[Ref]:
        """A place for n bytes, or None: then the bytes go inline. It never waits."""
        if n <= 0 or n > self.most:
            return None
        used = _slabs(n)
        first = not self.need
        self.need = max(used, self.need - self.need // 8)  # the need of one large buffer fades with smaller ones
        fitting = [g for g in self.grants if g.length >= n]
        if not fitting:
            self.short = not first
            return None
        g = min(fitting, key=lambda g: g.length)
        self.grants.remove(g)
        self.held -= used
        rest = Grant(g.generation, g.offset + used, g.length - used)
        if rest.length >= LEAST:
            self.grants.append(rest)
        elif rest.length:
            self.surplus.append(rest)
            self.held -= rest.length
        return Ref(self.arena, g.generation, g.offset, n)

    def back(self, ref: Ref) -> None:
        """Takes back a reference of take() that was not sent."""
        self._add(Grant(ref.generation, ref.offset, _slabs(ref.length)))

    def want(self) -> int:
        """The number of bytes to ask the node for now. Unless it is 0, granted() must follow."""
        if self.asked or not self.need or self.held >= self._least() or self.held + self.need > self.most:
            return 0
        self.asked = True
        if self.short:  # calls at the same time use up more than the next grant takes to come
            self.ahead, self.short, self.enough = min(2 * self.ahead, MOST_AHEAD), False, 0
        elif self.ahead > AHEAD:
            self.enough += 1
            if self.enough == ENOUGH:  # few extents that are used in turn stay in the caches of the processor
                self.ahead, self.enough = self.ahead - 1, 0
        if self.refused:
            return self.need
        return min(max(2 * self._least(), FIRST_ASK), self.most - self.held)

    def _least(self) -> int:
        """The stock asks for more below this number of bytes: a quarter of what the worker may have at most, unless two buffers are more."""
        return max(min(self.ahead * self.need, self.most // 4), AHEAD * self.need)

    def granted(self, g: Grant) -> None:
        self.asked, self.refused = False, g.length == 0
        if g.length:
            self._add(g)
        else:  # there are others that need memory
            self.ahead = AHEAD

    def returns(self, idle: bool = False) -> list[Grant]:
        """The extents to give back to the node now; all of them, if idle."""
        out, self.surplus = self.surplus, []
        if idle:
            out += self.grants
            self.grants, self.held, self.need = [], 0, 0
            self.ahead, self.short = AHEAD, False
        return out

    def _add(self, g: Grant) -> None:
        self.held += g.length
        for o in list(self.grants):
            if o.generation != g.generation:
                continue
            if o.offset + o.length == g.offset:
                g = Grant(g.generation, o.offset, o.length + g.length)
            elif g.offset + g.length == o.offset:
                g = Grant(g.generation, g.offset, g.length + o.length)
            else:
                continue
            self.grants.remove(o)
        self.grants.append(g)


_types: dict[int, type] = {}


def _window(n: int) -> type:
    """A ctypes array type of at least n bytes. Powers of two: every type ever made stays in ctypes' cache."""
    size = 1 << max(n - 1, 0).bit_length()
    t = _types.get(size)
    if t is None:
        t = _types[size] = ctypes.c_ubyte * size
    return t


def fits(size: int) -> bool:
    """Whether the process has address space for an arena. The rule is that of internal/arena: two mappings in a
    quarter of RLIMIT_AS.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and size > limit // 8:
        return False
    if size <= 0:
        return size == 0
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    base = _libc.mmap(None, 2 * size, 0, flags, -1, 0)
    if base == ctypes.c_void_p(-1).value:
        return False
    _libc.munmap(base, 2 * size)
    return True


class _Watch(weakref.ref):
    """A weak reference to the exporter of a view, which notices its end. weakref.finalize does the same for ten times the cost."""

    __slots__ = ("arena",)
    arena: "Arena"


_watches: dict[int, _Watch] = {}  # of the exporters that live: so an arena lives as long as its views


def _died(watch: Any, watches: dict = _watches, ending: Callable[[], bool] = sys.is_finalizing) -> None:
    if not ending():  # the interpreter, which has emptied this module by then
        watches.pop(id(watch), None)
        watch.arena._ended(id(watch))


class Arena:
    """The memory of one arena in this process.

    Reading goes through a mapping without write permission, so that a numpy array made from a view cannot change
    bytes that others read, even with its flags changed (the process dies at the instruction). Writing goes
    through another mapping.

    `wake` is called when a first release is queued, from any thread and at any point where the garbage collector
    runs: it must not take locks or raise. `loop.call_soon_threadsafe(flush)` is right while the loop is open.
    After a fork the child's releases are its own and never sent: it may not use views for longer than its parent
    has them.
    """

    def __init__(self, fd: int, arena: int, size: int, *, most: int = 64 << 20, writable: bool = True,
                 wake: Callable[[], None] = lambda: None):
        """Owns fd, also if it fails."""
        self.id, self.size, self.wake = arena, size, wake
        self.stock = Stock(arena, most)
        self._released: deque[Ref] = deque()
        self._views: dict[int, Ref] = {}
        self._closed = self._woken = False
        self._write: Optional[memoryview] = None
        try:
            os.set_inheritable(fd, False)
            if size <= 0 or size % SLAB or os.fstat(fd).st_size != size:
                raise ValueError(f"arena: {size} bytes are offered, the memory has {os.fstat(fd).st_size}")
            try:
                seals = fcntl.fcntl(fd, _GET_SEALS)
            except OSError:
                seals = 0
            if seals & _SEALS != _SEALS:
                raise ValueError("arena: the memory is not sealed: its size could change under the mapping")
            if writable:
                self._write = memoryview(mmap.mmap(fd, size))
            base = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
            if base == ctypes.c_void_p(-1).value:
                raise OSError(ctypes.get_errno(), "arena: mmap")
            self._base = [base]  # popped by the function that unmaps it
        finally:
            os.close(fd)  # the mappings keep the memory

    def put(self, data) -> Optional[Ref]:
        """Copies a buffer in: bytes, a PickleBuffer's raw(), or another contiguous buffer. None if it is to go
        inline: it is too small, no leased extent has room, or the mapping is read-only here.
        """
        if self._write is None or self._closed:
            return None
        with memoryview(data) as whole, whole.cast("B") as m:
            n = m.nbytes
            if n < LEAST:
                return None
            ref = self.stock.take(n)
            if ref is not None:
                self._write[ref.offset:ref.offset + n] = m
            return ref

    def view(self, ref: Ref) -> memoryview:
        """The bytes of a reference, read-only. The reference is queued for release once, when the last object over
        them has died; if view() fails, it owns nothing. It has to be called once for each reference received.
        """
        if ref.arena != self.id:
            raise LookupError(f"arena: a buffer of arena {ref.arena}, this is {self.id}")
        if self._closed:
            raise OSError(errno.EBADF, "arena: closed")
        if ref.offset < 0 or ref.length < 0 or ref.offset + ref.length > self.size:
            raise ValueError(f"arena: {ref.length} bytes at {ref.offset} are outside of the arena's {self.size}")
        # The array is the object that all views of the buffer keep alive: a memoryview's slices, casts and consumers
        # refer to the exporter at the bottom, not to the memoryview that they were made of, whose own end would tell
        # nothing. Its window may reach beyond the buffer, and even the mapping: only the slice is handed out. A class
        # with __buffer__ would do from Python 3.12 on; a numpy array, if numpy were always there.
        exporter = _window(ref.length).from_address(self._base[0] + ref.offset)
        watch = _Watch(exporter, _died)
        watch.arena = self
        _watches[id(watch)], self._views[id(watch)] = watch, ref
        return memoryview(exporter).cast("B")[:ref.length].toreadonly()

    def _ended(self, key: int) -> None:
        """Runs at any point where the collector does: it takes no lock."""
        ref = self._views.pop(key)
        self._released.append(ref)
        self._unmap()
        if not self._woken:  # asked after the append, because releases() clears it before it looks: so no reference is left over
            self._woken = True
            self.wake()

    def releases(self) -> list[Ref]:
        """The references that were released since the last call, to be sent to the node."""
        self._woken = False
        out = []
        while True:
            try:
                out.append(self._released.popleft())
            except IndexError:
                return out

    def close(self) -> None:
        """Ends views and writing. The mapping goes with the last view; releases of an arena that another has
        replaced need not be sent.
        """
        self._closed = True
        if self._write is not None:
            m, self._write = self._write, None
            mapped = m.obj
            m.release()
            mapped.close()
        self._unmap()

    def _unmap(self) -> None:
        if self._closed and not self._views:
            try:
                base = self._base.pop()
            except IndexError:  # another thread did it
                return
            _libc.munmap(base, self.size)


def inherited(value: Optional[str] = None, **options) -> Optional[Arena]:
    """The arena that the environment names: descriptor, id, size. None if there is none. It may be called once."""
    value = os.environ.pop(ENV, "") if value is None else value
    if not value:
        return None
    try:
        fd, arena, size = map(int, value.split(","))
    except ValueError:
        raise ValueError(f"arena: {ENV}={value!r}") from None
    return Arena(fd, arena, size, **options)


def receive(sock: socket.socket, n: int, count: int) -> tuple[bytes, list[int]]:
    """Reads once: at most n bytes, and the at most count descriptors that came with them. It is for a blocking
    socket before the first frame: any other way of reading loses the descriptors.
    """
    # socket.recv_fds is not used: it drops its flags, and every child of the user's code would inherit the
    # descriptors.
    fds = array.array("i")
    data, control, flags, _ = sock.recvmsg(n, socket.CMSG_SPACE(count * fds.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, body in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(body[:len(body) // fds.itemsize * fds.itemsize])
    if flags & socket.MSG_CTRUNC or len(fds) > count:  # the space is rounded up: one more may have fitted
        for fd in fds:
            os.close(fd)
        raise OSError(errno.EMSGSIZE, f"arena: more than {count} descriptors came")
    return data, list(fds)
