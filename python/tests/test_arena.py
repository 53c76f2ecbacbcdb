"""The worker's side of the shared memory, with a child process as the other worker."""

import array
import fcntl
import gc
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import threading

import pytest

from helve import _arena as arena
from helve._arena import LEAST, SLAB, Arena, Grant, Ref, Stock

ID = 7


def memfd(size, seals=arena._SEALS):
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, 1033, seals)
    return fd


def make(size=64 * SLAB, granted=True, **options):
    a = Arena(memfd(size), ID, size, **options)
    if granted:
        a.stock.granted(Grant(1, 0, size))
    return a


def test_put_and_view():
    a = make()
    data = random.Random(1).randbytes(LEAST + 5)
    ref = a.put(data)
    assert ref == Ref(ID, 1, 0, LEAST + 5)
    v = a.view(ref)
    assert v == data and v.readonly and v.nbytes == len(data) and v.format == "B" and v.contiguous
    assert a.releases() == []
    del v
    assert a.releases() == [ref]
    assert a.releases() == []


@pytest.mark.parametrize("data", [
    bytes(LEAST), bytearray(LEAST), memoryview(bytes(LEAST)), array.array("d", range(LEAST // 8)), pickle.PickleBuffer(bytes(LEAST)),
])
def test_kinds_of_buffers(data):
    a = make()
    ref = a.put(data)
    assert ref.length == LEAST
    assert a.view(ref) == memoryview(data).cast("B")


def test_inline():
    a = make(granted=False)
    assert a.put(bytes(LEAST - 1)) is None and a.stock.want() == 0
    assert a.put(bytes(LEAST)) is None  # nothing in stock
    assert a.stock.want() == arena.FIRST_ASK
    a.stock.granted(Grant(1, 0, 0))
    assert a.put(bytes(LEAST)) is None
    with pytest.raises((TypeError, BufferError)):
        a.put(memoryview(bytes(2 * LEAST))[::2])  # not contiguous


def released_after(a, ref, keepers):
    """Drops one of the list after the other; the release comes with the last."""
    while keepers:
        gc.collect()
        assert a.releases() == []
        keepers.pop()
    gc.collect()
    assert a.releases() == [ref]


def test_released_with_the_last_view():
    a = make()
    ref = a.put(random.Random(2).randbytes(LEAST))

    def keepers():  # of which no frame keeps anything afterwards
        v = a.view(ref)
        half = v[LEAST // 2:]
        doubles = half.cast("d")
        again = memoryview(doubles)
        v.release()  # closes this one view only
        cycle = [half]
        cycle.append(cycle)
        return [half, doubles, again, pickle.PickleBuffer(half), cycle]

    released_after(a, ref, keepers())


def test_pickled_out_of_band():
    a = make()
    big = array.array("d", range(LEAST))
    refs = []
    body = pickle.dumps({"x": pickle.PickleBuffer(big), "y": 1}, 5, buffer_callback=lambda b: refs.append(a.put(b.raw())))
    value = pickle.loads(body, buffers=[a.view(r) for r in refs])
    assert value["x"] == memoryview(big).cast("B") and value["y"] == 1
    inner = [value.pop("x")]
    assert memoryview(inner[0]).readonly
    del value
    released_after(a, refs[0], inner)


def test_several_views_of_one_buffer_release_each():
    a = make()
    ref = a.put(bytes(LEAST))
    one, two = a.view(ref), a.view(ref)
    del one
    assert a.releases() == [ref]
    del two
    assert a.releases() == [ref]


def test_wake_comes_once_per_batch():
    woken = []
    a = make(wake=lambda: woken.append(1))
    ref = a.put(bytes(LEAST))
    views = [a.view(ref) for _ in range(3)]
    views.clear()
    assert woken == [1] and len(a.releases()) == 3
    a.view(ref)
    assert woken == [1, 1]


def test_released_in_other_threads():
    a = make(wake=lambda: None)
    ref = a.put(bytes(LEAST))
    views = [[a.view(ref) for _ in range(100)] for _ in range(4)]
    threads = [threading.Thread(target=v.clear) for v in views]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert a.releases() == [ref] * 400 and not a._views


def test_bounds():
    a = make(size=4 * SLAB)
    for offset, length in [(0, 4 * SLAB + 1), (4 * SLAB, 1), (-1, 1), (0, -1), (1 << 63, 1), (1, 1 << 64)]:
        with pytest.raises(ValueError):
            a.view(Ref(ID, 1, offset, length))
    with pytest.raises(LookupError):
        a.view(Ref(ID + 1, 1, 0, 1))
    assert a.releases() == [] and not a._views
    assert a.view(Ref(ID, 1, 4 * SLAB - 1, 1)).nbytes == 1
    assert a.view(Ref(ID, 1, 4 * SLAB, 0)).nbytes == 0
    assert len(a.releases()) == 2


def test_close():
    a = make()
    ref = a.put(bytes(LEAST))
    v = a.view(ref)
    a.close()
    a.close()
    assert a.put(bytes(LEAST)) is None
    with pytest.raises(OSError):
        a.view(ref)
    assert a._base and v[LEAST - 1] == 0  # still mapped
    del v
    assert not a._base


def open_descriptors():
    return set(os.listdir("/proc/self/fd"))


def test_refuses_what_could_shrink():
    before = open_descriptors()
    for fd, size in [(memfd(SLAB, 0), SLAB), (memfd(SLAB), 2 * SLAB), (memfd(SLAB), 0), (memfd(1), 1), (os.open(os.devnull, os.O_RDWR), SLAB)]:
        with pytest.raises(ValueError):
            Arena(fd, ID, size)
    assert open_descriptors() == before


def test_only_reading():
    fd = memfd(4 * SLAB)
    reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    os.pwrite(fd, b"abc", 10)
    a = Arena(reader, ID, 4 * SLAB, writable=False)
    a.stock.granted(Grant(1, 0, 4 * SLAB))
    assert a.put(bytes(LEAST)) is None
    assert bytes(a.view(Ref(ID, 1, 10, 3))) == b"abc"
    b = Arena(fd, ID, 4 * SLAB)
    with pytest.raises(TypeError):
        b.view(Ref(ID, 1, 0, 3))[0] = 1


CHILD = """
import ctypes, os, sys
from helve import _arena
a = _arena.inherited()
assert _arena.ENV not in os.environ
mode = sys.argv[1]
if mode == "echo":
    ref = _arena.Ref(*map(int, sys.argv[2].split(",")))
    v = a.view(ref)
    a.stock.granted(_arena.Grant(2, 32 * _arena.SLAB, 16 * _arena.SLAB))
    out = a.put(bytes(v)[::-1])
    del v
    print(*out, *a.releases()[0])
else:  # somebody who gets around the read-only flag
    v = a.view(_arena.Ref(a.id, 1, 0, 1))
    ctypes.memset(ctypes.addressof(v.obj), 1, 1)
"""


def child(a_fd, *args, **options):
    env = dict(os.environ, HELVE_ARENA=f"{a_fd},{ID},{64 * SLAB}", PYTHONPATH=os.pathsep.join(sys.path))
    return subprocess.run([sys.executable, "-c", CHILD, *args], env=env, pass_fds=[a_fd], capture_output=True, text=True, **options)


def test_two_processes():
    fd = memfd(64 * SLAB)
    a = Arena(os.dup(fd), ID, 64 * SLAB)
    a.stock.granted(Grant(1, 0, 16 * SLAB))
    data = random.Random(3).randbytes(LEAST + 1)
    ref = a.put(data)
    done = child(fd, "echo", ",".join(map(str, ref)))
    os.close(fd)
    assert done.returncode == 0, done.stderr
    n = list(map(int, done.stdout.split()))
    assert Ref(*n[4:]) == ref
    assert Ref(*n[:4]) == Ref(ID, 2, 32 * SLAB, LEAST + 1)
    assert a.view(Ref(*n[:4])) == data[::-1]


def test_writing_through_a_view_ends_the_process():
    fd = memfd(64 * SLAB)
    done = child(fd, "write")
    os.close(fd)
    assert done.returncode == -signal.SIGSEGV, done.stderr


def test_inherited_nonsense(monkeypatch):
    monkeypatch.delenv(arena.ENV, raising=False)
    assert arena.inherited() is None
    for v in ["1", "x,1,2", "1,2", "1,2,3,4"]:
        with pytest.raises(ValueError):
            arena.inherited(v)


def test_received_over_a_socket():
    left, right = socket.socketpair()
    with left, right:
        fd = memfd(4 * SLAB)
        socket.send_fds(left, [b"hello"], [fd])
        data, fds = arena.receive(right, 16, 1)
        assert data == b"hello" and not os.get_inheritable(fds[0])
        a = Arena(fds[0], ID, 4 * SLAB)
        os.pwrite(fd, b"over", 3)
        assert bytes(a.view(Ref(ID, 1, 3, 4))) == b"over"
        before = open_descriptors()
        socket.send_fds(left, [b"x"], [fd] * 5)
        with pytest.raises(OSError):
            arena.receive(right, 16, 1)
        assert open_descriptors() == before
        os.close(fd)


# ---- the stock, as in Go's stock_test.go

def test_stock():
    s = Stock(ID, 8 << 20)
    assert s.want() == 0 and s.take(LEAST) is None
    assert s.want() == arena.FIRST_ASK and s.want() == 0
    s.granted(Grant(3, 10 * SLAB, 4 * SLAB + LEAST))
    first = s.take(2 * SLAB - 1)
    assert first == Ref(ID, 3, 10 * SLAB, 2 * SLAB - 1)
    second = s.take(3 * SLAB)
    assert second.offset == 12 * SLAB
    assert s.returns() == [Grant(3, 15 * SLAB, SLAB)] and s.returns() == []
    s.back(second)
    s.back(first)
    assert s.returns(idle=True) == [Grant(3, 10 * SLAB, 5 * SLAB)] and s.want() == 0
    for n in (0, -1, (8 << 20) + 1):
        assert s.take(n) is None and s.want() == 0


def test_stock_asks_for_less():
    s = Stock(ID, 64 << 20)
    s.take(3 << 20)
    for want in (12 << 20, 3 << 20, 3 << 20):
        assert s.want() == want
        s.granted(Grant(0, 0, 0))
    s.want()
    s.granted(Grant(1, 0, 3 << 20))
    assert s.want() == 12 << 20


def test_stock_that_runs_out():
    size = 1 << 20
    s = Stock(ID, 64 << 20)
    s.take(size)
    asked = []
    for i, give in enumerate((True, True, True, True, True, False, True)):
        asked.append(s.want() // size)
        s.granted(Grant(i + 1, 100 * i * size, asked[-1] * size if give else 0))
        while s.take(size):
            pass
    assert asked == [4, 8, 16, 32, 32, 32, 1]
    s.returns(idle=True)
    s.take(size)
    assert s.want() == 4 * size


@pytest.mark.parametrize("seed", range(10))
def test_stock_never_gives_a_slab_twice(seed):
    r = random.Random(seed)
    s = Stock(ID, 32 * SLAB)
    out, free, took = [], 0, 0  # free: where the next grant begins; each is somewhere else
    for _ in range(1500):
        op = r.randrange(4)
        if op < 2:
            ref = s.take(r.randrange(1, 6 * SLAB))
            if ref:
                took += 1
                for o in out:
                    assert ref.offset + ref.length <= o.offset or o.offset + o.length <= ref.offset
                out.append(ref)
        elif op == 2 and out:
            ref = out.pop(r.randrange(len(out)))
            if r.random() < 0.5:
                s.back(ref)
        elif op == 3:
            n = s.want()
            if n:
                n = -(-n // SLAB) * SLAB
                s.granted(Grant(free + 1, free, n))
                free += n
            s.returns(r.random() < 0.05)
        assert s.held == sum(g.length for g in s.grants)
    assert took > 200
