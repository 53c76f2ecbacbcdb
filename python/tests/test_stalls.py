"""Stalls of event loops: how long, where the program stood, and whose call it was (_stalls.py)."""

import asyncio
import sys
import threading
import time
import types

import pytest
from helve import _runtime, _spans, _stalls
from helve._frames import RequestInfo


def code_of_a_call(info, entered, go):
    """Stands for a frame of a worker, which has the call as info."""
    entered.set()
    go.wait(10)


def standing_in(function, *args):
    """The place and the call of a thread that runs a function."""
    entered, go = threading.Event(), threading.Event()
    thread = threading.Thread(target=function, args=(*args, entered, go), daemon=True)
    thread.start()
    assert entered.wait(10)
    try:
        return _stalls.standing(sys._current_frames()[thread.ident])
    finally:
        go.set()
        thread.join(10)


def users_code(entered, go):
    def inside():
        return [(entered.set(), go.wait(10)) for _ in range(1)]

    return inside()


def test_place():
    place, info = standing_in(users_code)
    assert place.startswith(("users_code", "inside", "<listcomp>")) and "test_stalls.py line" in place and info is None
    assert ".<locals>.<" not in place


def test_call(monkeypatch):
    """The call is found in a frame of Helve."""
    monkeypatch.setattr(_stalls, "HELVE", __file__)
    info = RequestInfo(bytes(16), bytes(16), bytes(8), 7, 0, None)
    place, found = standing_in(code_of_a_call, info)
    assert found is info and place


@pytest.fixture
def reported(monkeypatch):
    records: list = []
    monkeypatch.setattr(_spans, "report", records.append)
    monkeypatch.setattr(_stalls, "ready", True)
    monkeypatch.setattr(_runtime, "replica", types.SimpleNamespace(app_name="app", deployment="D", replica_tag="D#1"))
    return records


def test_report(reported):
    """A stall is reported when the loop turns, with its time and place; a watchdog hears of it when it is long."""
    loop, told = asyncio.new_event_loop(), []
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    hold = threading.Event()
    loop.call_soon_threadsafe(hold.wait, 10)
    turned = threading.Event()
    loop.call_soon_threadsafe(turned.set)

    def long():
        told.append(True)
        hold.set()

    before = time.time_ns()
    _stalls.until(turned, threading.Event(), thread.ident, _stalls.LOOK + 0.05, long)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
    (record,) = reported
    assert told == [True] and record["kind"] == "stall" and record["replica"] == "D#1" and record["begin"] < before < record["end"] and record["name"]
    assert "parent" not in record and len(record["request"]) == 36


def test_start(reported, monkeypatch):
    """An import or a constructor before the replica is ready holds up no call: that stall is not reported, also if it ends when the replica takes calls."""
    monkeypatch.setattr(_stalls, "ready", False)
    constructor = _stalls.Stall(threading.get_ident())
    constructor.look()
    _stalls.begin()
    constructor.end()
    assert reported == []
    method = _stalls.Stall(threading.get_ident())
    method.look()
    method.end()
    assert len(reported) == 1


def test_no_processor(reported):
    """A loop that waits for events in each look was late because its process got no processor: no code has blocked it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    frames = lambda: sys._current_frames()[thread.ident]  # noqa: E731
    deadline = time.monotonic() + 10
    while not _stalls.turns(frames()):
        assert time.monotonic() < deadline
    idle = _stalls.Stall(thread.ident)
    idle.look()
    idle.end()
    assert reported == []
    hold, held = threading.Event(), threading.Event()
    loop.call_soon_threadsafe(lambda: (held.set(), hold.wait(10)))
    assert held.wait(10)
    idle.look()  # code has blocked it too
    idle.end()
    hold.set()
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
    assert len(reported) == 1 and "test_stalls.py" in reported[0]["name"]


def test_stopped(reported):
    """The end of a watchdog ends the wait for a loop that does not turn."""
    stopped = threading.Event()
    stopped.set()
    _stalls.until(threading.Event(), stopped, threading.get_ident(), 0.0, None)
    assert reported == []


def test_pause():
    looks = _stalls.Looks(60)
    looks.used = time.process_time() + 1
    assert looks.pause() == _stalls.IDLE
    looks.used = time.process_time() - 1
    assert looks.pause() == _stalls.LOOK
    assert _stalls.Looks(0.1).pause() <= 0.1
