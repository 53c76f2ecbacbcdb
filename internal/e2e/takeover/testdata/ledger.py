"""The Python twin of Ledger in node_killed_test.go."""

import asyncio
import os
from pathlib import Path

from helve import serve
from helve.serve.exceptions import DataLossError


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


class Ledger:
    def __init__(self, peer=None):
        self.dir, self.peer, self.count = Path(os.environ["HELVE_TEST_NODE"]), peer, 0
        if (self.dir / "pids").exists():
            for pid in (self.dir / "pids").read_text().split():
                if alive(pid):
                    self.note("overlaps", pid)
        self.note("pids", str(os.getpid()))

    def reconfigure(self, config):
        self.note("configs", config["word"])

    def check_health(self):
        if (self.dir / "sick").exists():
            (self.dir / "sick").unlink()
            self.sick = True
        if getattr(self, "sick", False):
            raise ValueError("sick")

    def note(self, file, line):
        with open(self.dir / file, "a") as f:
            f.write(line + "\n")

    async def do(self, op="", id="", ms=0):
        if op == "hold":  # until somebody opens the pipe, whoever cancels it
            self.note("held", id)
            read = asyncio.ensure_future(asyncio.to_thread((self.dir / "pipe").read_text))
            while not read.done():
                try:
                    await asyncio.shield(read)
                except asyncio.CancelledError:
                    pass
        elif op == "block":  # and the event loop with it
            self.note("held", id)
            (self.dir / "pipe").read_text()
        elif op == "note":
            self.note("ids", id)
        elif op == "peer":
            await self.peer.note.remote(id)
        elif op == "keep":  # results by reference, a large one in shared memory and a small one at the node
            make = self.peer.make.options(_by_reference=True)
            self.kept = [make.remote(300_000), make.remote(10)]
            assert [await self.peer.weigh.remote(r) for r in self.kept] == [300_000, 10]
        elif op == "kept":  # what is left of them
            large, small = self.kept
            said = [str(await self.peer.weigh.remote(large)), str(len(await large)), "<nil>"]
            for lost in (self.peer.weigh.remote(small), small):
                try:
                    said.append(str(await lost))
                except DataLossError as e:
                    said.append("data_loss with the node" if "lost with the node" in str(e) and lost is small else "data_loss")
            self.count += 1
            return {**self.state(), "said": " ".join(said)}
        self.count += 1
        return self.state()

    def state(self):
        context = serve.get_replica_context()
        return {
            "pid": os.getpid(), "replica": context.replica_id.unique_id, "count": self.count, "late": False, "rank": context.rank.rank,
        }

    async def said(self, text: str) -> str:
        return f"{os.getpid()} {text}"
