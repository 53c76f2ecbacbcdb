"""Broadcasts, and calls to a replica that was chosen, from drivers and replicas over a real node."""

import asyncio
import json
import os
import pickle
import struct

import pytest
from eventually import eventually

from helve import _encoding as encoding
from helve import _runtime, _wire as wire
from helve import serve
from helve._stream import ITEM
from helve.serve.broadcast import BroadcastCall, DeploymentBroadcastResponse
from helve.serve.exceptions import (
    BackPressureError, DeploymentUnavailableError, RayServeException, ReplicaUnavailableError, RequestCancelledError,
)


@serve.deployment(num_replicas=3, max_ongoing_requests=2)
class Many:
    def __init__(self):
        self.values, self.begun, self.ended, self.go = [], 0, 0, asyncio.Event()

    async def note(self, *args, **kwargs):
        self.values.append((args, kwargs))
        return os.getpid()

    async def noted(self):
        return self.values

    async def id(self):
        return serve.get_replica_context().replica_id.unique_id

    async def fail(self, x):
        raise ValueError(f"{x}")

    async def wait(self):
        self.begun += 1
        try:
            await self.go.wait()
        finally:
            self.ended += 1

    async def counts(self):
        return serve.get_replica_context().replica_id.unique_id, self.begun, self.ended

    async def wait_unless(self, replica):
        if serve.get_replica_context().replica_id.unique_id != replica:
            await self.go.wait()
        return "at once"

    async def open(self):
        self.go.set()

    async def close(self):
        self.go.clear()

    async def numbers(self, n):
        for i in range(n):
            yield i


@serve.deployment(max_ongoing_requests=1, max_queued_requests=1)
class One:
    def __init__(self):
        self.go = asyncio.Event()

    async def id(self):
        return serve.get_replica_context().replica_id.unique_id

    async def echo(self, x):
        return x

    async def numbers(self, n):
        for i in range(n):
            yield i


@serve.deployment
class Caller:
    def __init__(self, many, one):
        self.many, self.one = many, one

    async def ask_all(self, x):
        r = self.many.broadcast("note", x)
        return len(set(await r.results_async())), [e.replica_id for e in await r.entries_async()]

    async def blocking(self):
        return self.many.broadcast("id").results()

    async def waits(self):
        return await self.many.broadcast("wait").results_async()

    async def choose(self):
        async with self.one.id.choose_replica() as selection:
            return selection.replica_id, await self.one.dispatch(selection)


@pytest.fixture(scope="module")
def caller():
    serve.start(http_options={"port": None})
    yield serve.run(Caller.bind(Many.bind(), One.bind()))
    serve.shutdown()


@pytest.fixture
def many(caller):
    h = serve.get_deployment_handle("Many", "default")
    yield h
    h.broadcast("open").results(timeout_s=30)
    h.broadcast("close").results(timeout_s=30)


@pytest.fixture(scope="module")
def one(caller):
    return serve.get_deployment_handle("One", "default")


def test_every_replica_answers_once(many):
    r = many.broadcast("note", 1, key={"a": (2,)})
    pids = r.results(timeout_s=30)
    assert len(set(pids)) == 3 and r.results() == pids and not r.missed and len(r.request_id) == 36
    assert all(((1,), {"key": {"a": (2,)}}) in v for v in many.broadcast("noted").results())


def test_it_is_eager(many):
    many.broadcast("note", "nobody reads it")
    while not all((("nobody reads it",), {}) in v for v in many.broadcast("noted").results(timeout_s=30)):
        pass


def test_who_answered(many):
    r = many.broadcast("id")
    entries = r.entries(timeout_s=30)
    assert [e.value for e in entries] == [e.replica_id for e in entries] == r.results()
    assert all(e.node_id for e in entries) and not any(e.missed or e.error for e in entries)


def test_on_event_loops(many, caller):
    async def go():
        return await many.broadcast("note", 2).results_async(timeout_s=30), await many.broadcast("id").entries_async()

    pids, entries = asyncio.run(go())
    assert len(set(pids)) == len(entries) == 3
    count, ids = caller.ask_all.remote(3).result(timeout_s=30)
    assert count == 3 and sorted(ids) == sorted(e.value for e in entries)
    with pytest.raises(RuntimeError, match="results_async"):
        caller.blocking.remote().result(timeout_s=30)


def test_options_of_the_handle_and_responses_as_arguments(many, one):
    assert len(many.options(stream=True, method_name="fail", multiplexed_model_id="m").broadcast("id").results(timeout_s=30)) == 3
    many.broadcast("note", one.echo.remote("resolved")).results(timeout_s=30)
    assert all((("resolved",), {}) in v for v in many.broadcast("noted").results())
    with pytest.raises(ValueError, match="upstream"):
        many.broadcast("note", many.fail.remote("upstream")).results(timeout_s=30)


