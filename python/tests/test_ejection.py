"""Ejection of a replica whose requests of HTTP pass their time, over a real node."""

import asyncio
import pathlib

import httpx
import pytest

from eventually import eventually
from helve import serve
from ports import free_port

@pytest.fixture(scope="module")
def port():
    port = free_port()
    serve.start(http_options={"port": port, "request_timeout_s": 0.3})
    yield port
    serve.shutdown()


@serve.deployment(num_replicas=2, max_ongoing_requests=100, ejection_config={"consecutive_failures": 3, "eject_s": 1})
class Hanging:
    """A replica of rank 0 does not answer while a file is there."""

    def __init__(self, directory):
        self.rank, self.hang = serve.get_replica_context().rank.rank, pathlib.Path(directory, "hang")

    async def __call__(self, request):
        if self.rank == 0 and self.hang.exists():
            await asyncio.Event().wait()
        return str(self.rank)


def replicas():
    return serve.status().applications["shop"].deployments["Hanging"]


def test_a_replica_whose_requests_pass_their_time_is_ejected_and_returns(port, tmp_path):
    serve.run(Hanging.bind(str(tmp_path)), name="shop")
    (tmp_path / "hang").touch()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        codes = []
        while (seen := replicas()).status != "UNHEALTHY":
            codes.append(client.get("/").status_code)
        assert codes.count(408) >= 3 and set(codes) <= {200, 408}
        assert "3 calls in a row failed for reasons of the system" in seen.message
        (tmp_path / "hang").unlink()
        eventually(lambda: replicas().status == "HEALTHY")
        answers = set()
        while not {"0", "1"} <= answers:
            answers.add(client.get("/").text)
