"""serve.run(app, _local_testing_mode=True): applications in the process of their test."""

import asyncio
import os
import pickle
import threading

import pytest

from helve import _driver, serve
from helve.serve.exceptions import ReplicaUnavailableError, RayServeException, RequestCancelledError
from helve.serve.handle import DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator

STATE: list = []


class Quota(Exception):
    def __init__(self, limit):
        super().__init__(f"at most {limit}")
        self.limit = limit


@serve.deployment(user_config={"size": 1}, num_replicas=3, max_ongoing_requests=1)
class Model:
    def __init__(self, factor=1):
        self.factor, self.config, self.started, self.cancelled = factor, None, asyncio.Event(), asyncio.Event()

    def reconfigure(self, config):
        self.config = config

    def __call__(self, x):
        return x * self.factor

    async def double(self, x):
        return 2 * x

    def options(self):
        return self.config

    def grow(self, values):
        values.append(1)
        return values

    def thread(self):
        return threading.current_thread() is threading.main_thread(), os.getpid()

    async def fail(self):
        raise Quota(7)

    def count(self, n):
        yield from range(n)

    async def count_async(self, n):
        for i in range(n):
            yield i

    async def endless(self):
        i = 0
        try:
            while True:
                yield i
                i += 1
        finally:
            STATE.append("closed")
            self.cancelled.set()

    async def block(self):
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def await_started(self):
        await self.started.wait()

    async def await_cancelled(self):
        await self.cancelled.wait()

    async def model_id(self):
        return serve.get_multiplexed_model_id()

    def context(self):
        return serve.get_replica_context()

    def call(self, handle, x):
        return handle.remote(x).result()

    def leave(self):
        raise SystemExit(3)


@serve.deployment
class Ensemble:
    def __init__(self, a, others):
        self.a, self.b, self.c = a, others["b"], others["c"][0]

    async def __call__(self, x):
        first = self.a.remote(x)
        second = self.b.double.remote(first)
        return await first, await second, await self.c.remote(second)

    def plain(self, x):
        return self.a.remote(x).result(timeout_s=10)

    async def stream(self, n):
        return [i async for i in self.a.options(stream=True).count.remote(n)]

    async def refer(self):
        return await self.a.remote(1)._to_object_ref()

    async def kinds(self):
        return [isinstance(h, DeploymentHandle) for h in (self.a, self.b, self.c)]

    async def block(self):
        await self.a.block.remote()


@pytest.fixture(autouse=True)
def ended():
    yield
    serve.shutdown()
    assert _driver._driver is None
    assert [t.name for t in threading.enumerate() if t.name.startswith("helve-local")] == []


@pytest.fixture
def model():
    return serve.run(Model.bind(), _local_testing_mode=True)


def test_composition():
    handle = serve.run(Ensemble.bind(Model.bind(3), {"b": Model.bind(), "c": [Model.bind(factor=5)]}), _local_testing_mode=True)
    assert isinstance(handle, DeploymentHandle) and handle.deployment_name == "Ensemble" and handle.app_name == "default"
    assert handle.remote(2).result() == (6, 12, 60)
    assert handle.plain.remote(2).result() == 6
    assert handle.stream.remote(3).result() == [0, 1, 2]
    assert handle.kinds.remote().result() == [True, True, True]
    assert serve.get_deployment_handle("Model_1", "default").double.remote(4).result() == 8


def test_no_node_and_no_process(model):
    assert model.thread.remote().result() == (False, os.getpid())
    assert _driver._driver is None


@pytest.mark.parametrize("inner", [False, True])
def test_exception_of_a_constructor(inner):
    @serve.deployment
    class Broken:
        def __init__(self, other=None):
            raise Quota(1)

    app = Ensemble.bind(Broken.bind(), {}) if inner else Broken.bind(Model.bind())
    with pytest.raises(Quota, match="at most 1"):
        serve.run(app, _local_testing_mode=True)
    with pytest.raises(RayServeException):
        serve.get_app_handle("default")


