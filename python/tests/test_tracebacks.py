"""Tracebacks that users see: their own frames, once, and none of Helve's."""

import logging
import os
import subprocess
import sys
import traceback

import pytest

from helve import _guard, _logging
from helve.serve.handle import DeploymentHandle
from programs import own_lines

BEGINNING = """
import sys
from helve import serve

@serve.deployment
class Inner:
    async def fail(self, x):
        return self.deep(x)

    def deep(self, x):
        raise KeyError(x)

@serve.deployment
class Outer:
    def __init__(self, inner):
        self.inner = inner

    async def __call__(self):
        return await self.inner.fail.remote("k")

@serve.deployment
class Broken:
    def __init__(self):
        self.prepare()

    def prepare(self):
        raise ValueError("two" + chr(10) + "lines")

@serve.deployment
class Sick:
    def check_health(self):
        raise ValueError("sick")

serve.start(http_options={"port": None})
"""


def uncaught(tmp_path, end, **env):
    """The lines on stderr of a program whose last line raises: its own, and all as one text."""
    script = tmp_path / "program.py"
    script.write_text(BEGINNING + end + "\n")
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, env={**os.environ, **env})
    assert ran.returncode == 1, ran.stderr
    return own_lines(ran.stderr), ran.stderr


@pytest.mark.parametrize("end, frames, last", [
    ("serve.run(Outer.bind(Inner.bind()), route_prefix=None).remote().result()", ["<module>", "fail", "deep"], "KeyError: 'k'"),
    ("import asyncio\nasync def main():\n    await handle.remote()\nhandle = serve.run(Outer.bind(Inner.bind()), route_prefix=None)\nasyncio.run(main())",
     ["<module>", "main", "fail", "deep"], "KeyError: 'k'"),
    ("serve.run(Broken.bind(), route_prefix=None)", ["<module>", "__init__", "prepare"], "lines"),
    ("serve.run(Sick.bind(), route_prefix=None)", ["<module>", "check_health"], "ValueError: sick"),
    ("serve.run(Broken.bind(), _local_testing_mode=True)", ["<module>", "__init__", "prepare"], "lines"),
    ("serve.run(Broken)", ["<module>"], None),
])
def test_exceptions_that_end_a_program(tmp_path, end, frames, last):
    lines, all = uncaught(tmp_path, end)
    have = [line.rpartition(" in ")[2] for line in lines if line.startswith('  File "') and "program.py" in line]
    assert have == frames, all
    assert "/helve/" not in all and "\\n" not in all
    if last is not None:
        assert [line for line in lines if line.strip()][-1] == last


def test_a_replica_that_fails_to_start_again(tmp_path):
    """The node logs the traceback in lines, below its record."""
    end = """
import os

@serve.deployment
class Fragile:
    def __init__(self, path):
        if os.path.exists(path):
            raise ValueError("no second start")
        open(path, "w").close()

    def die(self):
        os._exit(3)

serve.run(Fragile.bind(sys.argv[0] + ".flag"), route_prefix=None).broadcast("die").entries()
while "no second start" not in serve.status().applications["default"].deployments["Fragile"].message:
    pass
sys.exit(1)
"""
    _, all = uncaught(tmp_path, end)
    lines = all.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("(node) ") and "no second start" in line)
    assert lines[at].endswith('error="default/Fragile.constructor: no second start"')
    assert lines[at + 1] == "(node)   Traceback (most recent call last):" and lines[at + 2].startswith('(node)     File "') and "in __init__" in lines[at + 2]


def test_frames_of_helve_are_shown_on_request(tmp_path):
    _, all = uncaught(tmp_path, "serve.run(Broken.bind(), route_prefix=None)", HELVE_TRACEBACKS="full")
    assert "/helve/" in all


def own_frames():
    """An exception that went through Helve's code, with one of its own as context."""
    try:
        try:
            raise KeyError("first")
        except KeyError:
            DeploymentHandle(deployment_name=object())
    except Exception as e:
        return e


def test_frames_are_taken_out_of_every_traceback():
    e = own_frames()
    assert "/helve/" in "".join(traceback.format_exception(type(e), e, e.__traceback__))
    _guard.hide_own_frames(e)
    text = "".join(traceback.format_exception(type(e), e, e.__traceback__))
    assert "/helve/" not in text and text.count("in own_frames") == 2


def test_an_exception_of_helve_alone_keeps_its_frames():
    e = own_frames()
    e.__traceback__ = e.__traceback__.tb_next  # without the frame of this file
    _guard.hide_own_frames(e)
    assert e.__traceback__ is not None


def test_a_program_keeps_its_excepthook(monkeypatch):
    def mine(*args):
        raise NotImplementedError

    monkeypatch.setattr(sys, "excepthook", mine)
    _guard.install_hooks()
    assert sys.excepthook is mine


def test_the_frame_that_raised():
    assert _guard.last_frame(own_frames())[2] == "own_frames"
    assert _guard.last_frame(ValueError()) is None


def test_records_of_the_users_own_have_no_frames_of_helve():
    e = own_frames()
    record = logging.makeLogRecord({"exc_info": (type(e), e, e.__traceback__), "msg": "text", "levelname": "ERROR"})
    text = _logging.Text([]).format(record)
    assert "/helve/" not in text and "in own_frames" in text and text.count("Traceback") == 2
