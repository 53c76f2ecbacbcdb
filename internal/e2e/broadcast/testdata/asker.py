"""Asks every replica of a Go deployment, and one that it chose."""


class Asker:
    def __init__(self, told):
        self.told = told

    async def all(self):
        response = self.told.broadcast("id", text="x")
        answers = await response.results_async()
        return sorted(answers) if sorted(answers) == sorted(e.replica_id + " x" for e in await response.entries_async()) else []

    async def fails(self):
        return [str(e) for e in await self.told.broadcast("fail", text="why").results_async(return_exceptions=True)]

    async def chosen(self):
        async with self.told.id.choose_replica() as selection:
            return [selection.replica_id, await self.told.dispatch(selection, text="y")]
