"""How a replica changes over from its node to the next one (docs/wire.md, "A node that is gone" and "A node that hands over").

There is a Worker for each connection: the former ones and the one of today. A node that is gone has its calls cancelled, and those that go on
all the same are counted here. A node that hands over says itself how many slots it holds.

Example: a replica executes two calls when its node hands over. The next node is told of two slots that are taken. One call ends: the former node frees
its slot (free_block), and its Worker tells the next node (return_block). Then the former node is killed: its other call is cancelled, and the slot is
given back when the call has ended.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any, Optional

from helve import _metrics, _runtime
from helve._attach import DIAL, give_up
from helve._hooks import NUMBERS, hook
from helve._http import Exchange
from helve._models import models
from helve._opening import RefusedError
from helve._profile import profiler


class Succession:
    """The part of a Worker that knows the Workers before and after it."""

    node: Any
    over = False  # the node is gone
    held: Optional[int] = None  # slots that a node holds which has handed over; None for others
    told = 0  # number of slots that the next node counts as taken
    heir: Any = None  # the Worker of the next node

    def follow(self, former: Any) -> None:
        """Goes on with the replica of a former Worker."""
        self.eager, self.pool, self.watchdog = former.eager, former.pool, former.watchdog
        self.target, self.instance, self.methods = former.target, former.instance, former.methods
        self.config, self.configuring, self.user_config = former.config, former.configuring, former.user_config
        self.ingress, self.state = former.ingress.follow(self), former.state
        self.app, self.deployment, self.replica = former.app, former.deployment, former.replica
        self.formers = [w for w in (*former.formers, former) if w.slots()]

    def slots(self) -> int:
        """The number of slots that calls of this Worker have."""
        return len(self.running) if self.held is None else self.held

    def hand_over(self, slots: dict) -> None:
        """The node hands over to the next one: calls of this node go on, and all else comes from the next."""
        if self.node is None or not self.node.grace:
            raise ValueError("this worker ends with its node")
        if self.held is None and not self.over:
            self.held = slots.get(self.replica, 0)
            self.conn.on_packed = None  # calls that come late go the general way, which knows that
            self.conn.exchanges.clear()
            self.keep(self.look())

    def free(self, slots: int) -> None:
        """Notes that the node which has handed over holds fewer slots."""
        if self.held is not None:
            self.held = max(self.held - slots, 0)
            self.settle()

    def on_lost(self, error: BaseException) -> None:
        profiler.end()  # nobody waits for it
        if self.node is None or not self.node.grace:
            from helve._worker import leave

            leave(1)
        followed = self.held is not None
        self.over, self.held = True, None
        for flow in self.flows.values():
            if isinstance(flow, Exchange):
                flow.leave()
        for info in list(self.running.values()):
            info.task.cancel()
            info.cancel_children()
        if followed:
            self.settle()  # slots in which no call runs
        else:
            self.keep(self.look())

    async def look(self) -> None:
        """Looks for the next node until one takes the worker over, or the leash ends the process. Dialling blocks,
        so it has a thread of its own: the executors are the user's, and may be full.
        """
        await asyncio.sleep(0)  # cancelled tasks end, unless they catch the cancel
        heir = type(self)(self.loop, self.node, self)
        while True:
            found = self.loop.create_future()
            threading.Thread(target=self.dial, args=(heir.resume(), found), name="helve-dial", daemon=True).start()
            try:
                sock, welcome = await found
                break
            except RefusedError as e:
                while self.held:  # its calls end first
                    await asyncio.sleep(DIAL)
                give_up(f"helve: {e}")
            except (OSError, ValueError, KeyError):
                await asyncio.sleep(DIAL)
        await heir.attach(sock, welcome)

    def dial(self, resume: dict, found: asyncio.Future) -> None:
        try:
            set_, value = found.set_result, self.node.dial(resume)
        except Exception as e:
            set_, value = found.set_exception, e
        self.loop.call_soon_threadsafe(set_, value)

    def resume(self) -> dict:
        """The state of the worker, for the next node."""
        if self.instance is None:
            return {"replicas": []}
        self.formers = [w for w in self.formers if w.slots()]
        executing = 0
        for w in self.formers:
            w.heir, w.told = None, w.slots()
            executing += w.told
        return {"replicas": [{
            "replica": self.replica, "deployment": self.deployment, "executing": executing, "config": self.config,
            "health": hook(self.target, "check_health") is not None, "ready": hook(self.target, "check_ready") is not None,
            "autoscaling_stats": hook(self.target, NUMBERS) is not None,
            "methods": self.methods, "models": models.ids(),
        }]}

    async def attach(self, sock: socket.socket, welcome: dict) -> None:
        self.conn.agreed(welcome)
        await self.loop.create_unix_connection(lambda: self.conn, sock=sock)
        _runtime.connection = self.conn
        _runtime.drain.reset()
        models.report()
        _metrics.again()
        for w in self.formers:
            for info in w.running.values():
                info.frame = 0  # its calls go to this node, which does not know the frame
            w.heir = self
            w.settle()

    def settle(self) -> None:
        """Tells the next node which slots have become free since the last report."""
        if self.heir is None:
            return
        n, self.told = self.told - self.slots(), self.slots()
        if n > 0 and self.heir.conn.lost is None:
            self.heir.conn.control("return_block", replica=self.replica, slots=n).add_done_callback(lambda f: f.exception())


__all__ = ["Succession"]
