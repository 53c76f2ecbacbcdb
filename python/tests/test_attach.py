"""A program that attaches to the node of another one: by HELVE_NODE, by the search, after spawn and fork; its end leaves nothing there."""

import asyncio
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import time

import pytest
from running import LIMIT

from helve import _driver, _find, serve
from helve.serve.exceptions import RayServeException, ReplicaUnavailableError


@serve.deployment(max_ongoing_requests=2, max_queued_requests=3)
class Slow:
    def __init__(self):
        self.hold = asyncio.Event()
        self.entered = 0

    async def __call__(self, x=1):
        return x

    async def block(self):
        self.entered += 1
        await self.hold.wait()

    async def items(self, n):
        for i in range(n):
            yield i


@serve.deployment
class Child:
    def __init__(self, code):
        self.code = code

    async def __call__(self):
        """The output of a program that this replica starts."""
        p = await asyncio.create_subprocess_exec(sys.executable, "-c", self.code, stdout=subprocess.PIPE)
        return (await p.communicate())[0].decode().strip()

    async def run_another(self):
        return await asyncio.to_thread(lambda: serve.run(Slow.bind(), name="another", route_prefix=None).remote(3).result(timeout_s=20))

    def delete(self):
        serve.delete("another")
        return sorted(serve.status().applications)


@pytest.fixture(scope="module")
def slow():
    serve.start(http_options={"port": None})
    yield serve.run(Slow.bind(), route_prefix=None)
    serve.shutdown()


def program(code, **env):
    """The output of another program."""
    done = subprocess.run([sys.executable, "-c", "from helve import serve\n" + code], stdout=subprocess.PIPE, text=True, timeout=60, env={**os.environ, **env})
    return done.stdout.strip()


def settled(check):
    """Waits until the node shows what a check wants, which looks at the calls of Slow."""
    until = time.monotonic() + LIMIT
    while True:
        calls = _driver.running().control("status")["applications"]["default"]["deployments"]["Slow"]["calls"]
        if check(calls) or time.monotonic() > until:
            return calls
        time.sleep(0.005)


CALLS = """
h = serve.get_app_handle("default")
print(h.remote(5).result(timeout_s=20), list(h.options(stream=True).items.remote(3)), h.broadcast("__call__", 7).results(timeout_s=20))
with h.choose_replica() as selection:
    print(h.dispatch(selection, 8).result(timeout_s=20), serve.get_deployment_handle("Slow", "default").remote(9).result(timeout_s=20))
print(h.remote(h.remote(4)).result(timeout_s=20), h.remote(h.remote(6)._to_object_ref_sync()).result(timeout_s=20))
serve.shutdown()
print(sorted(serve.status().applications))
"""


@pytest.mark.parametrize("how", ["directory", "driver socket", "admin socket", "search"])
def test_another_program_calls(slow, how):
    base = _driver.running().dir
    env = {"directory": base, "driver socket": f"{base}/driver.sock", "admin socket": f"{base}/admin.sock", "search": ""}[how]
    assert program(CALLS, HELVE_NODE=env).splitlines() == ["5 [0, 1, 2] [7]", "8 9", "4 6", "['default']"]


def test_an_application_of_another_program_lives_on(slow):
    code = """
@serve.deployment
def double(x): return 2 * x
print(serve.run(double.bind(), name="other", route_prefix=None).remote(2).result(timeout_s=20))
"""
    assert program(code, HELVE_PARENT_NODE="") == "4"
    assert serve.get_app_handle("other").remote(4).result(timeout_s=20) == 8
    assert program('serve.delete("other"); print(sorted(serve.status().applications))') == "['default']"


@pytest.mark.parametrize("env", [{"HELVE_NODE": ""}, {}], ids=["none", "of its parent"])
def test_a_program_runs_its_own(slow, env):
    code = """
@serve.deployment
def f(): return 1
serve.get_app_handle("default")
serve.start(http_options={"port": None})
h = serve.run(f.bind(), name="own", route_prefix=None)
print(h.remote().result(timeout_s=20), sorted(serve.status().applications))
"""
    assert program(code, **env) == "1 ['own']"
    assert sorted(serve.status().applications) == ["default"]


FOUND = """
import os
from helve import _driver, _find
node = _find.only()
print(sorted(serve.status().applications))
try: serve.delete({name!r})
except Exception as e: print(type(e).__name__, e)
serve.shutdown()
print(sorted(serve.status().applications), node)
"""


