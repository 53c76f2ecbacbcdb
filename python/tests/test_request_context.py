"""The context of the request that is being served."""

import asyncio
import contextvars
from types import SimpleNamespace

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from ports import free_port
from helve import _driver, _runtime, serve
from helve._wire import RequestInfo, entry, parse_tail, request_info
from helve.serve import context
from helve.serve.handle import DeploymentID
from helve.serve.request_router import ReplicaID

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_outside_of_requests():
    assert context._get_serve_request_context() == context._RequestContext()
    assert context._serve_request_context.get() == context._RequestContext()
    assert context._get_serve_batch_request_context() == []
    assert serve.get_trace_context() is None and serve.get_multiplexed_model_id() == ""


def test_contexts_that_are_set():
    token = context._serve_request_context.set(context._RequestContext(route="/a", request_id="r", multiplexed_model_id="m"))
    assert context._serve_request_context.get() == context._RequestContext(route="/a", request_id="r", multiplexed_model_id="m")
    assert serve.get_multiplexed_model_id() == "m"
    context._set_request_context(app_name="app", route="/b")
    assert context._get_serve_request_context() == context._RequestContext(route="/b", request_id="r", app_name="app", multiplexed_model_id="m")
    context._serve_request_context.reset(token)
    assert context._get_serve_request_context() == context._RequestContext()


def test_a_call_on_the_wire():
    info = RequestInfo(bytes(range(16)), bytes.fromhex(TRACE), bytes.fromhex("00f067aa0ba902b7"), 255, 0, None)
    parse_tail(b"".join(entry(k, v) for k, v in ((b"rid", b"mine"), (b"model", b"m"), (b"session", b"s"), (b"sampled", b""))), info)

    def look():
        request_info.set(info)
        return context._get_serve_request_context(), serve.get_trace_context()

    got, traced = contextvars.copy_context().run(look)
    assert got == context._RequestContext(request_id="mine", _internal_request_id="00000000000000ff", multiplexed_model_id="m", session_id="s")
    (span,) = traced.values()
    assert f"{span.get_span_context().trace_id:032x} {span.get_span_context().span_id}" == f"{TRACE} 255" and span.get_span_context().trace_flags == 1


def test_a_process_that_a_unit_test_makes_a_replica(monkeypatch):
    monkeypatch.setattr(_runtime, "replica", None)
    monkeypatch.setattr(_runtime, "max_ongoing_requests", None)
    deployment = DeploymentID("D", "app")
    context._set_internal_replica_context(
        replica_id=ReplicaID("u", deployment), servable_object=None, _deployment_config=SimpleNamespace(max_ongoing_requests=7), rank=0, world_size=1,
    )
    own = serve.get_replica_context()
    assert (own.app_name, own.deployment, own.replica_id.unique_id, own.world_size, own.gang_context) == ("app", "D", "u", 1, None)
    assert _runtime.max_ongoing_requests == 7


# ---- in replicas


def fields():
    own = context._get_serve_request_context()
    traced = serve.get_trace_context()
    trace = [f"{s.get_span_context().trace_id:032x} {int(s.get_span_context().trace_flags)}" for s in traced.values()] if traced else []
    return {**vars(own), "trace": trace}


@serve.deployment
class Plain:
    async def __call__(self, request):
        own = fields()
        assert await asyncio.create_task(self.task()) == own and await asyncio.to_thread(fields) == own
        return own

    async def task(self):
        return fields()

    async def called(self):
        return fields()

    def plain(self):
        return fields()

    async def items(self):
        yield fields()


@serve.deployment
class Caller:
    def __init__(self, plain):
        self.plain = plain

    async def __call__(self, request):
        return [fields(), await self.plain.called.remote()]


app, router = FastAPI(), APIRouter(prefix="/routed")


@app.get("/fixed")
def fixed():
    return fields()["route"]


@router.get("/{x}")
async def routed(x: str):
    return fields()["route"]


app.include_router(router)


@serve.deployment
@serve.ingress(app)
class Web:
    @app.get("/{user_id}")
    async def user(self, user_id: str):
        return fields()["route"]


@pytest.fixture(scope="module")
def url():
    port = free_port()
    serve.start(http_options={"port": port})
    serve.run(Web.bind(), name="root", route_prefix="/")
    serve.run(Web.bind(), name="web", route_prefix="/web")
    serve.run(Plain.bind(), name="plain", route_prefix="/plain")
    serve.run(Caller.bind(Plain.bind()), name="caller", route_prefix="/caller")
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    _driver._http = None


def test_requests(url):
    got = httpx.get(url + "/plain/below?x=1", headers={"x-request-id": "mine"}).json()
    assert {k: got[k] for k in ("route", "request_id", "app_name", "is_http_request", "multiplexed_model_id", "trace")} == {
        "route": "/plain", "request_id": "mine", "app_name": "plain", "is_http_request": True, "multiplexed_model_id": "",
        "trace": ["69187633b4757277b806e95bbec5586e 0"],  # a digest of the id, as in Go
    }
    assert got["_client"].startswith("127.0.0.1:") and got["_internal_request_id"]


def test_traces(url):
    for flags, sampled in (("01", 1), ("00", 0)):
        own, called = httpx.get(url + "/caller", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-{flags}"}).json()
        assert own["trace"] == called["trace"] == [f"{TRACE} {sampled}"]
        assert own["request_id"] == called["request_id"] and called["is_http_request"] is False


@pytest.mark.parametrize("prefix", ["", "/web"])
def test_routes_of_fastapi(url, prefix):
    for path, route in (("/fixed", "/fixed"), ("/routed/3", "/routed/{x}"), ("/abc", "/{user_id}")):
        assert httpx.get(url + prefix + path).json() == prefix + route


@pytest.mark.parametrize("threads", ["", "1"], ids=["loop", "thread"])
def test_calls_of_handles(url, threads):
    handle = serve.run(Plain.options(runtime_env={"env_vars": {"RAY_SERVE_RUN_SYNC_IN_THREADPOOL": threads}}).bind(), name="calls", route_prefix=None)
    handle = handle.options(session_id="s", multiplexed_model_id="m")
    for got in (handle.called.remote().result(), handle.plain.remote().result(), *handle.options(stream=True).items.remote()):
        assert (got["app_name"], got["session_id"], got["multiplexed_model_id"], got["is_http_request"], got["route"]) == ("calls", "s", "m", False, "")
        assert len(got["request_id"]) == 36
