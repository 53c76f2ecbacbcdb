"""The HTTP options as the driver has them: a plain class, so that a program without configuration classes does not load pydantic."""

from __future__ import annotations

import dataclasses
import os
import warnings
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from helve import _limits
from helve._refused import close_names

NODE = ("root_path", "request_timeout_s", "keep_alive_timeout_s", "ssl_keyfile", "ssl_certfile", "ssl_keyfile_password", "ssl_ca_certs")
FLAGS = {  # options by the flag of the command line that beats them
    "request-timeout": ("request_timeout_s",), "http-root-path": ("root_path",), "http-idle-timeout": ("keep_alive_timeout_s",),
    "tls-certificate": ("ssl_certfile", "ssl_keyfile", "ssl_keyfile_password"), "tls-client-ca": ("ssl_ca_certs",),
}
LOCATIONS = ("Disabled", "NoServer", "HeadOnly", "EveryNode")


@dataclass
class HTTPSettings:
    """How the node serves HTTP. With port None it does not.

    - location: "Disabled" or "NoServer" for no HTTP; the other locations of Ray Serve are equal, because there is one node.
    - root_path: what a proxy in front of the node adds to every path.
    - request_timeout_s: the time limit of a request with its time in the queue; None, 0 and negative numbers stand for no limit.
    - keep_alive_timeout_s: how long a connection may be without a request; None stands for the node's own limit.
    - ssl_keyfile and ssl_certfile, both or neither: HTTP is with TLS. ssl_ca_certs: authorities whose certificates clients must have.
    - middlewares: starlette.middleware.Middleware objects, which each replica of an ingress puts around its application.
    - num_cpus and root_url have no effect.
    """

    host: Optional[str] = "127.0.0.1"
    port: Optional[int] = 8000
    location: Any = "HeadOnly"
    root_path: str = ""
    request_timeout_s: Optional[float] = None
    keep_alive_timeout_s: Optional[float] = None
    middlewares: list = field(default_factory=list)
    num_cpus: Union[int, float] = 0
    root_url: str = ""
    ssl_keyfile: Optional[str] = None
    ssl_certfile: Optional[str] = None
    ssl_keyfile_password: Optional[str] = field(default=None, repr=False)
    ssl_ca_certs: Optional[str] = None

    def __post_init__(self) -> None:
        at = "http_options: "
        if self.port is not None:
            self.port = _limits.integer(at + "port", self.port, 0, 65535)
        self.location = self._location(at)
        if self.host is None or self.location == "Disabled":
            self.host, self.port = self.host or "127.0.0.1", None
        self.host = _limits.text(at + "host", self.host)
        self.root_path = _limits.text(at + "root_path", self.root_path)
        self.root_url = _limits.text(at + "root_url", self.root_url)
        if self.root_path and (self.root_path[0] != "/" or self.root_path[-1] == "/"):
            raise ValueError(f"{at}root_path: must begin with / and not end with it, is {_limits.shown(self.root_path)}")
        timeout = self.request_timeout_s
        if timeout is not None:
            timeout = _limits.number(at + "request_timeout_s", timeout, -_limits.MAX_SECONDS, _limits.MAX_SECONDS)
            self.request_timeout_s = timeout if timeout > 0 else None
        if self.keep_alive_timeout_s is not None:
            self.keep_alive_timeout_s = _limits.seconds(at + "keep_alive_timeout_s", self.keep_alive_timeout_s, positive=True)
        self.middlewares = self._middlewares(at)
        if _limits.number(at + "num_cpus", self.num_cpus, 0, 1 << 20):
            warnings.warn("http_options: num_cpus has no effect", stacklevel=3)
        for name in ("ssl_keyfile", "ssl_certfile", "ssl_keyfile_password", "ssl_ca_certs"):
            if getattr(self, name) is not None:
                setattr(self, name, _limits.text(at + name, getattr(self, name)))
        if (self.ssl_keyfile is None) != (self.ssl_certfile is None):
            raise ValueError(f"{at}Both ssl_keyfile and ssl_certfile must be provided together for HTTPS")
        for name in ("ssl_keyfile_password", "ssl_ca_certs"):
            if getattr(self, name) is not None and self.ssl_certfile is None:
                raise ValueError(f"{at}{name} needs ssl_keyfile and ssl_certfile")

    def _location(self, at: str) -> str:
        value = getattr(self.location, "value", self.location)
        return "Disabled" if value in (None, "NoServer") else _limits.choice(at + "location", value, list(LOCATIONS))

    def _middlewares(self, at: str) -> list:
        if self.middlewares is None:
            return []
        if not isinstance(self.middlewares, (list, tuple)):
            raise TypeError(f"{at}middlewares: must be a list of starlette.middleware.Middleware, is {_limits.shown(self.middlewares)}")
        if self.middlewares:
            from starlette.middleware import Middleware

            for m in self.middlewares:
                if not isinstance(m, Middleware):
                    raise ValueError(f"{at}middlewares: must be a list of starlette.middleware.Middleware, has {_limits.shown(m)}")
        return list(self.middlewares)

    def for_node(self) -> dict:
        """The options that the node carries out."""
        fields = {name: getattr(self, name) for name in NODE}
        return {"host": self.host, "port": self.port, **{name: value for name, value in fields.items() if value}}


