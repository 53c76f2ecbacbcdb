"""Ports for nodes of tests whose addresses must be known before they listen."""

import random
import socket


def free_port() -> int:
    """A port that nothing listens at, below those that the kernel gives to connections and to listeners that ask for any.

    A port of those would often be taken by the time that the node listens: tests and programs beside this one make hundreds of connections in a second.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)  # a seed of a test must not give two processes the same ports
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
