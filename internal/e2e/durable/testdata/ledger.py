"""The application of the fault tests: every replica writes the calls that it executes into files, before it answers.

This module lies beside the clients of the tests, so that a durable node packs it with the application.
"""

import asyncio
import os

from helve import serve

SLOTS = 2  # calls that a replica may execute at a time


def write(place, file, line):
    """Appends a line. The lines of several processes do not mix, because one write makes each."""
    fd = os.open(os.path.join(place, file), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)


@serve.deployment(num_replicas=2, max_ongoing_requests=SLOTS)
class Ledger:
    def __init__(self, place, version):
        self.place, self.version, self.executing = place, version, 0

    async def note(self, id: str) -> str:
        """Executes the call with this id, and answers with the version of the application."""
        self.executing += 1
        try:
            if self.executing > SLOTS:
                write(self.place, "over", id)
            write(self.place, "ran", id)
            await asyncio.sleep(0.02)
            return self.version
        finally:
            self.executing -= 1

    async def hold(self, name: str) -> str:
        """Holds a slot until the file release.NAME exists."""
        self.executing += 1
        try:
            write(self.place, f"held.{name}", os.getpid())
            while not os.path.exists(os.path.join(self.place, f"release.{name}")):
                await asyncio.sleep(0.005)
            return self.version
        finally:
            self.executing -= 1

    async def __call__(self, request) -> str:
        text = (await request.body()).decode()
        if text.startswith("hold "):
            return await self.hold(text.removeprefix("hold "))
        return await self.note(text)


def ledger(place, version):
    return Ledger.bind(place, version)


@serve.deployment
class Extra:
    """An application that is deployed and deleted while processes are killed."""

    def __init__(self, name):
        self.name = name

    async def __call__(self) -> str:
        return self.name
