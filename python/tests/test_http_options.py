"""HTTPOptions: what is a mistake, what reaches the node, and how a node with them answers."""

import enum
import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from starlette.middleware import Middleware

from ports import free_port
from running import LIMIT
from helve.serve.config import HTTPOptions


class Stamp:
    def __init__(self, app, value="1"):
        self.app = app


class Location(enum.Enum):
    HeadOnly = "HeadOnly"
    Disabled = "Disabled"


@pytest.mark.parametrize("options, error, text", [
    ({"port": "8000"}, TypeError, "port: must be an integer"),
    ({"port": 70000}, ValueError, "port: must be at most 65535"),
    ({"host": 1}, TypeError, "host: must be text"),
    ({"location": "Everywhere"}, ValueError, "location: must be"),
    ({"location": 1}, TypeError, "location"),
    ({"root_path": "a"}, ValueError, "root_path: must begin with /"),
    ({"root_path": "/a/"}, ValueError, "root_path: must begin with /"),
    ({"request_timeout_s": "1"}, TypeError, "request_timeout_s"),
    ({"request_timeout_s": float("nan")}, ValueError, "request_timeout_s"),
    ({"keep_alive_timeout_s": 0}, ValueError, "keep_alive_timeout_s"),
    ({"keep_alive_timeout_s": -1}, ValueError, "keep_alive_timeout_s"),
    ({"middlewares": Stamp}, TypeError, "middlewares: must be a list"),
    ({"middlewares": [Stamp]}, ValueError, "must be a list of starlette.middleware.Middleware"),
    ({"num_cpus": "1"}, TypeError, "num_cpus"),
    ({"ssl_keyfile": "key.pem"}, ValueError, "Both ssl_keyfile and ssl_certfile"),
    ({"ssl_certfile": "cert.pem"}, ValueError, "Both ssl_keyfile and ssl_certfile"),
    ({"ssl_ca_certs": "ca.pem"}, ValueError, "ssl_ca_certs needs"),
    ({"ssl_keyfile": 1, "ssl_certfile": "c"}, TypeError, "ssl_keyfile: must be text"),
    ({"unknown": 1}, TypeError, "unknown"),
])
def test_mistakes(options, error, text):
    with pytest.raises(error, match=text):
        HTTPOptions(**options)


def test_defaults_and_what_is_accepted():
    o = HTTPOptions()
    assert (o.host, o.port, o.location, o.for_node()) == ("127.0.0.1", 8000, "HeadOnly", {"host": "127.0.0.1", "port": 8000})
    for location in ("Disabled", "NoServer", None, Location.Disabled):
        assert HTTPOptions(location=location).port is None
    assert HTTPOptions(host=None).port is None
    assert HTTPOptions(location=Location.HeadOnly).port == HTTPOptions(location="EveryNode").port == 8000
    assert HTTPOptions(middlewares=[Middleware(Stamp)]).middlewares[0].cls is Stamp
    with pytest.warns(UserWarning, match="no effect"):
        HTTPOptions(num_cpus=1)
    assert "secret" not in repr(HTTPOptions(ssl_keyfile="k", ssl_certfile="c", ssl_keyfile_password="secret"))


@pytest.mark.parametrize("options, sent", [
    ({"root_path": "/x"}, {"root_path": "/x"}),
    ({"request_timeout_s": 0.5}, {"request_timeout_s": 0.5}),
    ({"request_timeout_s": -1}, {}),
    ({"request_timeout_s": 0}, {}),
    ({"keep_alive_timeout_s": 90}, {"keep_alive_timeout_s": 90}),
    ({"ssl_keyfile": "k", "ssl_certfile": "c", "ssl_ca_certs": "a", "ssl_keyfile_password": "p"}, {"ssl_keyfile": "k", "ssl_certfile": "c", "ssl_ca_certs": "a", "ssl_keyfile_password": "p"}),
    ({"middlewares": [Middleware(Stamp)]}, {}),
])
def test_options_for_the_node(options, sent):
    assert HTTPOptions(**options).for_node() == {"host": "127.0.0.1", "port": 8000, **sent}


# ---- a node of its own

PROGRAM = """
import asyncio, json, os, sys
from helve import serve

@serve.deployment
class A:
    async def __call__(self, text: str):
        if text == "slow":
            await asyncio.sleep(60)
        return text

class Stamp:
    def __init__(self, app, value):
        self.app, self.value = app, value

    async def __call__(self, scope, receive, send):
        async def stamped(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-stamp", self.value)]
            await send(message)

        await self.app(scope, receive, stamped)

@serve.deployment
def plain(request):
    return "plain"

options = json.loads(os.environ["OPTIONS"])
if options.pop("stamped", False):
    from starlette.middleware import Middleware
    options["middlewares"] = [Middleware(Stamp, value=b"1")]
serve.start(http_options={"port": options["port"]})
serve.start(http_options=options)  # no application has run yet
serve.run(A.bind(), route_prefix="/a")
serve.run(plain.bind(), route_prefix="/plain", name="plain")
print("ready", flush=True)
sys.stdin.read()
"""


def certificate(directory: Path, password: str = "") -> tuple:
    key, cert = directory / "key.pem", directory / "cert.pem"
    subprocess.run([
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2", "-subj", "/CN=localhost", "-nodes",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert),
    ], check=True, capture_output=True)
    if password:
        plain = key.rename(directory / "plain.pem")
        subprocess.run(["openssl", "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", str(plain), "-out", str(key), "-passout", f"pass:{password}"], check=True)
    return str(key), str(cert)


@pytest.fixture
def node():
    """Starts programs with HTTP options, and gives their ports."""
    programs = []

    def start(**options):
        options["port"] = free_port()
        p = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], env={**os.environ, "OPTIONS": json.dumps(options)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        programs.append(p)
        assert p.stdout.readline() == "ready\n"
        return options["port"]

    yield start
    for p in programs:
        p.stdin.close()
        p.stdout.close()
        p.wait(LIMIT)


def post(url, text, **kwargs):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, text.encode(), {"content-type": "text/plain"}), timeout=30, **kwargs) as r:
            return r.status, r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def test_root_path_and_request_timeout(node):
    port = node(root_path="/x")
    assert post(f"http://127.0.0.1:{port}/x/a", "text") == (200, "text")
    assert post(f"http://127.0.0.1:{port}/a", "text") == (200, "text")
    short = node(request_timeout_s=0.2)  # another node: on a busy machine an answer may take as long
    assert post(f"http://127.0.0.1:{short}/a", "slow")[0] == 408


def test_middlewares(node):
    port = node(stamped=True)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/plain", timeout=30) as r:
        assert (r.read(), r.headers.get_all("x-stamp")) == (b"plain", ["1"])


@pytest.mark.parametrize("password", ["", "secret"])
def test_tls(node, tmp_path, password):
    key, cert = certificate(tmp_path, password)
    port = node(ssl_keyfile=key, ssl_certfile=cert, **({"ssl_keyfile_password": password} if password else {}))
    assert post(f"https://127.0.0.1:{port}/a", "text", context=ssl.create_default_context(cafile=cert)) == (200, "text")
    # A request without a body: a body that comes after the node has closed the connection resets it, and the answer is lost.
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/a", timeout=30)
