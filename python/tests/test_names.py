"""Names of applications and deployments are any text that can be printed on one line, on a real node."""

import json

import pytest

from helve import serve

NAMES = ["../x", "a/b", "a@b", "ü", "a b", "%2F", '"\\', "é" * 64]


@serve.deployment
class Odd:
    def __init__(self, *below):
        self.below = below

    async def __call__(self, request) -> str:
        me = serve.get_replica_context()
        return json.dumps([me.app_name, me.deployment, [await h.who.remote() for h in self.below]])

    async def who(self):
        return serve.get_replica_context().deployment


@pytest.fixture(scope="module")
def port():
    serve.start(http_options={"port": 0})
    yield
    serve.shutdown()


@pytest.mark.parametrize("name", NAMES)
def test_an_application_and_its_deployments_have_odd_names(port, name):
    below = [Odd.options(name=f"{n[:60]}.").bind() for n in NAMES]
    handle = serve.run(Odd.options(name=name).bind(*below), name=name + "#" if name == "a b" else name, route_prefix="/odd")
    app = name + "#" if name == "a b" else name
    try:
        want = [app, name, [f"{n[:60]}." for n in NAMES]]
        assert json.loads(handle.remote(None).result(timeout_s=30)) == want
        assert handle.deployment_name == name and handle.app_name == app
        assert serve.get_deployment_handle("a/b.", app).who.remote().result(timeout_s=30) == "a/b."
        assert serve.get_app_handle(app).who.remote().result(timeout_s=30) == name
    finally:
        serve.delete(app)


def test_a_deployment_has_no_number_sign():
    for attempt in (lambda: serve.deployment(name="a#b"), lambda: Odd.options(name="a#b")):
        with pytest.raises(ValueError, match="Deployment names must not contain the '#' character. Current name: a#b"):
            attempt()
