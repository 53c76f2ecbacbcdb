"""A stream of a Python deployment over HTTP (ingress_test.go)."""


class Shouter:
    async def shout(self, text: str):
        for word in text.split():
            yield word.upper() if word != "map" else {"a": 1}
