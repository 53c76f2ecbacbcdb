"""The texts that a new user sees: of values that cannot be pickled, and of exceptions that nothing catches."""

import subprocess
import sys
import threading

import pytest

from helve import _unpicklable, serve
from helve.serve.exceptions import RayServeException
from programs import own_lines

lock = threading.Lock()


class Parts:
    def __init__(self):
        self.parts = {"a": [1, threading.Lock()]}


class Slotted:
    __slots__ = ("lock",)

    def __init__(self):
        self.lock = threading.Lock()


def make(value):
    def inner():
        return value

    return inner


@serve.deployment
class Holder:
    def __init__(self, first=None, *, model=None):
        self.first = first

    def __call__(self, x=None):
        return 1

    def result(self):
        return {"k": [threading.Lock()]}

    def items(self):
        yield 1
        yield {"k": threading.Lock()}

    def own(self):
        raise Own("text", 3)

    def chained(self):
        try:
            {}["key"]
        except KeyError as e:
            raise ValueError("no such key") from e

    def local(self):
        class Local(Exception):
            def __reduce__(self):
                raise TypeError("not to be pickled")

        raise Local("said all the same")


class Own(Exception):
    def __init__(self, text, number):
        super().__init__(text, number)
        self.number = number

    def __str__(self):
        return f"{self.args[0]} {self.number}"


@pytest.fixture(scope="module")
def holder():
    serve.start(http_options={"port": None})
    yield serve.run(Holder.bind(), route_prefix=None)
    serve.shutdown()


@serve.deployment
def uses_global():
    return lock


LOCK = "cannot pickle '_thread.lock' object"


@pytest.mark.parametrize("app, text", [
    (lambda: Holder.bind(Parts()), f"deployment 'Holder' argument 'first' (.parts['a'][1]): {LOCK}"),
    (lambda: Holder.bind(model=[Slotted()]), f"deployment 'Holder' argument 'model' ([0].lock): {LOCK}"),
    (lambda: Holder.bind(make(lock)), f"deployment 'Holder' argument 'first' (variable 'value'): {LOCK}"),
    (lambda: Holder.bind(Holder.options(name="Inner").bind(lock)), f"deployment 'Inner' argument 'first': {LOCK}"),
], ids=["positional", "keyword", "closure", "nested"])
def test_a_deployment_that_cannot_be_pickled(app, text):
    with pytest.raises(TypeError) as e:
        serve.run(app(), name="unpicklable", route_prefix=None)
    assert str(e.value) == f"application 'unpicklable' cannot be pickled: {text}"
    assert e.value.__cause__ is None and e.value.__suppress_context__


def test_a_global_of_a_function():
    def pickle(value):
        if value is lock:
            raise TypeError(LOCK)
        if value in (uses_global.func_or_class, module_function):
            raise TypeError("it has a lock")

    def module_function():
        return uses_global

    fn = uses_global.func_or_class
    assert _unpicklable.of_deployment("f", fn, (), {}, pickle) == f"deployment 'f' function 'uses_global' (global 'lock'): {LOCK}"


def test_call_arguments_and_results(holder):
    for fn, text in (
        (lambda: holder.remote(Parts()), f"the call of Holder.__call__() cannot be sent: its argument 1 (.parts['a'][1]) cannot be pickled: {LOCK}"),
        (lambda: holder.remote(x=[lock]), f"the call of Holder.__call__() cannot be sent: its argument 'x' ([0]) cannot be pickled: {LOCK}"),
        (lambda: holder.result.remote(), f"the result of Holder.result() (['k'][0]) cannot be pickled: {LOCK}"),
    ):
        with pytest.raises(TypeError) as e:
            fn().result(timeout_s=20)
        assert str(e.value) == text
    items = holder.options(stream=True).items.remote()
    assert next(items) == 1
    with pytest.raises(TypeError) as e:
        next(items)
    assert str(e.value) == f"an item of the stream (['k']) cannot be pickled: {LOCK}"


def test_a_value_without_end_is_looked_at_for_a_while():
    loop = [lock]
    loop.append(loop)
    assert _unpicklable.find(loop)[0] == "[0]"
    assert _unpicklable.find([1, "x"]) is None
    assert _unpicklable.find(lock)[0] == ""


def test_exceptions_keep_type_and_text(holder):
    with pytest.raises(Own, match="text 3") as e:
        holder.own.remote().result(timeout_s=20)
    assert e.value.number == 3
    with pytest.raises(ValueError, match="no such key") as e:
        holder.chained.remote().result(timeout_s=20)
    assert "KeyError: 'key'" in str(e.value.__cause__)
    with pytest.raises(RayServeException, match="Local: said all the same"):
        holder.local.remote().result(timeout_s=20)


PROGRAM = """
from helve import serve

@serve.deployment
class Model:
    def __init__(self, inner=None):
        self.inner = inner
    def fails(self, x):
        return self.deeper(x)
    def deeper(self, x):
        raise ValueError(f"a bad {x}")
    async def outer(self, x):
        return await self.inner.fails.remote(x)
    def chained(self):
        try: self.deeper(1)
        except ValueError as e: raise KeyError("k") from e

serve.start(http_options={"port": None})
handle = serve.run(Model.bind(Model.bind()), route_prefix=None)
def use():
    return CALL
use()
"""


@pytest.mark.parametrize("call, frames, last", [
    ('handle.fails.remote("x").result()', ["<module>", "use", "fails", "deeper"], "ValueError: a bad x"),
    ('list(handle.options(stream=True).fails.remote("x"))', ["<module>", "use", "fails", "deeper"], "ValueError: a bad x"),
    ('handle.broadcast("fails", "x").results()', ["<module>", "use", "fails", "deeper"], "ValueError: a bad x"),
    ('handle.outer.remote("x").result()', ["<module>", "use", "fails", "deeper"], "ValueError: a bad x"),
    ('handle.nothing.remote().result()', ["<module>", "use"], "helve.serve.exceptions.RayServeException: Tried to call a method 'nothing'"),
], ids=["result", "stream", "broadcast", "through another", "no method"])
def test_a_traceback_has_the_users_frames_once(tmp_path, call, frames, last):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM.replace("CALL", call))
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=60)
    lines = own_lines(done.stderr)
    begin = max(i for i, line in enumerate(lines) if line == "Traceback (most recent call last):")
    said = [line for line in lines[begin:] if line.lstrip().startswith('File "')]
    assert [line.rsplit(" in ", 1)[1] for line in said] == frames, done.stderr
    assert all(f'"{file}"' in line for line in said)
    assert lines[-1].startswith(last) and done.returncode == 1
    assert sum(line.startswith(last) for line in lines[begin:]) == 1


def test_a_traceback_with_a_cause_in_the_replica(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM.replace("CALL", "handle.chained.remote().result()"))
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=60)
    assert "ValueError: a bad 1" in done.stderr and "was raised in a replica" in done.stderr
    assert "/helve/" not in done.stderr and own_lines(done.stderr)[-1] == "KeyError: 'k'"


def test_a_hook_of_the_program_stays():
    code = "import sys; sys.excepthook = lambda *a: print('mine'); from helve import serve; serve.start(http_options={'port': None}); serve.get_app_handle('x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "mine\n"
