"""A stream of a Python deployment over HTTP (streams_test.go, events_test.go)."""


class Shouter:
    async def shout(self, text: str):
        for word in text.split():
            if word == "event":
                from helve import Event

                yield Event({"b": [1]}, event="token", id="5", retry=1.5)
            elif word == "fail":
                raise ValueError("secret")
            else:
                yield word.upper() if word != "map" else {"a": 1}
