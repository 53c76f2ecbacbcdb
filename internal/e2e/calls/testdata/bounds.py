"""The Python half of what is over a limit (limits_test.go)."""


class Bounds:
    def echo(self, s: str):
        return s

    def fail(self, n: int):
        raise ValueError("\ud800" * n)