def test_it_waits_for_no_slot(many):
    held = [many.wait.remote() for _ in range(6)]
    assert len(many.broadcast("id").results(timeout_s=30)) == 3
    many.broadcast("open").results(timeout_s=30)
    for h in held:
        h.result(timeout_s=30)


@pytest.mark.parametrize("method, error", [("fail", ValueError), ("numbers", TypeError), ("missing", RayServeException)])
def test_errors(many, method, error):
    r = many.broadcast(method, 7)
    with pytest.raises(error):
        r.results(timeout_s=30)
    got = r.results(timeout_s=30, return_exceptions=True)
    assert len(got) == 3 and all(isinstance(e, error) for e in got)

    async def go():
        with pytest.raises(error):
            await r.results_async()
        return await r.results_async(return_exceptions=True)

    assert len(asyncio.run(go())) == 3


def test_timeouts_lose_nothing(many):
    first = many.broadcast("id").results(timeout_s=30)[0]

    def at_once(response):
        return next(e.value for e in response.entries(timeout_s=0.01) if e.replica_id == first)

    r = many.broadcast("wait_unless", first)
    with pytest.raises(TimeoutError):
        r.results(timeout_s=0.05)
    while at_once(r) is None:
        pass
    got = r.results(timeout_s=0.01, return_exceptions=True)
    assert "at once" in got and [type(e) for e in got if e != "at once"] == [TimeoutError] * 2

    async def go():
        with pytest.raises(TimeoutError):
            await r.results_async(timeout_s=0.01)
        return await r.results_async(timeout_s=0.01, return_exceptions=True)

    assert "at once" in asyncio.run(go())
    with pytest.raises(ValueError, match="negative"):
        r.results(timeout_s=-1)
    r.cancel()


def counts(many):
    """The number of calls of wait() that have begun, and that have ended, in all replicas. Ordinary calls ask, because broadcasts wait for each other."""
    seen = {}
    while len(seen) < 3:
        replica, begun, ended = many.counts.remote().result(timeout_s=30)
        seen[replica] = begun, ended
    return tuple(map(sum, zip(*seen.values())))


def test_cancel_reaches_the_replicas(many):
    begun, ended = counts(many)
    r = many.broadcast("wait")
    eventually(lambda: counts(many) == (begun + 3, ended))
    r.cancel()
    with pytest.raises(RequestCancelledError):
        r.results(timeout_s=30)
    assert r.cancelled()
    eventually(lambda: counts(many) == (begun + 3, ended + 3))


def test_cancelling_the_caller_cancels_the_broadcast(many, caller):
    begun, ended = counts(many)
    r = caller.waits.remote()
    eventually(lambda: counts(many) == (begun + 3, ended))
    r.cancel()
    eventually(lambda: counts(many) == (begun + 3, ended + 3))


def test_nobody_there(caller):
    with pytest.raises(DeploymentUnavailableError):
        serve.get_deployment_handle("Nobody", "default", _check_exists=False).broadcast("id").results(timeout_s=30)


def test_it_does_not_pickle(many):
    with pytest.raises(RayServeException):
        pickle.dumps(many.broadcast("id"))


# ---- replicas that are gone, by hand

class Server:
    def on_lost(self, error):
        pass


class Transport:
    def write(self, data):
        pass

    def set_write_buffer_limits(self, high):
        pass


def by_hand(*items):
    loop = asyncio.new_event_loop()
    conn = wire.Connection(loop, Server())
    conn.connection_made(Transport())
    call = BroadcastCall(conn, wire.new_request())
    call.id = 1
    conn.pending[1] = call
    asked = json.dumps([{"replica": r, "node": "n"} for r in "abc"]).encode()
    for codec, item in ((encoding.JSON, asked), *items):
        call.on_items(ITEM.pack(len(item), codec) + item)
    return DeploymentBroadcastResponse(call)


def answer(i, value):
    return encoding.RAW, struct.pack("<IB", i, encoding.TEXT) + value.encode()


def failed(i, **fields):
    return encoding.RAW, struct.pack("<IB", i, 255) + encoding.envelope({"message": "m", **fields})


def test_who_was_gone_is_left_out_and_listed():
    r = by_hand(answer(2, "c"), failed(0, reason="replica_unavailable", replica="a"), answer(1, "b"))
    r._call.finish(None, None)
    assert r.results() == ["b", "c"] and r.missed == ["a"]
    entries = r.entries()
    assert [e.missed for e in entries] == [True, False, False] and isinstance(entries[0].error, ReplicaUnavailableError)


