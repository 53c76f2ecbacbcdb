"""The copies of a fork: a child makes a connection of its own, responses of its parent raise an error with advice, and a child that lives on
keeps neither node nor replicas.
"""

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
import warnings

import pytest
from running import LIMIT

from helve import serve

warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)

SAYS = "this process was forked from the one that made the call"


@serve.deployment(max_ongoing_requests=100)
class Echo:
    async def echo(self, x):
        return x

    async def items(self, n):
        for i in range(n):
            yield i
        await asyncio.sleep(3600)

    async def block(self):
        await asyncio.sleep(3600)

    async def pid(self):
        return os.getpid()

    async def call_in_child(self):
        handle = serve.get_deployment_handle("Echo")
        return await asyncio.to_thread(in_child, lambda: handle.echo.remote(1).result())

    async def comes_back_twice(self):
        return os.fork()

    async def leave_a_child(self):
        """A child that is not in the replica's process group, and lives until the pipe is closed."""
        read, self.write = os.pipe()
        if os.fork() == 0:
            os.setsid()
            os.close(self.write)
            os.read(read, 1)
            os._exit(0)
        os.close(read)
        return os.getpid()


def in_child(fn):
    """The result of fn, or its exception, in a forked child, as text."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            try:
                text = f"gave {fn()!r}"
            except BaseException as e:
                text = f"{type(e).__name__}: {e}"
            os.write(write, text.encode())
        finally:
            os._exit(0)
    os.close(write)
    try:
        there, _, _ = select.select([read], [], [], 30)
        if not there:
            os.kill(pid, signal.SIGKILL)
            return "nothing"
        return os.read(read, 65536).decode()
    finally:
        os.close(read)
        os.waitpid(pid, 0)


@pytest.fixture(scope="module")
def echo():
    serve.start(http_options={"port": None})
    yield serve.run(Echo.bind(), route_prefix=None)
    serve.shutdown()


async def as_coroutine(awaitable):
    return await awaitable


def test_a_child_has_a_connection_of_its_own(echo):
    def chosen():
        with echo.choose_replica() as selection:
            return echo.dispatch(selection, 1).result()

    def first():
        return next(echo.options(stream=True).items.remote(1))

    for ask, want in (
        (lambda: echo.echo.remote(1).result(), 1),
        (lambda: echo.echo.remote(1).result(timeout_s=60), 1),
        (lambda: asyncio.run(as_coroutine(echo.echo.remote(1))), 1),
        (first, 0),
        (lambda: echo.broadcast("echo", 1).results(), [1]),
        (lambda: list(serve.status().applications), ["default"]),
        (lambda: serve.get_app_handle("default").echo.remote(1).result(), 1),
        (lambda: serve.get_deployment_handle("Echo", "default").echo.remote(1).result(), 1),
    ):
        assert in_child(ask) == f"gave {want!r}"
    assert echo.echo.remote("the parent").result(timeout_s=20) == "the parent"


def test_responses_of_the_parent_in_a_child(echo):
    """A response that was read is there; a response that is still to come goes to the parent."""
    read, pending = echo.echo.remote(1), echo.block.remote()
    items, answers = echo.options(stream=True).items.remote(2), echo.broadcast("block")
    composed = echo.echo.remote(echo.block.remote())
    assert (read.result(), next(items), next(items)) == (1, 0, 1)
    assert in_child(read.result) == "gave 1"
    assert in_child(lambda: asyncio.run(as_coroutine(read))) == "gave 1"
    for ask in (
        pending.result, composed.result, lambda: next(items), answers.results, lambda: asyncio.run(as_coroutine(pending)),
        lambda: asyncio.run(answers.results_async()), lambda: asyncio.run(as_coroutine(items.__anext__())),
    ):
        assert SAYS in in_child(ask)
    for r in (pending, items, answers, composed):
        assert in_child(r.cancel) == "gave None"
    assert not pending._call.done
    for r in (pending, items, answers, composed):
        r.cancel()


def test_a_child_that_ends_leaves_the_parents_node_alone(echo):
    """The child shuts down, runs the exit functions or collects its copies."""
    import gc

    def end():
        serve.shutdown()
        gc.collect()

    assert in_child(end) == "gave None"
    pid = os.fork()
    if pid == 0:
        import atexit

        try:
            atexit._run_exitfuncs()
        finally:
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert echo.echo.remote(1).result(timeout_s=20) == 1


def test_a_child_may_run_an_application_of_its_own(echo):
    """Its node is its own, and so is HELVE_NODE; when that has ended, handles lead to the parent's again."""

    def run():
        try:
            h = serve.run(Echo.bind(), name="child", route_prefix=None)
            return h.echo.remote("own").result(timeout_s=20), sorted(serve.status().applications)
        finally:
            serve.shutdown()

    assert in_child(lambda: (run(), sorted(serve.status().applications))) == "gave (('own', ['child']), ['default'])"
    assert echo.echo.remote(1).result(timeout_s=20) == 1


