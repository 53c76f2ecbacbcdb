"""A durable node that is killed in a rollout: the application is back without an operator."""

import json
import os
import signal

import pytest
from durable import Durable
from eventually import eventually

SHOP = '''
from helve import serve


@serve.deployment(num_replicas=4, rollout_config={"steps": [1]})
class Model:
    def __init__(self, version):
        if version == "bad":
            raise RuntimeError("bad build")
        self.version = version

    async def __call__(self):
        return self.version


@serve.deployment
class Front:
    def __init__(self, version, model):
        self.version, self.model = version, model

    async def __call__(self, _=None):
        return f"{self.version}/{await self.model.remote()}"


def build(args):
    return Front.bind(args["version"], Model.bind(args["version"]))
'''


class Shop:
    """An application whose front calls a model of four replicas. Each of its rollouts waits when the front and one replica of the model are new."""

    def __init__(self, directory):
        self.directory = directory
        (directory / "shop.py").write_text(SHOP)
        self.node = Durable(directory)

    def helve(self, *args):
        return self.node.python("-m", "helve", *args, cwd=self.directory)

    def deploy(self, version, *flags):
        file = self.directory / f"{version}.yaml"
        file.write_text(f"applications:\n- {{name: shop, route_prefix: /, import_path: 'shop:build', args: {{version: {version}}}}}\n")
        done = self.helve("deploy", *flags, file)
        assert done.returncode == 0, done.stdout + done.stderr

    def status(self):
        done = self.helve("status", "-o", "json")
        return json.loads(done.stdout)["applications"]["shop"] if done.returncode == 0 else {}

    def waits(self):
        return (self.status().get("rollout") or {}).get("state") == "waiting"

    def answer(self):
        """The answer of the front, once there is one."""
        code = "h = serve.get_app_handle('shop')\nprint(h.remote().result(timeout_s=100))"
        return self.node.script(code)

    def whole(self):
        deployments = self.status().get("deployments") or {}
        replicas = {name: [r["state"] for r in d["replicas"]] for name, d in deployments.items()}
        return replicas == {"Front": ["RUNNING"], "Model": ["RUNNING"] * 4}


@pytest.fixture
def shop(tmp_path):
    made = Shop(tmp_path)
    with made.node.command:
        made.node.pid()
        made.deploy("v1", "--wait")
        made.deploy("v2")
        eventually(made.waits)
        yield made


def test_bad_deploy_over_a_step(shop):
    """A bad deploy takes the place of a rollout at its step, and the node is killed before that goes back: the version before is whole again."""
    shop.deploy("bad")
    os.kill(shop.node.pid(), signal.SIGKILL)
    shop.answer()
    eventually(lambda: shop.status().get("status") == "DEPLOY_FAILED" and shop.whole())
    assert {shop.answer() for _ in range(5)} == {"v1/v1"}


def test_restart_in_a_pause(shop, tmp_path):
    """All processes end while a rollout is paused at its step. The application answers again while it is paused, and resume ends the rollout."""
    assert shop.helve("pause", "shop").returncode == 0
    shop.node.command.process.kill()
    shop.node.command.ended()
    with shop.node.start():
        shop.node.pid()
        assert shop.answer() in {"v1/v1", "v1/v2", "v2/v1", "v2/v2"}
        eventually(shop.whole)
        assert shop.status()["rollout"]["state"] == "paused"

        def done():
            shop.helve("resume", "shop")
            now = shop.status()
            return now.get("status") == "RUNNING" and (now.get("rollout") or {}).get("state") in {None, "watching"} and shop.whole()

        eventually(done)
        assert {shop.answer() for _ in range(5)} == {"v2/v2"}
