"""The metrics of Ray Serve that batches, models and the event loop of this process have. They go to the node with the metrics of the program
(helve._metrics), under their names in Ray Serve: ``ray_serve_batch_wait_time_ms{application, deployment, replica, function_name}``, for example.
"""

from __future__ import annotations

import asyncio
from typing import Any, Iterable

from helve import _metrics

LATENCY = (1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500, 1000, 2000, 5000, 10000, 60000, 120000, 300000, 600000)  # milliseconds
PERCENT = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
DELAYS = (1, 5, 10, 25, 50, 100, 250, 500, 1000, 2000, 5000, 10000)  # milliseconds
PERIOD = 5.0  # seconds between two looks at the event loop
MODELS = 100  # model ids that have a series of their own in one process: a deployment may serve thousands


def family(kind: str, name: str, help: str, keys: tuple = (), bounds: Iterable[float] = ()) -> _metrics.Family:
    return _metrics.family(kind, "serve_" + name, help, keys, tuple(float(b) for b in bounds))


class BatchMeasures:
    """The numbers of the batches of one function."""

    def __init__(self, function: str):
        def at(kind: str, name: str, help: str, bounds: Iterable[float] = ()) -> _metrics.Series:
            return family(kind, name, help, ("function_name",), bounds).at((function,))

        self.wait = at("histogram", "batch_wait_time_ms", "Time that a call waited for its batch.", LATENCY)
        self.execution = at("histogram", "batch_execution_time_ms", "Time of the function with a batch.", LATENCY)
        self.utilization = at("histogram", "batch_utilization_percent", "Size of a batch, in percent of max_batch_size.", PERCENT)
        self.size = at("histogram", "actual_batch_size", "Number of calls in a batch.", SIZES)
        self.queued = at("gauge", "batch_queue_length", "Calls that wait for a batch, at the begin of the last one.")
        self.batches = at("counter", "batches_processed", "Batches that have ended.")

    def began(self, waits: list, most: int, queued: int) -> None:
        """A batch begins: the seconds that its calls waited, max_batch_size, and the calls that go on waiting."""
        self.wait.observe_all([1000 * w for w in waits])
        self.size.observe(len(waits))
        self.utilization.observe(100 * len(waits) / most)
        self.queued.set(queued)

    def ended(self, seconds: float) -> None:
        self.execution.observe(1000 * seconds)
        self.batches.add(1)


class ModelMeasures:
    """The numbers of the models of this process."""

    def __init__(self) -> None:
        self.requests = family("counter", "multiplexed_get_model_requests_counter", "Calls that asked for a model.").at(())
        self.loads = family("counter", "multiplexed_models_load_counter", "Models that were loaded.").at(())
        self.ahead = family("counter", "multiplexed_models_load_ahead_counter", "Models that were loaded before a call asked for them, because the replica that had them stops.").at(())
        self.unloads = family("counter", "multiplexed_models_unload_counter", "Models that were unloaded.").at(())
        self.load_time = family("histogram", "multiplexed_model_load_latency_ms", "Time of the load of a model.", (), LATENCY).at(())
        self.unload_time = family("histogram", "multiplexed_model_unload_latency_ms", "Time of the end of a model.", (), LATENCY).at(())
        self.number = family("gauge", "num_multiplexed_models", "Models that are loaded.").at(())
        self.registered = family("gauge", "registered_multiplexed_model_id", "1 while the model is loaded, for the first 100 ids of a process.", ("model_id",))

    def loaded(self, id: str, seconds: float, number: int, ahead: bool = False) -> None:
        """A model was loaded, and number models are loaded now. ahead: no call had asked for it."""
        self.loads.add(1)
        if ahead:
            self.ahead.add(1)
        self.load_time.observe(1000 * seconds)
        self.number.set(number)
        if (id,) in self.registered.series or len(self.registered.series) < MODELS:
            self.registered.at((id,)).set(1)

    def left(self, id: str, number: int) -> None:
        """A model is in the cache no more."""
        self.number.set(number)
        if (id,) in self.registered.series:
            self.registered.at((id,)).set(0)

    def unloaded(self, seconds: float) -> None:
        self.unloads.add(1)
        self.unload_time.observe(1000 * seconds)


class LoopMeasures:
    """Looks at the event loop of a replica every five seconds: how late the look comes, and how many tasks there are. For example, a method
    that computes for 3 s without an await makes a look up to 3 s late.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop):
        keys = ("component", "loop_type", "actor_id")
        values = ("replica", "main", "")
        self.loop = loop
        self.delay = family("histogram", "event_loop_scheduling_latency_ms", "Time by which a timer of the event loop was late.", keys, DELAYS).at(values)
        self.looks = family("counter", "event_loop_monitoring_iterations", "Looks at the event loop.", keys).at(values)
        self.tasks = family("gauge", "event_loop_tasks", "Tasks of the event loop that have not ended.", keys).at(values)
        self.due = loop.time() + PERIOD
        self.timer: Any = loop.call_at(self.due, self.look)

    def look(self) -> None:
        now = self.loop.time()
        self.delay.observe(1000 * max(now - self.due, 0.0))
        self.looks.add(1)
        self.tasks.set(len(asyncio.all_tasks(self.loop)))
        self.due = now + PERIOD
        self.timer = self.loop.call_at(self.due, self.look)


_watched: Any = None  # the loop that is looked at


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """Begins to look at the loop of the replica, once."""
    global _watched
    if _watched is None:
        _watched = LoopMeasures(loop)


__all__ = ["BatchMeasures", "LoopMeasures", "ModelMeasures", "watch"]