def test_a_fork_while_threads_call(echo):
    """Locks that they hold are held for ever in the child: code there may not wait for one."""
    over, results = threading.Event(), []

    def call():
        while not over.is_set():
            results.append(echo.echo.remote(1).result(timeout_s=20))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for t in threads:
        t.start()
    try:
        for _ in range(20):
            assert in_child(lambda: echo.echo.remote(1).result(timeout_s=20)) == "gave 1"
    finally:
        over.set()
        for t in threads:
            t.join()
    assert results and set(results) == {1}


def gone(pid):
    """Waits until a process that is not a child of this one has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], LIMIT)[0])
    finally:
        os.close(fd)


@pytest.mark.parametrize("end", ["shutdown", "kill"])
def test_a_child_that_lives_on_does_not_keep_the_node(end):
    code = f"""
import multiprocessing, os, signal, time
from helve import _driver, serve

@serve.deployment
class A:
    def pid(self): return os.getpid()

serve.start(http_options={{"port": None}})
worker = serve.run(A.bind(), route_prefix=None).pid.remote().result()
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,))
child.start()
print(_driver._driver.process.pid, worker, child.pid, flush=True)
if {end!r} == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
process = _driver._driver.process
serve.shutdown()
print(process.returncode, child.is_alive(), flush=True)
child.kill()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as program:
        child = 0
        try:
            node, worker, child = map(int, program.stdout.readline().split())
            assert gone(node) and gone(worker)
            if end == "shutdown":
                assert program.stdout.readline().split() == ["0", "True"]
            else:
                os.kill(child, 0)
        finally:
            program.kill()
            try:
                if child:
                    os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass


def test_a_replica_that_forks(echo):
    assert echo.call_in_child.remote().result(timeout_s=60) == "gave 1"
    echo.comes_back_twice.remote().result(timeout_s=20)  # its child has no part in the connection
    assert [echo.echo.remote(i).result(timeout_s=20) for i in range(20)] == list(range(20))


def test_a_child_of_a_replica_does_not_keep_the_replica(echo):
    worker = echo.leave_a_child.remote().result(timeout_s=20)
    blocked = echo.block.remote()
    assert echo.pid.remote().result(timeout_s=20) == worker
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(Exception, match="process ended"):
        blocked.result(timeout_s=20)


def test_a_number_that_is_another_file_by_then_is_left_alone(tmp_path):
    """A descriptor that was held and closed may be a file of the user's when the program forks."""
    from helve import _fork

    a, b = os.pipe()
    _fork.hold(a)
    os.close(a)
    os.close(b)
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    if file != a:
        os.dup2(file, a)
        os.close(file)
    assert in_child(lambda: os.write(a, b"kept")) == "gave 4"
    assert (tmp_path / "file").read_text() == "kept"
    os.close(a)
