"""check_ready of a class, over a real node."""

import asyncio
import os
import pathlib

import pytest

from helve import serve


@pytest.fixture(scope="module", autouse=True)
def node():
    serve.start(http_options={"port": None})
    yield
    serve.shutdown()


def status(app, deployment):
    return serve.status().applications[app].deployments[deployment]


@serve.deployment(num_replicas=2, readiness_check_period_s=0.05, max_ongoing_requests=10)
class Stocked:
    """A replica that is not ready while a file with its rank is there."""

    def __init__(self, directory):
        self.rank = serve.get_replica_context().rank.rank
        self.empty = pathlib.Path(directory, f"empty{self.rank}")

    def check_ready(self):
        if self.empty.exists():
            raise LookupError("the shelf is empty")

    async def __call__(self):
        return self.rank, os.getpid()

    async def wait(self, path):
        while not os.path.exists(path):
            await asyncio.sleep(0.01)
        return self.rank


def answers(h, wanted):
    """Calls until the replicas that answer twenty calls in a row have the wanted ranks; gives the processes by rank."""
    while True:
        got = dict(h.remote().result(timeout_s=60) for _ in range(20))
        if set(got) == wanted:
            return got


def test_a_replica_that_is_not_ready_gets_no_calls_and_keeps_those_that_it_has(tmp_path):
    h = serve.run(Stocked.bind(str(tmp_path)), name="shop", route_prefix=None)
    before = answers(h, {0, 1})
    go = tmp_path / "go"
    under_way = [h.wait.remote(str(go)) for _ in range(10)]
    (tmp_path / "empty0").touch()
    assert set(answers(h, {1})) == {1}
    while status("shop", "Stocked").status != "UNHEALTHY":
        pass
    assert "the shelf is empty" in status("shop", "Stocked").message
    go.touch()
    assert {r.result(timeout_s=60) for r in under_way} <= {0, 1}
    (tmp_path / "empty1").touch()
    (tmp_path / "empty0").unlink()
    answers(h, {0})  # calls wait until one of the two is ready
    (tmp_path / "empty1").unlink()
    assert answers(h, {0, 1}) == before  # no replica was started again
    while status("shop", "Stocked").status != "HEALTHY":
        pass
