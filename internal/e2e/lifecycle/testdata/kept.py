"""The Python twin of Kept in in_place_test.go."""

import asyncio
import os
import random


class Kept:
    def __init__(self):
        self.number = random.getrandbits(40)
        self.word = ""
        self.running = self.peak = 0
        self.hold = asyncio.Event()

    async def reconfigure(self, word):
        self.word = word
        if word == "bad" or word == "odd" and self.number % 2 == 1:
            raise ValueError("refused")

    async def who(self):
        return {"pid": os.getpid(), "number": self.number, "word": self.word}

    async def work(self):
        self.running += 1
        self.peak = max(self.peak, self.running)
        await self.hold.wait()
        self.running -= 1
        return self.word

    async def inside(self):
        return self.running

    async def open(self, yes):
        if yes:
            self.hold.set()
            return 0
        self.hold.clear()
        peak, self.peak = self.peak, 0
        return peak
