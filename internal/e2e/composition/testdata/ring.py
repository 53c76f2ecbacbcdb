"""A deployment that calls back (cycles_test.go)."""


class Ring:
    def __init__(self, a):
        self.a = a

    async def visit(self, trip: str) -> str:
        return await self.a.visit.remote(trip)