@dataclass
class Command:
    """The part of a command line, or of its variables, that is about the node. It is over the HTTP options of the program: a flag beats its variable,
    which beats a file and the program. For example, with HELVE_HTTP=127.0.0.1:9000 the node serves there, whatever serve.start says.
    """

    flags: list = field(default_factory=list)  # for the node, as arguments
    http: Optional[dict] = None  # host and port; None for those of HELVE_HTTP
    where: str = "serve.start(http_options={'port': ...}), or none with 'port': None"  # for the error of a port that is in use
    search: bool = True  # serve.run looks for a durable node

    def over(self, http: HTTPSettings) -> HTTPSettings:
        """The options of a program with those of the command line over them."""
        given = self._address() if self.http is None else self.http
        fields = {f.name: f.default for f in dataclasses.fields(HTTPSettings) if f.name in self._beaten()}
        if not given and not fields:
            return http
        place = {"location": "HeadOnly"} if given.get("port") is not None else {}
        return dataclasses.replace(http, **fields, **given, **place)

    def _address(self) -> dict:
        from helve import _flags

        text = os.environ.get("HELVE_HTTP")
        if not text:
            return {}
        try:
            host, port = _flags.address("HELVE_HTTP", text)
        except _flags.Mistake as e:
            raise ValueError(str(e)) from None
        return {"host": host, "port": port} if host else {"port": port}

    def _beaten(self) -> set:
        """The options that a flag or a variable of the node sets."""
        names = [f[2:].partition("=")[0] for f in self.flags]
        return {
            option for flag, options in FLAGS.items() for option in options
            if flag in names or os.environ.get("HELVE_" + flag.upper().replace("-", "_"))
        }


def http_settings(value: Any) -> Optional[HTTPSettings]:
    """The settings that serve.start got: None, a dict, HTTPOptions or settings. They are checked, also where a field was changed since."""
    if value is None:
        return None
    fields = [f.name for f in dataclasses.fields(HTTPSettings)]
    if isinstance(value, dict):
        for name in value:
            if name not in fields:
                raise TypeError(f"http_options: unknown option {_limits.shown(name)}{close_names(str(name), fields)}; there are {', '.join(fields)}")
        return HTTPSettings(**value)
    if type(value).__name__ not in ("HTTPOptions", "HTTPSettings") or not all(hasattr(value, f) for f in fields):
        raise TypeError(f"http_options: must be a dict or HTTPOptions, is {_limits.shown(value)}")
    return HTTPSettings(**{f: getattr(value, f) for f in fields})


def reachable(url: str) -> str:
    """A URL that a client on this machine can open. For example, http://[::]:8000 is that of a node that listens on every address, and becomes
    http://127.0.0.1:8000.
    """
    return url.replace("//[::]:", "//127.0.0.1:", 1).replace("//0.0.0.0:", "//127.0.0.1:", 1)


__all__ = ["Command", "HTTPSettings", "http_settings", "reachable"]