@pytest.mark.parametrize("name", ["default", "not there"])
def test_a_node_that_a_search_has_found_is_not_changed(slow, name):
    driver = _driver.running()
    before, said, after = program(FOUND.format(name=name), HELVE_NODE="").splitlines()
    assert (before, after) == ("['default']", f"['default'] {driver.dir}")
    assert said == (
        f"RayServeException serve.delete does not change the node that a search has found, which another program has started ({driver.dir}: pid "
        f"{driver.process.pid}, default). Set HELVE_NODE={driver.dir} if that node is meant; serve.run(app) starts a node of this program"
    )
    assert slow.remote(2).result(timeout_s=20) == 2


def test_helve_node_that_is_set_after_a_search(slow):
    """The name counts from then on, although the program has a connection to that node."""
    serve.run(Slow.bind(), name="other", route_prefix=None)
    code = """
import os
from helve import _driver
found = _driver.running()
os.environ["HELVE_NODE"] = found.dir
serve.delete("other")
print(sorted(serve.status().applications), _driver.running() is found)
"""
    assert program(code, HELVE_NODE="") == "['default'] True"


def test_names_of_tasks_and_actors_are_refused(slow):
    with pytest.raises(ValueError, match="name: '_hidden.x' begins with '_hidden.', which is for tasks and actors"):
        serve.run(Slow.bind(), name="_hidden.x", route_prefix=None)


def test_several_nodes_are_listed(slow):
    code = """
import os, sys
@serve.deployment
def f(): return 1
serve.start(http_options={"port": None})
serve.run(f.bind(), name="own", route_prefix=None)
import subprocess
code = "from helve import serve\\ntry: serve.status()\\nexcept Exception as e: print(type(e).__name__, e)"
subprocess.run([sys.executable, "-c", code], env={**os.environ, "HELVE_NODE": ""})
"""
    said = program(code, HELVE_NODE="")
    assert said.startswith("RayServeException 2 nodes of this user run here; choose one by the environment variable HELVE_NODE:")
    driver = _driver.running()
    assert f"\n  HELVE_NODE={driver.dir}   pid {driver.process.pid}, default" in said and ", own" in said


def test_what_helve_node_names_must_be_a_node(slow, tmp_path):
    code = """
try: serve.get_app_handle("default")
except Exception as e: print(type(e).__name__, e)
"""
    said = program(code, HELVE_NODE=str(tmp_path / "none"))
    assert said.startswith(f"RayServeException no node runs at {tmp_path}/none: there is no ") and "set HELVE_NODE to the directory of a node, or unset it" in said
    tmp_path.chmod(0o755)
    assert f"{tmp_path} has the mode 0755" in program(code, HELVE_NODE=str(tmp_path))
    tmp_path.chmod(0o700)
    (tmp_path / "driver.token").write_text("00" * 32)
    (tmp_path / "driver.token").chmod(0o600)
    assert "it does not answer" in program(code, HELVE_NODE=str(tmp_path))
    (tmp_path / "driver.sock").symlink_to(f"{_driver.running().dir}/driver.sock")
    assert "it does not answer: the node did not prove" in program(code, HELVE_NODE=str(tmp_path))


def ask(handle, said):
    try:
        said.put(handle.remote(1).result(timeout_s=20))
    except Exception as e:
        said.put(str(e))


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_processes_of_multiprocessing(slow, method):
    context = multiprocessing.get_context(method)
    said = context.Queue()
    child = context.Process(target=ask, args=(slow, said))
    child.start()
    try:
        assert said.get(timeout=60) == 1
    finally:
        child.join()


def test_programs_of_a_replica(slow):
    code = 'from helve import serve; print(serve.get_app_handle("default").remote(5).result(timeout_s=20), sorted(serve.status().applications))'
    h = serve.run(Child.bind(code), name="parent", route_prefix=None)
    try:
        assert h.remote().result(timeout_s=60) == "5 ['default', 'parent']"
        assert h.run_another.remote().result(timeout_s=60) == 3
        assert h.delete.remote().result(timeout_s=60) == ["default", "parent"]
    finally:
        serve.delete("parent")


