"""The attributes, types and options of handles and responses beside their calls."""

import inspect
import pickle
import typing

import pytest

from helve import serve
from helve.serve.exceptions import RayServeException
from helve.serve.handle import (
    DEFAULT, DeploymentBroadcastResponse, DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator,
)


@serve.deployment(num_replicas=2)
class Echo:
    def __call__(self, x=1):
        return x

    def shutdown(self):
        return "a method of the class"

    def source(self, handle):
        handle = handle or serve.get_deployment_handle("Echo", _check_exists=False)
        handle.options()
        return handle.init_options._source.value

    async def populated(self):
        handle = serve.get_deployment_handle("Echo", _check_exists=False)
        before = handle.running_replicas_populated()
        await handle.remote()
        return before, handle.running_replicas_populated()


@pytest.fixture(scope="module")
def echo():
    serve.start(http_options={"port": None})
    yield serve.run(Echo.bind(), route_prefix=None)
    serve.shutdown()


def test_types_take_a_parameter():
    def method(h: DeploymentHandle[Echo], r: DeploymentResponse[str], g: DeploymentResponseGenerator[int]) -> DeploymentBroadcastResponse[str]:
        pass

    hints = typing.get_type_hints(method)
    assert typing.get_args(hints["h"]) == (Echo,) and typing.get_origin(hints["r"]) is DeploymentResponse
    assert isinstance(DeploymentHandle[Echo]("Echo"), DeploymentHandle)

    class Mine(DeploymentHandle[int]):
        pass

    assert Mine("Echo").deployment_name == "Echo"


def test_derived_handles_share_their_identity(echo):
    h = serve.get_deployment_handle("Echo", "default", _check_exists=False)
    assert not h.is_initialized and h.init_options is None and not h.running_replicas_populated()
    one, two = h.options(session_id="s"), h.shutdown_later
    assert h.is_initialized and one.handle_id == two.handle_id == h.handle_id
    assert [one.remote(i).result(timeout_s=20) for i in range(3)] == [0, 1, 2]
    assert one.request_counter == h.request_counter and h.request_counter.value == 3
    tags = h.request_counter.info["default_tags"]
    assert tags == {"handle": f"default#Echo#{h.handle_id}", "deployment": "Echo", "application": "default"}
    assert h.running_replicas_populated()
    other = DeploymentHandle("Echo")
    assert other.handle_id != h.handle_id and other.request_counter != h.request_counter


def test_options_of_a_handle():
    h = DeploymentHandle("Echo").options(method_name="m", multiplexed_model_id="a", session_id="s", stream=True, _by_reference=False)
    h = h.options(request_serialization="msgpack", response_serialization="ORJSON", stream=DEFAULT.VALUE)
    o = h.handle_options
    assert (o.method_name, o.multiplexed_model_id, o.session_id, o.stream, o._by_reference) == ("m", "a", "s", True, False)
    assert (o.request_serialization, o.response_serialization) == ("msgpack", "orjson")
    assert DeploymentHandle("Echo").handle_options.method_name == "__call__"
    again = pickle.loads(pickle.dumps(h))
    assert again.handle_options == o and not again.is_initialized and again.handle_id != h.handle_id


@pytest.mark.parametrize("use", [
    lambda h: h._init(), lambda h: h.options(), lambda h: h.method, lambda h: h.remote(), lambda h: h.broadcast("__call__"),
    lambda h: h.choose_replica().__enter__()._release(),
], ids=["init", "options", "attribute", "remote", "broadcast", "choose_replica"])
def test_init_comes_before_the_first_use(echo, use):
    h = DeploymentHandle("Echo")
    use(h)
    with pytest.raises(RuntimeError, match="Handle has already been initialized"):
        h._init(_prefer_local_routing=True)


def test_init_sets_options_once(echo):
    h = DeploymentHandle("Echo")
    h._init(_prefer_local_routing=True, _run_router_in_separate_loop=False)
    assert h.init_options._prefer_local_routing and h.init_options._source.value == "UNKNOWN"
    assert h.remote(5).result(timeout_s=20) == 5
    with pytest.raises(TypeError, match="'prefer_local'; there are _prefer_local_routing"):
        DeploymentHandle("Echo")._init(prefer_local=True)


def test_a_handle_in_a_replica(echo):
    assert echo.source.remote(None).result(timeout_s=20) == "REPLICA"
    assert echo.source.remote(DeploymentHandle("Echo")).result(timeout_s=20) == "REPLICA"
    assert echo.populated.remote().result(timeout_s=20) == (False, True)


def test_names_of_attributes_are_methods_too(echo):
    assert echo.shutdown() is None
    assert echo.options(method_name="shutdown").remote().result(timeout_s=20) == "a method of the class"
    assert inspect.iscoroutinefunction(echo.shutdown_async)


def test_mistakes_say_what_was_meant(echo):
    for fn, kind, text in (
        (lambda: echo(1), TypeError, "a DeploymentHandle is not callable: call handle.remote(...)"),
        (lambda: echo.source(1), TypeError, "call handle.source.remote(...)"),
        (lambda: echo.options(method="x"), TypeError, "unexpected keyword argument 'method'. Did you mean 'method_name'?"),
        (lambda: echo.options(qwerty=1), TypeError, "'qwerty'; there are method_name, "),
        (lambda: echo.sorce.remote().result(timeout_s=20), RayServeException, "Available methods: ['populated', 'shutdown', 'source']. Did you mean 'source'?"),
    ):
        with pytest.raises(kind) as e:
            fn()
        assert text in str(e.value)


def test_a_selection_has_the_fields_of_the_reference(echo):
    with echo.choose_replica() as s:
        assert s.replica_id and s.node_id and s.node_ip == "127.0.0.1"
        assert s.port is None and s.availability_zone is None and s.replica_metadata == {}
