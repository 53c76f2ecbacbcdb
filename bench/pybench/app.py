"""The deployments of the Python rows: the measuring loop runs in the calling replica."""

from pybench.loops import measure


class Echo:
    async def echo(self, value):
        return value


class Caller:
    def __init__(self, echo):
        self.echo = echo.echo

    async def run(self, seconds, in_flight):
        return await measure(lambda: self.echo.remote(b"x" * 100), seconds, in_flight)
