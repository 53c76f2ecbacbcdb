"""The Python twin of Ledger in reattach_test.go."""

import asyncio
import os
from pathlib import Path

from helve import serve


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
        self.count += 1
        return {"pid": os.getpid(), "replica": serve.get_replica_context().replica_id, "count": self.count, "late": False}

    async def said(self, text: str) -> str:
        return f"{os.getpid()} {text}"