def test_the_end_of_an_attached_program_leaves_nothing(slow):
    """A program is killed while its calls run and queue, with a slot that was chosen and not used."""
    settled(lambda c: not c["running"])
    code = """
import sys
h = serve.get_app_handle("default")
selection = h.choose_replica().__enter__()
calls = [h.block.remote() for _ in range(4)]
try: h.block.remote().result(timeout_s=20)
except Exception as e: print(type(e).__name__, flush=True)
sys.stdin.read()
"""
    files = sorted(os.listdir(_driver.running().dir))
    with subprocess.Popen([sys.executable, "-c", "from helve import serve\n" + code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        assert p.stdout.readline() == "BackPressureError\n"
        assert settled(lambda c: c["queued"] == 3)["queued"] == 3
        # The limit is that of an origin: this program's calls are not refused, and wait.
        own = slow.remote(2)
        assert settled(lambda c: c["queued"] == 4)["queued"] == 4
        p.kill()
    assert own.result(timeout_s=20) == 2
    calls = settled(lambda c: not c["running"] and not c["queued"])
    assert (calls["running"], calls["queued"]) == (0, 0)
    with slow.choose_replica(), slow.choose_replica():  # both slots are free
        pass
    assert sorted(os.listdir(_driver.running().dir)) == files


def test_a_program_may_choose_the_node(slow):
    code = f"""
from helve import _driver
_driver.use({_driver.running().dir!r})
@serve.deployment
def f(): return 1
print(serve.run(f.bind(), name="other", route_prefix=None).remote().result(timeout_s=20))
import os
serve.shutdown()
print(os.environ["HELVE_NODE"], os.environ["HELVE_PARENT_NODE"])
"""
    assert program(code, HELVE_NODE="a", HELVE_PARENT_NODE="b") == "1\na b"
    serve.delete("other")


def test_tasks_and_actors_are_not_in_the_line_of_a_node(slow, monkeypatch):
    driver = _driver.running()
    monkeypatch.setattr(_find, "ask", lambda sock, op: {"applications": {"_hidden.tasks": {}, "default": {}}})
    assert _find.describe(driver.dir) == f"pid {driver.process.pid}, default"


def test_names_that_are_not_there(slow):
    for get, kind, text in (
        (lambda: serve.get_app_handle("x"), RayServeException, "Application 'x' does not exist. The node runs default."),
        (
            lambda: serve.get_deployment_handle("X", "default"), KeyError,
            "Deployment(name='X', app='default') does not exist. Application 'default' has Slow.",
        ),
        (lambda: serve.get_deployment_handle("X", "y"), KeyError, "Deployment(name='X', app='y') does not exist. The node runs default."),
        (lambda: serve.get_deployment_handle("Slow"), RayServeException, "Please specify an application name"),
    ):
        with pytest.raises(kind) as e:
            get()
        assert text in str(e.value)
    assert serve.get_deployment_handle("X", "y", _check_exists=False).deployment_name == "X"


def test_handles_are_kept(slow):
    assert len({id(serve.get_app_handle("default")) for _ in range(100)}) == 1
    assert len({id(serve.get_deployment_handle("Slow", "default")) for _ in range(100)}) == 1


def test_the_search_passes_over_the_dead(tmp_path, monkeypatch):
    monkeypatch.setenv("HELVE_RUNTIME_DIR", str(tmp_path))
    for name, mode, file in (("helve-dead", 0o700, "helve-node"), ("helve-open", 0o755, "helve-node"), ("helve-foreign", 0o700, "other")):
        path = tmp_path / name
        path.mkdir()
        for f in (file, "driver.sock"):
            (path / f).write_text("")
        path.chmod(mode)
    assert _find.running() == [] and _find.only() is None


def test_a_node_that_ends_and_the_next_one():
    """The attached program gets an error that says so, and attaches to another node with the next use."""
    code = """
import sys
@serve.deployment
class F:
    def __call__(self): return {name!r}
    async def block(self):
        import asyncio
        await asyncio.sleep(3600)
serve.start(http_options={{"port": None}})
serve.run(F.bind(), name="f", route_prefix=None)
print(flush=True)
sys.stdin.read()
"""
    serve.shutdown()

    def start(name):
        p = subprocess.Popen([sys.executable, "-c", "from helve import serve\n" + code.format(name=name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        p.stdout.readline()
        return p

    with start("first") as first:
        h = serve.get_app_handle("f")
        assert h.remote().result(timeout_s=20) == "first"
        blocked = h.block.remote()
        pid = _driver.running().pid
        fd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        assert select.select([fd], [], [], LIMIT)[0]
        os.close(fd)
        first.kill()
    with pytest.raises(ReplicaUnavailableError, match=f"the node has gone away: the process {pid}, at "):
        blocked.result(timeout_s=20)
    with pytest.raises(ReplicaUnavailableError, match="the node has gone away.*no application is running"):
        h.remote()
    with pytest.raises(RayServeException, match="^no application is running: call serve.run"):
        h.remote()
    assert serve.status().applications == {}
    with start("second") as second:
        assert h.remote().result(timeout_s=20) == "second"
        serve.shutdown()  # ends the connection alone
        assert h.remote().result(timeout_s=20) == "second"
        serve.shutdown()
        second.kill()
