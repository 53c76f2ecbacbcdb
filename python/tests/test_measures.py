"""The metrics of batches, models and event loops: the names, types and labels of Ray Serve on /metrics of a node."""

import asyncio
import pathlib
import re

from eventually import eventually
from test_metrics import fresh, reported, scrape_all  # noqa: F401

from helve import _measures, serve

REFERENCE = pathlib.Path(__file__).parents[2] / "internal" / "metrics" / "testdata" / "reference.txt"


@serve.deployment
class Busy:
    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.01)
    async def together(self, xs):
        return xs

    @serve.multiplexed(max_num_models_per_replica=1)
    async def load(self, model_id):
        return model_id

    async def __call__(self, x):
        await self.load(serve.get_multiplexed_model_id())
        return await self.together(x)


def found(lines):
    """The types of the families, and the labels of their lines, but le."""
    types, labels = {}, {}
    for line in lines:
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            types[name] = kind
        elif not line.startswith("#"):
            name = re.match(r"\w+", line)[0].removesuffix("_count")
            labels[name] = ",".join(sorted(k for k in re.findall(r'(\w+)="', line) if k != "le"))
    return types, labels


NUMBERS = {  # of three calls, for the models a, b and a
    'ray_serve_multiplexed_models_load_counter_total{application="app",deployment="Busy",} 3',
    'ray_serve_multiplexed_models_unload_counter_total{application="app",deployment="Busy",} 2',
    'ray_serve_multiplexed_get_model_requests_counter_total{application="app",deployment="Busy",} 3',
    'ray_serve_num_multiplexed_models{application="app",deployment="Busy",} 1',
    'ray_serve_registered_multiplexed_model_id{application="app",deployment="Busy",model_id="a",} 1',
    'ray_serve_registered_multiplexed_model_id{application="app",deployment="Busy",model_id="b",} 0',
    'ray_serve_batches_processed_total{application="app",deployment="Busy",function_name="together",} 3',
}


def test_a_node_shows_them_with_the_names_and_labels_of_ray_serve(tmp_path, monkeypatch):
    monkeypatch.setenv("HELVE_RUNTIME_DIR", str(tmp_path))
    wanted = [line.split() for line in REFERENCE.read_text().splitlines() if line.endswith(" python")]
    assert len(wanted) == 16
    serve.start(http_options={"port": None})
    try:
        handle = serve.run(Busy.bind(), name="app", route_prefix=None)
        for model in "aba":
            handle.options(multiplexed_model_id=model).remote(1).result()

        def complete():
            """The lines with all numbers: a report may come between two of the calls, and has the names with the numbers of that moment."""
            lines = scrape_all(tmp_path)
            types, labels = found(lines)
            missing = []
            for name, kind, keys, _ in wanted:
                name = "ray_" + name + ("_total" if kind == "counter" else "")
                if types.get(name) != kind or labels.get(name) != keys:
                    missing.append((name, types.get(name), labels.get(name)))
            counted = {re.sub(r'replica="[^"]*"', "", line) for line in lines if line.startswith("ray_serve_")}
            return not missing and NUMBERS <= counted

        eventually(complete)
    finally:
        serve.shutdown()


def test_batches():
    @serve.batch(max_batch_size=4, batch_wait_timeout_s=60)
    async def double(xs):
        return [2 * x for x in xs]

    async def main():
        return await asyncio.gather(*(double(x) for x in range(4)))

    assert asyncio.run(main()) == [0, 2, 4, 6]
    got = reported()
    assert got["counter serve_batches_processed{function_name=double}"] == 1
    assert got["histogram serve_actual_batch_size{function_name=double}"] == ([0, 0, 1] + 9 * [0], 4)
    assert got["histogram serve_batch_utilization_percent{function_name=double}"][1] == 100
    assert sum(got["histogram serve_batch_wait_time_ms{function_name=double}"][0]) == 4
    assert sum(got["histogram serve_batch_execution_time_ms{function_name=double}"][0]) == 1
    assert got["gauge serve_batch_queue_length{function_name=double}"] == 0


def test_ids_of_models_have_a_bound():
    m = _measures.ModelMeasures()
    for i in range(_measures.MODELS + 5):
        m.loaded(str(i), 0.001, 1)
        m.left(str(i), 0)
    assert len(m.registered.series) == _measures.MODELS
    assert reported()["counter serve_multiplexed_models_load_counter{}"] == _measures.MODELS + 5


class Loop:
    """An event loop with a clock of its own."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def time(self):
        return self.now

    def call_at(self, at, call):
        self.calls.append((at, call))


def test_the_loop_is_late(monkeypatch):
    monkeypatch.setattr(asyncio, "all_tasks", lambda loop: {1, 2})
    loop = Loop()
    _measures.LoopMeasures(loop)
    for late in (0, 3):
        at, call = loop.calls.pop()
        loop.now = at + late
        call()
    got = reported()
    tags = "{component=replica,loop_type=main,actor_id=}"
    buckets, total = got["histogram serve_event_loop_scheduling_latency_ms" + tags]
    assert total == 3000 and buckets[0] == 1 and buckets[_measures.DELAYS.index(5000)] == 1
    assert got["counter serve_event_loop_monitoring_iterations" + tags] == 2
    assert got["gauge serve_event_loop_tasks" + tags] == 2
