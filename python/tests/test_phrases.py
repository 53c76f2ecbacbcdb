"""Phrases and types of errors that users of Ray Serve match on."""

import asyncio
import pickle

import pytest

from helve import _phrases, serve
from helve.serve.exceptions import (
    BackPressureError, DeploymentUnavailableError, RayServeException, ReplicaUnavailableError, RequestCancelledError, gRPCStatusError,
)
from helve.serve.handle import DeploymentHandle


@serve.deployment
class Model:
    async def __call__(self, x=1):
        return x

    def exists(self):
        return 1

    def generator(self):
        yield 1

    async def agenerator(self):
        yield 1

    def returns_one(self):
        return self.generator()

    async def in_loop(self):
        h = serve.get_deployment_handle("Other", "other")
        said = []
        for fn in (
            lambda: h.remote().result(), lambda: next(h.options(stream=True).items.remote()), lambda: h.broadcast("__call__").results(),
            lambda: h.remote()._to_object_ref_sync(), lambda: h.options(_by_reference=False).remote()._to_object_ref_sync(_allow_running_in_asyncio_loop=True),
        ):
            try:
                fn()
            except Exception as e:
                said.append((type(e).__name__, str(e)))
        return said


@serve.deployment
class Other:
    def __call__(self):
        return 1

    def items(self):
        yield 1


@serve.deployment(max_ongoing_requests=1, max_queued_requests=1)
class Full:
    async def block(self):
        await asyncio.Event().wait()


@pytest.fixture(scope="module")
def model():
    serve.start(http_options={"port": None})
    serve.run(Other.bind(), name="other", route_prefix=None)
    yield serve.run(Model.bind(), route_prefix=None)
    serve.shutdown()


WITHOUT = "Method '{}' returned a generator. You must use `handle.options(stream=True)` to call generators on a deployment."


@pytest.mark.parametrize("name", ["generator", "agenerator", "returns_one"])
def test_a_generator_without_stream(model, name):
    with pytest.raises(TypeError) as e:
        getattr(model, name).remote().result(timeout_s=20)
    assert WITHOUT.format(name) in str(e.value)


@pytest.mark.parametrize("name", ["exists", "__call__"])
def test_stream_of_a_method_that_is_none(model, name):
    items = model.options(stream=True, method_name=name).remote()
    with pytest.raises(TypeError) as e:
        next(items)
    assert f"'{name}'" in str(e.value) and "but it did not return a generator" in str(e.value)


def test_a_method_that_does_not_exist(model):
    with pytest.raises(RayServeException) as e:
        model.exits.remote().result(timeout_s=20)
    text = str(e.value)
    assert text.startswith("Tried to call a method 'exits' that does not exist. Available methods: ['agenerator', 'exists', 'generator', ")
    assert "Did you mean 'exists'?" in text


def test_a_method_of_a_deployment_that_has_call_alone():
    text = _phrases.no_method("predict", ["__call__"], "Model")
    assert text == (
        "Tried to call a method 'predict' that does not exist. Available methods: []. The deployment is Model, whose `__call__` runs by handle.remote()."
    )
    assert _phrases.no_method("predict", [], "Model").endswith("Available methods: []. The deployment is Model.")


def test_blocking_on_an_event_loop(model):
    said = model.in_loop.remote().result(timeout_s=20)
    assert [kind for kind, _ in said] == ["RuntimeError"] * 5
    assert all("should not be called from within an `asyncio` event loop" in text for _, text in said[:4])
    assert "Converting by-value DeploymentResponses to ObjectRefs is not supported." in said[4][1]


def test_responses_that_are_pickled(model):
    r = model.remote()
    with pytest.raises(RayServeException, match="`DeploymentResponse` is not serializable"):
        pickle.dumps(r)
    with pytest.raises(RayServeException, match="`DeploymentResponse` is not serializable"):
        model.remote([r]).result(timeout_s=20)
    with pytest.raises(RayServeException, match="`DeploymentResponseGenerator` is not serializable"):
        pickle.dumps(model.options(stream=True).generator.remote())


def test_streams_are_not_awaited(model):
    items = model.options(stream=True).generator.remote()
    with pytest.raises(TypeError, match="`DeploymentResponseGenerator` cannot be awaited directly"):
        items.__await__()
    with pytest.raises(TypeError, match=r"`DeploymentResponseGenerator` doesn't support `.result\(\)`"):
        items.result()


def test_the_queue_is_full(model):
    full = serve.run(Full.bind(), name="full", route_prefix=None)  # its slot and its queue have the calls of this test alone
    running = full.block.remote()
    waiting = full.block.remote()
    try:
        with pytest.raises(BackPressureError) as e:
            full.block.remote().result(timeout_s=20)
    finally:
        waiting.cancel()
        running.cancel()
    assert str(e.value) == e.value.message == "Request dropped due to backpressure (num_queued_requests=1, max_queued_requests=1)."
    assert (e.value.num_queued_requests, e.value.max_queued_requests, e.value.status_code, e.value.retry_after_s) == (1, 1, 503, None)
    with pytest.raises(RequestCancelledError, match=f"^Request {running.request_id} was cancelled.$"):
        running.result(timeout_s=20)


def test_the_answer_of_a_refusal_travels():
    from helve import _encoding

    for made, want in (
        (BackPressureError(1, 2, 429, 2.5), (429, 3.0)), (BackPressureError(1, 2, 503, 1), (503, 1.0)), (BackPressureError(1, 2), (503, None)),
        (BackPressureError(1, 2, 418, "x"), (503, None)),
    ):
        e = _encoding.decode_error(_encoding.encode_error(made))
        assert (type(e), e.status_code, e.retry_after_s, e.num_queued_requests, str(e)) == (BackPressureError, *want, 1, str(made))


def test_selections_of_another_deployment(model):
    with serve.get_app_handle("other").choose_replica() as s:
        with pytest.raises(ValueError, match="Cannot dispatch a selection created for a different deployment"):
            model.dispatch(s)


@pytest.mark.parametrize("made, text, fields", [
    (BackPressureError(3, 4), "Request dropped due to backpressure (num_queued_requests=3, max_queued_requests=4).", {"status_code": 503, "retry_after_s": None}),
    (BackPressureError(3, 4, 429, 1.5), None, {"status_code": 429, "retry_after_s": 1.5}),
    (BackPressureError("full"), "full", {"message": "full", "status_code": 503}),
    (RequestCancelledError("id"), "Request id was cancelled.", {}),
    (RequestCancelledError(), "Request was cancelled.", {}),
    (ReplicaUnavailableError("r#1"), "Replica r#1 is no longer available.", {"message": "Replica r#1 is no longer available."}),
    (
        DeploymentUnavailableError(DeploymentHandle("D", "a").deployment_id), None,
        {"message": "Deployment(name='D', app='a') is unavailable because it failed to deploy."},
    ),
    (gRPCStatusError(ValueError("x"), "NOT_FOUND", "gone"), "x", {"grpc_code": "NOT_FOUND", "grpc_details": "gone"}),
], ids=lambda v: type(v).__name__ if isinstance(v, Exception) else "")
def test_errors_are_made_and_pickled_as_in_the_reference(made, text, fields):
    again = pickle.loads(pickle.dumps(made))
    for e in (made, again):
        assert isinstance(e, RayServeException) and type(e) is type(made) and (text is None or str(e) == text)
        assert {k: getattr(e, k) for k in fields} == fields
