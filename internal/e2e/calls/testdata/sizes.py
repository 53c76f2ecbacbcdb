"""The Python half of the values of every size (maxbody_test.go)."""


class Sizes:
    def take(self, data: bytes):
        return len(data)

    def make(self, n: int):
        return b"x" * n

    def items(self, n: int):
        yield b"first"
        yield b"x" * n

    def fail(self, n: int):
        raise ValueError("x" * n)
