"""The Python half of the mixed streams (streams_test.go)."""


class Relay:
    def __init__(self, source):
        self.source = source

    async def tens(self, n: int):
        """The items of a Go stream, in tens."""
        async for i in self.source.options(stream=True).count.remote(n):
            yield i * 10

    def words(self, n: int):
        for i in range(n):
            yield "x" * i
        raise ValueError("out of words")

    async def plain(self, n: int):
        return n

    async def one(self, n: int):
        return n
