"""The Python twin of Clerk in handover_test.go."""

import asyncio
import os
from pathlib import Path


class Clerk:
    def __init__(self):
        self.running = 0

    def note(self, dir, file, line):
        with open(Path(dir) / file, "a") as f:
            f.write(line + "\n")

    async def do(self, dir="", id="", hold=False):
        self.running += 1
        try:
            if self.running > 2:
                self.note(dir, "over", id)
            self.note(dir, "ids", id)
            if hold:
                await self.held(dir, id)
            return {"pid": os.getpid(), "id": id}
        finally:
            self.running -= 1

    async def held(self, dir, id):
        """Waits until the test opens the pipe, also after a cancel."""
        read = asyncio.ensure_future(asyncio.to_thread((Path(dir) / id).read_text))
        while not read.done():
            try:
                await asyncio.shield(read)
            except asyncio.CancelledError:
                pass

    async def count(self, dir="", id="", hold=False):
        self.note(dir, "ids", id)
        yield 1
        await self.held(dir, id)
        yield 2
