"""The deployments of the Python rows: the measuring loop runs in the calling replica."""

from pybench.loops import PAYLOAD, measure


class Echo:
    async def echo(self, value):
        return value

    def echo_sync(self, value):
        return value


class Caller:
    def __init__(self, echo):
        self.echo, self.echo_sync = echo.echo, echo.echo_sync

    async def run(self, seconds, in_flight, per_second, sync):
        method = self.echo_sync if sync else self.echo
        return await measure(lambda: method.remote(PAYLOAD), seconds, in_flight, per_second)
