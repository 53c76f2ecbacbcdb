"""A transport of asyncio that keeps the bytes that a connection writes, in the place of a socket."""

from helve import _wire as wire


class Transport:
    def __init__(self):
        self.data, self.closed, self.waiting = b"", False, 0

    def write(self, data):
        self.data += bytes(data)

    def close(self):
        self.closed = True

    abort = close

    def set_write_buffer_limits(self, high):
        pass

    def get_write_buffer_size(self):
        return self.waiting

    def frames(self):
        """(type, flags, id, meta, body) of all frames that were written so far."""
        out, data, p = [], self.data, 0
        while p < len(data):
            body, meta, kind, flags, id = wire.HEADER.unpack_from(data, p)
            p += 16 + meta + body
            out.append((kind, flags, id, data[p - body - meta : p - body], data[p - body : p]))
        return out

    def take(self):
        """frames() of those that were written since the last take()."""
        out, self.data = self.frames(), b""
        return out
