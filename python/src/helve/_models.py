"""The models of the replica in this process: the caches of its loaders, and the reports of their ids to the node, which sends calls for
a model to a replica that has it.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import Any, Optional

from helve import _measures, _runtime

logger = logging.getLogger("ray.serve")


class Refused(Exception):
    """A model was not loaded ahead of its calls."""


class Models:
    """The caches of one replica. One report is under way at a time: changes that happen meanwhile go together with the next report."""

    def __init__(self) -> None:
        self.caches: set = set()  # helve.serve.multiplex.Cache
        self.loaders: weakref.WeakSet = weakref.WeakSet()  # helve.serve.multiplex.Loader
        self.changed = self.reporting = False
        self._measures: Optional[_measures.ModelMeasures] = None

    def ids(self) -> list:
        """The ids of the models that are loaded, loading or in a queue."""
        return sorted({id for cache in list(self.caches) for id in cache.ids()})

    def loaded(self) -> int:
        """The number of models that are loaded."""
        return sum(len(cache.loaded) for cache in list(self.caches))

    def measures(self) -> _measures.ModelMeasures:
        if self._measures is None:
            self._measures = _measures.ModelMeasures()
        return self._measures

    def report(self) -> None:
        """Reports the ids, from any thread. Without a node, as in a unit test, nothing is sent. On the loop of the connection the report goes
        before the answer of the call that has loaded a model, and the node takes it before that: the caller's next call finds the model, unless the
        report waits for the reply to another one.
        """
        conn = _runtime.connection
        if conn is None or _runtime.node is None:
            return
        if asyncio._get_running_loop() is conn.loop:
            self.send(conn)
        else:
            conn.post(self.send, conn)

    def send(self, conn: Any) -> None:
        """Sends a report, on the loop of the connection. The next node gets the ids when it takes over."""
        self.changed = True
        if self.reporting or conn.lost is not None or _runtime.replica is None:
            return
        self.changed, self.reporting = False, True
        conn.control("models", replica=_runtime.replica.replica_tag, models=self.ids()).add_done_callback(lambda f: self.sent(conn, f))

    def sent(self, conn: Any, report: Any) -> None:
        self.reporting = False
        error = None
        if not report.cancelled():
            error = report.exception() or ((report.result() or {}).get("error") or {}).get("message")
        if error and conn.lost is None:
            logger.warning("the node has not taken the report of this replica's models: %s", error)
        if self.changed and _runtime.connection is not None:
            self.send(_runtime.connection)

    def unused(self) -> list:
        """The loaded models, each with its loader and the seconds since its last use, for the node."""
        return [{"model": id, "loader": cache.name, "unused_s": unused} for cache in list(self.caches) for id, unused in cache.unused().items()]

    async def ahead(self, replica: Any, loader: str, id: str, unused: float) -> dict:
        """Loads a model before a call asks for it, because the replica that has it stops. The answer is for the node; an exception is that of the load."""
        found = [x for x in list(self.loaders) if x.title == loader]
        used = [x for x in found if x.caches] or found  # a class that was pickled may be here a second time
        caches = [c for c in (x.cache_for(replica) for x in used) if c is not None]
        if found and not caches:
            return {"refused": f"the loader {loader} belongs to no object of the deployment, or to several"}
        if len(caches) != 1:
            return {"refused": f"{len(caches) or 'no'} objects of the replica have the loader {loader}"}
        try:
            await caches[0].ahead(id, unused)
        except Refused as e:
            return {"refused": str(e)}
        return {}

    async def close(self) -> None:
        """Unloads all models, one by one. A model that fails to end does not keep the others."""
        for cache in list(self.caches):
            await cache.close()


models = Models()

__all__ = ["Models", "Refused", "models"]