def test_outcomes(model):
    response = model.remote(4)
    assert isinstance(response, DeploymentResponse)
    assert [response.result(), response.result(timeout_s=1)] == [4, 4]
    with pytest.raises(Quota) as e:
        model.fail.remote().result()
    assert e.value.limit == 7
    with pytest.raises(RuntimeError, match="SystemExit: 3"):
        model.leave.remote().result()
    assert model.remote(1).result() == 1
    with pytest.raises(RayServeException, match="Tried to call a method 'nope' that does not exist. Available methods: .*double"):
        model.nope.remote().result()
    with pytest.raises(TypeError):
        model.remote().result()


def test_await_and_other_loops(model):
    async def main():
        with pytest.raises(RuntimeError):
            model.remote(1).result()
        assert await model.remote(4) == 4
        response = model.double.remote(model.remote(3))
        assert [await response, await response] == [6, 6]
        with pytest.raises(Quota):
            await model.fail.remote()
        return [i async for i in model.options(stream=True).count_async.remote(3)]

    assert asyncio.run(main()) == [0, 1, 2]


def test_arguments_are_copies(model):
    values = [0]
    assert model.grow.remote(values).result() == [0, 1]
    assert values == [0]
    with pytest.raises(TypeError, match="cannot pickle"):
        model.remote(threading.Lock()).result()


def test_streams(model):
    items = model.options(stream=True).count.remote(3)
    assert isinstance(items, DeploymentResponseGenerator)
    assert list(items) == [0, 1, 2]
    assert list(model.options(stream=True).count_async.remote(1000)) == list(range(1000))
    with pytest.raises(TypeError, match="did not return a generator"):
        list(model.options(stream=True).double.remote(1))
    with pytest.raises(TypeError, match="You must use `handle.options\\(stream=True\\)`"):
        model.count.remote(3).result()
    with pytest.raises(RuntimeError, match="streaming results cannot be passed"):
        model.remote(model.options(stream=True).count.remote(3))


def test_a_stream_that_is_dropped_is_closed(model):
    STATE.clear()
    items = model.options(stream=True).endless.remote()
    assert next(items) == 0
    items.cancel()
    model.await_cancelled.remote().result()
    assert STATE == ["closed"]
    with pytest.raises(RequestCancelledError):
        next(items)


def test_cancel(model):
    response = model.block.remote()
    model.await_started.remote().result()
    with pytest.raises(TimeoutError):
        response.result(timeout_s=0)
    response.cancel()
    assert response.cancelled()
    with pytest.raises(RequestCancelledError):
        response.result()
    model.await_cancelled.remote().result()


def test_cancel_reaches_the_calls_of_a_method():
    handle = serve.run(Ensemble.bind(Model.bind(), {"b": Model.bind(), "c": [Model.bind()]}), _local_testing_mode=True)
    inner = serve.get_deployment_handle("Model", "default")
    response = handle.block.remote()
    inner.await_started.remote().result()
    response.cancel()
    inner.await_cancelled.remote().result()


def test_options(model):
    assert model.options(method_name="options").remote().result() == {"size": 1}
    assert model.options(multiplexed_model_id="m").model_id.remote().result() == "m"
    assert model.options(method_name="double", multiplexed_model_id="m").remote(2).result() == 4


def test_references_are_refused(model):
    handle = serve.run(Ensemble.bind(Model.bind(), {"b": Model.bind(), "c": [Model.bind()]}), name="e", _local_testing_mode=True)
    text = "Converting DeploymentResponses to ObjectRefs is not supported in local testing mode."
    with pytest.raises(RuntimeError, match=text):
        handle.refer.remote().result()
    with pytest.raises(RuntimeError, match=text):
        model.remote(1)._to_object_ref_sync()
    with pytest.raises(RuntimeError, match=text):
        asyncio.run(model.remote(1)._to_object_ref())
    with pytest.raises(RuntimeError, match=text):
        model.options(stream=True).count.remote(1)._to_object_ref_gen_sync()


