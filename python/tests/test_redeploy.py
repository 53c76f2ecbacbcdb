"""serve.run of an application that runs: it changes in place, and replicas whose code is the same go on."""

import importlib
import os
import subprocess
import sys
import threading
import types

import pytest

from helve import _code, serve

MODELS = """
import os
from helve import serve
import redeploy_helping

THRESHOLD = 1

@serve.deployment(user_config="a")
class Model:
    scale = 1

    def __init__(self, *args, **kwargs):
        self.args, self.word = (args, kwargs), ""
        if args == ("broken",):
            raise ValueError("broken on purpose")

    async def reconfigure(self, word):
        self.word = word
        if word == "bad":
            raise ValueError("refused")

    async def who(self):
        return os.getpid(), self.word

    async def threshold(self):
        return THRESHOLD

    async def helping(self):
        return redeploy_helping.WORD

@serve.deployment
class Front:
    def __init__(self, model):
        self.model = model

    async def who(self):
        return await self.model.who.remote()
"""


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A module of the program's own, which imports another."""
    (tmp_path / "redeploy_models.py").write_text(MODELS)
    (tmp_path / "redeploy_helping.py").write_text("WORD = 'a'\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    module = importlib.import_module("redeploy_models")
    yield module
    for name in ("redeploy_models", "redeploy_helping"):
        sys.modules.pop(name, None)


@pytest.fixture
def node():
    serve.start(http_options={"port": None})
    yield
    serve.shutdown()


def run(app, **options):
    return serve.run(app, name="redeploy", route_prefix=None, **options)


def replicas(handle):
    """The process ids and user configs by replica."""
    return {r.replica_id: r.value for r in handle.broadcast("who").entries() if not r.missed}


class Traffic:
    """Calls all the time. None may fail."""

    def __init__(self, handle):
        self.handle, self.stop, self.errors, self.count = handle, threading.Event(), [], 0
        self.thread = threading.Thread(target=self.call)

    def call(self):
        while not self.stop.is_set():
            try:
                self.handle.who.remote().result()
                self.count += 1
            except Exception as e:
                self.errors.append(e)
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stop.set()
        self.thread.join()
        assert not self.errors and self.count


def test_numbers_and_user_config_change_in_place(models, node):
    model = models.Model.options(num_replicas=2)
    handle = run(model.bind(1, where="here"))
    before = replicas(handle)
    assert len(before) == 2
    with Traffic(handle):
        for options in ({}, {"max_ongoing_requests": 50}, {"max_queued_requests": 99, "health_check_period_s": 1}, {"graceful_shutdown_timeout_s": 3}):
            run(model.options(**options).bind(1, where="here"))
            assert replicas(handle) == before, options
        run(model.options(user_config="b").bind(1, where="here"))
        after = replicas(handle)
        assert {id: (pid, "b") for id, (pid, _) in before.items()} == after
        with pytest.raises(RuntimeError, match="(?s)stays at revision.*refused"):
            run(model.options(user_config="bad", max_ongoing_requests=9).bind(1, where="here"))
        assert replicas(handle) == after
        more = run(model.options(user_config="b", num_replicas=3).bind(1, where="here"))
        assert len(replicas(more)) == 3 and after.items() <= replicas(more).items()


def test_changes_that_replace(models, node, tmp_path):
    model = models.Model
    handle = run(model.bind())
    before = replicas(handle)

    def replaced():
        nonlocal before
        now = replicas(handle)
        new, before = not set(now) & set(before), now
        return new

    with Traffic(handle):
        run(model.bind("other arguments"))
        assert replaced()
        run(model.options(version="1").bind(object()))
        assert replaced()
        run(model.options(version="1").bind(object()))
        assert not replaced()
        run(model.bind(object()))
        assert replaced()
        run(model.bind(object()))  # no plain value: new each time
        assert replaced()
        (tmp_path / "redeploy_helping.py").write_text("WORD = 'another'\n")
        models.THRESHOLD = 2  # travels with the class
        run(model.bind())
        assert replaced() and handle.helping.remote().result() == "another" and handle.threshold.remote().result() == 2
        run(model.bind())
        assert not replaced()


def test_a_class_of_the_program_is_new_each_time(node):
    @serve.deployment
    class Local:
        async def who(self):
            return os.getpid(), ""

    handle = run(Local.bind())
    before = replicas(handle)
    with Traffic(handle):
        run(Local.bind())
        after = replicas(handle)
        assert not set(before) & set(after)
        with pytest.raises(RuntimeError, match="no weights"):
            @serve.deployment(name="Local")
            class Broken:
                def __init__(self):
                    raise ValueError("no weights")

                async def who(self):
                    pass

            run(Broken.bind())
        assert replicas(handle) == after
    assert serve.status().applications["redeploy"].status == "DEPLOY_FAILED"


def test_graph_changes(models, node):
    """Another ingress comes in front of a deployment, which goes on; get_app_handle gives the new ingress."""
    handle = run(models.Model.bind())
    before = replicas(handle)
    front = run(models.Front.bind(models.Model.bind()))
    assert front.who.remote().result() in before.values()
    assert replicas(handle) == before
    assert serve.get_app_handle("redeploy").who.remote().result() in before.values()


# ---- versions, without a node


def version(deployment, *args, **kwargs):
    return _code.version(deployment._target, deployment._source, args, kwargs, lambda v: None)


def test_plain_arguments_have_versions(models):
    same = [((), {}), ((1, 2.5, "x", b"y", None, True), {"k": [1, (2,), {"a": {}}]})]
    for args, kwargs in same:
        assert version(models.Model, *args, **kwargs) == version(models.Model, *args, **kwargs) != ""
    different = [(1,), (True,), (1.0,), ("1",), (b"1",), ([1],), ((1,),), ({1: 1},), ({"items": [(1, 1)]},), (None,), ()]
    assert len({version(models.Model, *args) for args in different}) == len(different)
    deep: list = []
    for _ in range(99):
        deep = [deep]
    loop: list = []
    loop.append(loop)
    for value in (object(), deep, loop, {1: object()}, [len], types.SimpleNamespace()):
        assert version(models.Model, value) == ""


def test_code_has_versions(models, tmp_path):
    before = version(models.Model)
    assert before and version(models.Model.options(num_replicas=5)) == before
    assert version(models.Front) not in ("", before)
    assert version(serve.deployment(models.Model.func_or_class)) == before
    models.Model.func_or_class.scale = 2
    scaled = version(models.Model)
    assert scaled not in ("", before)
    models.Model.func_or_class.scale = 1
    assert version(models.Model) == before
    (tmp_path / "unrelated.py").write_text("")
    assert version(models.Model) == before
    (tmp_path / "redeploy_helping.py").write_text("import redeploy_late\n")
    (tmp_path / "redeploy_late.py").write_text("")
    importlib.invalidate_caches()
    helping = version(models.Model)
    assert helping not in ("", before)
    (tmp_path / "redeploy_late.py").write_text("# more")
    assert version(models.Model) not in ("", helping)
    (tmp_path / "redeploy_late.py").write_text("")
    assert version(models.Model) == helping
    (tmp_path / "redeploy_models.py").write_text(MODELS + "\n# edited after it was imported: the class is of the file before\n")
    assert version(models.Model) == ""


def test_packages(tmp_path, monkeypatch):
    package = tmp_path / "redeploy_pack"
    (package / "sub").mkdir(parents=True)
    (tmp_path / "redeploy_folder").mkdir()
    (tmp_path / "redeploy_folder" / "alone.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "sub" / "unused.py").write_text("")
    (package / "served.py").write_text("from helve import serve\nfrom redeploy_folder import alone\n@serve.deployment\ndef f():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    f = importlib.import_module("redeploy_pack.served").f
    last = version(f)
    assert last
    for changed in (package / "__init__.py", package / "sub" / "unused.py", tmp_path / "redeploy_folder" / "alone.py"):
        changed.write_text("# changed")
        now = version(f)
        assert now not in ("", last), changed
        last = now
    (package / "data.txt").write_text("")
    assert version(f) == last


def test_code_without_versions():
    def factory(n):
        def made():
            return n
        return made

    for target in (factory(1), len, int, type("Local", (), {})):
        assert version(serve.deployment(target)) == ""
    unknown = type("Gone", (), {"__module__": "__main__", "__qualname__": "Gone"})
    assert version(serve.deployment(unknown)) == ""


def test_version_of_a_deployment_whose_name_is_that_of_its_application(tmp_path, monkeypatch):
    (tmp_path / "redeploy_bound.py").write_text(
        "from helve import serve\n\n@serve.deployment\ndef app(request):\n    return 1\n\napp = app.bind()\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    app = importlib.import_module("redeploy_bound").app
    try:
        assert _code.version(app._bound._target, app._bound._source, (), {}, lambda value: None) != ""
    finally:
        del sys.modules["redeploy_bound"]


# ---- methods in the wrappers of decorators

WRAPPED = """
import asyncio, enum, functools, os, pathlib, threading, weakref
from helve import serve

SIZE = int(os.environ.get("REDEPLOY_SIZE", 4))
LOCK = threading.Lock()

class Color(enum.Enum):
    RED = 1

class Policy:
    # one part that no pickle can have, and one that differs from run to run
    def __init__(self):
        self.lock, self.made, self.users = threading.Lock(), object(), weakref.WeakKeyDictionary()
        self.started = os.getpid()

class Plain:
    def __init__(self, size):
        self.size, self.again = size, self

class Counted:
    def __init__(self, fn):
        self.lock, self.fn = threading.Lock(), fn

    def __call__(self, *args):
        return self.fn(*args)

def wrapped(*kept):
    def decorate(fn):
        @functools.wraps(fn)
        async def wrapper(*args, **kwargs):
            assert kept is not None
            with LOCK:
                return fn(*args, **kwargs)
        return wrapper
    return decorate

def counted(fn):
    counter = Counted(fn)
    return lambda *args: counter(*args)

def late():
    return SIZE

@serve.deployment
class Multiplexed:
    @serve.multiplexed(max_num_models_per_replica=SIZE)
    async def load(self, id):
        return id

    async def who(self):
        return os.getpid(), ""

@serve.deployment
class Batched:
    @serve.batch(max_batch_size=SIZE, batch_wait_timeout_s=0)
    async def many(self, items):
        return items

    @serve.batch(batch_size_fn=len)
    async def streams(self, items):
        yield items

    async def who(self):
        return os.getpid(), ""

@serve.deployment
class Wrapped:
    @wrapped(LOCK, Policy(), {"one", "two", "three", "four"}, Plain(SIZE), Color.RED, pathlib.Path(__file__), os, {late, counted, wrapped}, functools.partial(int, "1", base=SIZE))
    def answer(self):
        return SIZE

    @functools.lru_cache(maxsize=SIZE)
    def kept(self):
        return SIZE

    async def who(self):
        return os.getpid(), ""

def limited(limits):
    def decorate(fn):
        @functools.wraps(fn)
        async def wrapper(*args, **kwargs):
            return limits.size, fn(*args, **kwargs)
        return wrapper
    return decorate

@serve.deployment
class Limited:
    @limited(Plain(SIZE))
    def answer(self):
        return 1

    async def who(self):
        return os.getpid(), ""

@serve.deployment
class Inner:
    @counted
    def answer(self):
        return SIZE

@serve.deployment
class Cached:
    @functools.lru_cache(maxsize=None)
    def answer(self):
        return SIZE

@serve.deployment
class Beside:
    @wrapped({"lock": threading.Lock(), "size": SIZE})
    def answer(self):
        return 1

@serve.deployment
@wrapped(asyncio.Lock())
def function():
    return 1
"""
VERSIONS = """
import subprocess
import sys
sys.path.insert(0, sys.argv[1])
import redeploy_wrapped as m
from helve import _code
for name in ("Multiplexed", "Batched", "Wrapped", "Limited", "Inner", "Cached", "Beside", "function"):
    d = getattr(m, name)
    print(_code.version(d._target, d._source, (), {}, lambda v: None))
"""


def versions(tmp_path, seed, **env):
    """The versions of the deployments of WRAPPED, in a process of their own."""
    out = subprocess.run([sys.executable, "-c", VERSIONS, str(tmp_path)], env={**os.environ, "PYTHONHASHSEED": seed, **env}, check=True, capture_output=True, text=True)
    return out.stdout.split("\n")[:-1]


def test_wrapped_methods_have_the_same_version_in_each_process(tmp_path):
    (tmp_path / "redeploy_wrapped.py").write_text(WRAPPED)
    before = versions(tmp_path, "1")
    assert len(set(before)) == 8 and "" not in before
    assert versions(tmp_path, "2") == before

    def changed(now):
        assert "" not in now
        return [a != b for a, b in zip(now, before)]

    # The options of a decorator are made of more than the file, and so are the values that a wrapped function refers to.
    assert changed(versions(tmp_path, "1", REDEPLOY_SIZE="5")) == [True] * 7 + [False]
    (tmp_path / "redeploy_wrapped.py").write_text(WRAPPED.replace("return id\n", "return [id]\n"))
    assert all(changed(versions(tmp_path, "1")))  # of one file
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "redeploy_wrapped.py").write_text(WRAPPED)
    assert versions(tmp_path / "copy", "1") == before


def test_a_wrapped_function_of_a_script_is_new_each_time(models):
    assert version(models.Model) != ""
    scope = {"__name__": "__main__"}
    exec("async def many(self, items):\n    return items", scope)
    models.Model.func_or_class.many = serve.batch(scope["many"])
    assert version(models.Model) == ""


def test_replicas_with_wrapped_methods_go_on(tmp_path, monkeypatch, node):
    """A second serve.run of the same file, as a second process makes it: the module is imported again."""
    (tmp_path / "redeploy_wrapped.py").write_text(WRAPPED)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("Multiplexed", "Batched", "Limited"):
        seen = []
        for _ in range(2):
            importlib.invalidate_caches()
            module = importlib.import_module("redeploy_wrapped")
            try:
                seen.append(replicas(run(getattr(module, name).bind())))
            finally:
                del sys.modules["redeploy_wrapped"]
        assert seen[0] == seen[1] and seen[0], name
