"""reconfigure and check_health of a class, over a real node."""

import asyncio
import json
import os
import random
import time

import pytest

from helve import serve
from helve._hooks import compact


@serve.deployment(user_config={"word": "first", "n": [1, None, "é"]}, health_check_period_s=0.05)
class Cared:
    def __init__(self):
        self.configs, self.checks, self.sick = [], 0, False

    async def reconfigure(self, config):
        await asyncio.sleep(0)
        self.configs.append(config)

    def check_health(self):
        self.checks += 1
        if self.sick:
            raise ValueError("sick")

    async def state(self):
        return self.configs, self.checks, os.getpid()

    async def fall_sick(self):
        self.sick = True


@serve.deployment(user_config={"word": "bad"})
class Refuses:
    def reconfigure(self, config):
        raise ValueError(f"the word {config['word']}")


@serve.deployment
class Sick:
    def check_health(self):
        raise ValueError("sick from the start")


@serve.deployment(construct_timeout_s=0.2)
class Late:
    async def __init__(self):
        await asyncio.Event().wait()


@serve.deployment(construct_timeout_s=0.2)
class LateAndDeaf:
    def __init__(self):
        time.sleep(0.5)  # in real time: the constructor cannot be cancelled, and takes longer than its limit of 0.2 s


@serve.deployment
class GivesUp:
    async def __init__(self):
        raise TimeoutError("of its own")


@serve.deployment
class Leaves:
    def __init__(self, path):
        self.path = path

    def __call__(self):
        return 1

    def __del__(self):
        with open(self.path, "w") as f:
            f.write(serve.get_replica_context().deployment)


@pytest.fixture(scope="module", autouse=True)
def node():
    serve.start(http_options={"port": None})
    yield
    serve.shutdown()


def test_the_life_of_a_replica():
    h = serve.run(Cared.bind(), name="cared", route_prefix=None)
    configs, checks, pid = h.state.remote().result(timeout_s=30)
    assert configs == [{"word": "first", "n": [1, None, "é"]}] and checks >= 1
    while h.state.remote().result(timeout_s=30)[1] < checks + 2:  # the check is called again and again
        pass
    h.fall_sick.remote().result(timeout_s=30)
    while h.state.remote().result(timeout_s=30)[2] == pid:
        pass
    configs, _, _ = h.state.remote().result(timeout_s=30)
    assert configs == [{"word": "first", "n": [1, None, "é"]}]


@pytest.mark.parametrize("deployment, says", [(Refuses, "the word bad"), (Sick, "sick from the start"), (Late, "construct_timeout_s"), (LateAndDeaf, "construct_timeout_s"), (GivesUp, "of its own")])
def test_a_start_that_fails(deployment, says):
    with pytest.raises(RuntimeError, match=says):
        serve.run(deployment.options(max_constructor_retry_count=1).bind(), name="fails", route_prefix=None)


def test_a_replica_knows_itself_to_its_end(tmp_path):
    path = tmp_path / "left"
    h = serve.run(Leaves.bind(str(path)), name="leaves", route_prefix=None)
    assert h.remote().result(timeout_s=30) == 1
    serve.delete("leaves")
    assert path.read_text() == "Leaves"


@pytest.mark.parametrize("seed", range(20))
def test_a_config_without_its_white_space_is_the_same_config(seed):
    rng = random.Random(seed)

    def value(depth):
        kind = rng.randint(0, 5 if depth < 4 else 2)
        if kind == 4:
            return [value(depth + 1) for _ in range(rng.randint(0, 4))]
        if kind == 5:
            return {text(): value(depth + 1) for _ in range(rng.randint(0, 4))}
        return [1.5, None, True, text()][kind]

    def text():
        return "".join(rng.choice('ab "\\\n\té:,{}[]\u3000') for _ in range(rng.randint(0, 8)))

    for _ in range(50):
        v = value(0)
        for indent, ascii in ((None, True), (2, False), (3, True)):
            long = json.dumps(v, indent=indent, ensure_ascii=ascii)
            assert compact(long) == json.dumps(v, separators=(",", ":"), ensure_ascii=ascii)