def test_handles_are_passed_to_calls_and_not_pickled_elsewhere(model):
    other = serve.run(Model.bind(7), name="other", _local_testing_mode=True)
    assert model.call.remote(other, 2).result() == 14
    with pytest.raises(RayServeException, match="_local_testing_mode"):
        pickle.dumps(model)


def test_replica_context_is_refused(model):
    with pytest.raises(RayServeException):
        model.context.remote().result()


def test_broadcast_and_choose(model):
    assert model.broadcast("double", 3).results() == [6]
    with pytest.raises(Quota):
        model.broadcast("fail").results()
    with model.choose_replica() as selection:
        assert model.double.dispatch(selection, 3).result() == 3
        with pytest.raises(RuntimeError, match="dispatched before"):
            model.dispatch(selection, 3).result()


def test_functions_and_ingress_classes():
    @serve.deployment
    async def add(x):
        return x + 1

    async def asgi(scope, receive, send):
        raise NotImplementedError

    @serve.deployment
    @serve.ingress(asgi)
    class Api:
        def double(self, x):
            return 2 * x

    assert serve.run(add.bind(), name="f", _local_testing_mode=True).remote(1).result() == 2
    api = serve.run(Api.bind(), name="api", _local_testing_mode=True)
    assert api.double.remote(2).result() == 4
    with pytest.raises(RayServeException, match="ASGI"):
        api.remote(1).result()


def test_run_again_leaves_others():
    first = serve.run(Model.bind(2), name="a", _local_testing_mode=True, logging_config={"log_level": "DEBUG"})
    with pytest.raises(ValueError, match="LOUD"):
        serve.run(Model.bind(), name="a", _local_testing_mode=True, logging_config={"log_level": "LOUD"})
    other = serve.run(Model.bind(3), name="b", route_prefix="/b", _local_testing_mode=True)
    second = serve.run(Model.bind(4), name="a", _local_testing_mode=True)
    assert [second.remote(1).result(), other.remote(1).result(), serve.get_app_handle("b").remote(1).result()] == [4, 3, 3]
    with pytest.raises(ReplicaUnavailableError, match="has ended"):
        first.remote(1).result()
    serve.delete("a")
    with pytest.raises(ReplicaUnavailableError, match="has ended"):
        second.remote(1).result()
    assert other.remote(1).result() == 3


def test_every_call_ends_at_a_shutdown(model):
    """Calls that are on their way when the deployment ends, and a call that is cancelled at once."""
    model.remote(1).cancel()
    responses = [model.double.remote(i) for i in range(100)]
    serve.shutdown()
    for i, response in enumerate(responses):
        try:
            assert response.result(timeout_s=10) == 2 * i
        except (ReplicaUnavailableError, RequestCancelledError):
            pass


def test_shutdown_ends_waiting_calls(model):
    response = model.block.remote()
    model.await_started.remote().result()
    serve.shutdown()
    with pytest.raises(ReplicaUnavailableError):
        response.result(timeout_s=10)


def test_arguments_that_cannot_be_pickled_reach_a_constructor():
    lock = threading.Lock()

    @serve.deployment
    class Holder:
        def __init__(self, held):
            STATE.append(held is lock)

    STATE.clear()
    serve.run(Holder.bind(lock), _local_testing_mode=True)
    assert STATE == [True]


class Nest:
    def __init__(self, app):
        self.app = app


def test_an_application_in_an_object():
    @serve.deployment
    class Outer:
        def __init__(self, nest):
            self.inner = nest.app

        async def __call__(self, x):
            return await self.inner.remote(x)

    assert serve.run(Outer.bind(Nest(Model.bind(2))), _local_testing_mode=True).remote(3).result() == 6


def test_user_config_without_reconfigure():
    @serve.deployment(user_config={"a": 1})
    class Plain:
        pass

    with pytest.raises(RayServeException, match="reconfigure"):
        serve.run(Plain.bind(), _local_testing_mode=True)
