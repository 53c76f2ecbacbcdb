"""How a process opens its connection to a node (docs/wire.md, "Opening")."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import time
from typing import Optional

from helve import __version__
from helve._parts import REFERENCE_OVER
from helve._frames import CONTROL, GOAWAY, HEADER, HELLO, OWN_MAX_BODY, PROOF, PROTOCOL, READY, REPLY

OPENING_TIME = 10.0  # seconds for the whole opening
ASK = 10.0  # seconds that the node has for an answer


def read_token(fd: int) -> bytes:
    token = b""
    while len(token) < 32:
        part = os.read(fd, 32 - len(token))
        if not part:
            raise RuntimeError("helve: the token is missing: workers are started by a node")
        token += part
    os.close(fd)
    return token


def _recv(sock: socket.socket, n: int, until: float, fds: Optional[list] = None) -> bytes:
    """Reads n bytes; fds gets the descriptor that may come with the first of them."""
    out = b""
    while len(out) < n:
        sock.settimeout(max(until - time.monotonic(), 0.001))
        if fds is None or out:
            part = sock.recv(n - len(out))
        else:
            part, came, _, _ = socket.recv_fds(sock, n, 1, socket.MSG_CMSG_CLOEXEC)
            for fd in came:
                os.set_inheritable(fd, False)
            fds += came
        if not part:
            raise ConnectionError("the node closed the connection during the opening")
        out += part
    return out


def _read_frame(sock: socket.socket, want: int, until: float, fds: Optional[list] = None) -> dict:
    body, meta, kind, _, _ = HEADER.unpack(_recv(sock, 16, until, fds))
    if body > 1 << 20 or meta:
        raise ConnectionError("malformed frame during the opening")
    value = json.loads(_recv(sock, body, until))
    if kind == GOAWAY:
        raise RefusedError(value["message"])
    if kind != want:
        raise ConnectionError(f"frame of type {kind} during the opening")
    return value


def arena_fits() -> bool:
    """Whether the process can map the memory that its node may offer."""
    size = int(os.environ.get("HELVE_WORKER_ARENA") or 0)
    if size <= 0:  # the node has no memory to offer
        return True
    from helve import _arena

    return _arena.fits(size)


class RefusedError(ConnectionError):
    """The node refuses this process, with a reason."""


def open_connection(
    sock: socket.socket, token: bytes, kind: str, id: str, resume: Optional[dict] = None, connection: str = "small",
) -> dict:
    """The dialler's side of the opening, on a blocking socket. It returns the node's HELLO, and raises RefusedError
    with the node's text. resume is the state of a worker that lost its node.
    """
    until = time.monotonic() + OPENING_TIME
    sock.settimeout(OPENING_TIME)
    nonce = os.urandom(16)
    hello = {
        "protocol": PROTOCOL, "kind": kind, "connection": connection, "language": "python", "version": __version__,
        "id": id, "pid": os.getpid(), "nonce": nonce.hex(),
        "features": ["ready", "segments"], "reference_over": REFERENCE_OVER, "max_body": OWN_MAX_BODY,
    }
    if kind == "worker" and connection == "small":
        hello["features"] += ["http", *(["arena"] if arena_fits() else [])]
    if resume is not None:
        hello["resume"] = resume
    body = json.dumps(hello).encode()
    sock.sendall(HEADER.pack(len(body), 0, HELLO, 0, 0) + body)
    welcome = _read_frame(sock, HELLO, until)
    theirs = bytes.fromhex(welcome["nonce"])
    expect = hmac.new(token, b"node" + nonce + theirs, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expect, welcome["proof"]):
        raise ConnectionError("the node did not prove that it knows this process's token")
    proof = hmac.new(token, b"dialler" + nonce + theirs, hashlib.sha256).digest()
    sock.sendall(HEADER.pack(len(proof), 0, PROOF, 0, 0) + proof)
    welcome.pop("arena", None)  # it comes with the READY
    if "ready" in welcome.get("features", ()):
        fds: list = []
        try:
            ready = _read_frame(sock, READY, until, fds)
            if ready.get("arena") and not fds:
                raise ConnectionError("the node tells of shared memory and has sent none")
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        if ready.get("arena"):
            welcome["arena"], welcome["arena_fd"] = ready["arena"], fds.pop()
        for fd in fds:
            os.close(fd)
    sock.settimeout(None)
    return welcome


def ask(sock: socket.socket, op: str, **fields) -> dict:
    """The node's reply to a control request, on a connection that is for such requests alone."""
    sock.settimeout(ASK)
    body = json.dumps({"op": op, **fields}).encode()
    sock.sendall(HEADER.pack(len(body), 0, CONTROL, 0, 1) + body)
    with sock.makefile("rb") as frames:
        kind = None
        while kind != REPLY:
            size, meta, kind, _, _ = HEADER.unpack(frames.read(HEADER.size))
            body = frames.read(meta + size)[meta:]
    return json.loads(body)


__all__ = ["RefusedError", "ask", "open_connection", "read_token"]