def test_all_gone():
    r = by_hand(*(failed(i, reason="replica_unavailable") for i in range(3)))
    r._call.finish(None, None)
    assert r.missed == ["a", "b", "c"]
    for exceptions in (False, True):
        with pytest.raises(DeploymentUnavailableError):
            r.results(return_exceptions=exceptions)


def test_an_error_of_a_call_that_the_method_made_is_its_answer():
    r = by_hand(answer(0, "a"), answer(1, "b"), failed(2, reason="replica_unavailable", replica="of another"))
    r._call.finish(None, None)
    assert not r.missed
    with pytest.raises(ReplicaUnavailableError):
        r.results()


def test_the_node_goes_away_meanwhile():
    r = by_hand(answer(0, "a"))
    r._call.conn.connection_lost(None)
    got = r.results(return_exceptions=True)
    assert got[0] == "a" and all("gone away" in str(e) for e in got[1:])


# ---- a replica that was chosen

def test_choose_and_dispatch(one, caller):
    assert len(set(caller.choose.remote().result(timeout_s=30))) == 1
    with one.id.choose_replica("any", args=1) as selection:
        assert selection.node_id
        assert one.dispatch(selection).result(timeout_s=30) == selection.replica_id

    async def go():
        async with one.echo.choose_replica() as selection:
            return await one.dispatch(selection, "x")

    assert asyncio.run(go()) == "x"


def test_a_selection_holds_a_slot_until_its_context_ends(one):
    with one.id.choose_replica() as selection:
        queued = one.id.remote()
        with pytest.raises(TimeoutError):
            queued.result(timeout_s=0.1)
        with pytest.raises(BackPressureError):  # the broadcast counts while it waits
            with one.id.choose_replica():
                pass
    assert queued.result(timeout_s=30) == selection.replica_id
    assert one.id.remote().result(timeout_s=30) == selection.replica_id


def test_a_slot_that_is_given_back_is_free_for_the_next_call(one):
    """One call is executed, and one waits: with the slot still taken, the second would be refused."""
    for i in range(100):
        with one.echo.choose_replica():
            pass
        assert [r.result(timeout_s=30) for r in (one.echo.remote(i), one.echo.remote(-i))] == [i, -i]


def test_a_stream_is_dispatched(one):
    h = one.options(stream=True)
    with h.numbers.choose_replica() as selection:
        assert list(one.dispatch(selection, 300)) == list(range(300))


def test_one_that_was_used(one):
    with one.echo.choose_replica() as selection:
        assert one.dispatch(selection, 1).result(timeout_s=30) == 1
        with pytest.raises(RuntimeError, match="dispatched before"):
            one.dispatch(selection, 2).result(timeout_s=30)
    with one.echo.choose_replica() as selection:
        pass
    with pytest.raises(RuntimeError, match="context has ended"):
        one.dispatch(selection, 1).result(timeout_s=30)


def test_wrong_selections(one, many):
    with one.echo.choose_replica() as selection:
        with pytest.raises(ValueError, match="different deployment: .*'One'.*'Many'"):
            many.dispatch(selection, 1)
        with pytest.raises(TypeError, match="choose_replica"):
            one.dispatch("x")
        assert one.dispatch(selection, "still good").result(timeout_s=30) == "still good"


def test_an_error_in_the_context_gives_the_slot_back(one):
    with pytest.raises(KeyError):
        with one.id.choose_replica():
            raise KeyError
    assert one.id.remote().result(timeout_s=30)


def test_who_stops_waiting_leaves_no_slot_behind(one):
    async def go():
        async with one.id.choose_replica():
            waits = asyncio.ensure_future(one.echo.choose_replica().__aenter__())
            await asyncio.sleep(0.05)  # so that it waits at the node; if not, the test shows less and does not fail
            waits.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waits
        return await one.id.remote()

    assert asyncio.run(go())


def test_a_slot_that_comes_too_late_is_given_back(one, monkeypatch):
    """The node's answer and the cancel cross."""
    from helve.serve.choose import ReserveCall

    conn = _runtime.connection
    held = []
    finish = ReserveCall.finish

    def late(self, value, error):
        if not self.done and error is None:
            self.cancel()
            held.append(value["lease"])
        finish(self, value, error)

    monkeypatch.setattr(ReserveCall, "finish", late)
    with pytest.raises(RequestCancelledError):
        with one.id.choose_replica():
            pass
    monkeypatch.undo()
    assert held and one.id.remote().result(timeout_s=5)  # its lease would end after 10 s
    assert conn is _runtime.connection
