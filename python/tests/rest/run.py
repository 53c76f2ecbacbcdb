"""The REST API against its own OpenAPI document: python run.py SCHEMATHESIS [--seconds 60]. make test-rest runs it.

A durable node serves two applications of a program, and one of a file. schemathesis sends requests that the document allows, and requests that it does not allow, and compares the answers with it: an
answer of another form, a failure of the node, and a mistake that is accepted are errors. The requests deploy, scale and delete. In the end the node must be the same process, and
serve the two applications when they are deployed again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT = 60  # seconds

PROGRAM = """
from helve import serve


@serve.deployment(num_replicas=2)
class Price:
    def __call__(self, request):
        return "42 euros"


@serve.deployment
class Shop:
    def __init__(self, price):
        self.price = price

    async def __call__(self, request):
        return await self.price.remote(None)


serve.run(Shop.bind(Price.bind()), name="shop", route_prefix="/shop")
serve.run(Price.bind(), name="price", route_prefix="/price")
"""

SMALL = """
from helve import serve


@serve.deployment
class Small:
    def __call__(self, request):
        return "small"


app = Small.bind()
"""

# Profiles take time, and the stream of updates has no end: they have tests in Go.
LEFT_OUT = r"^(/debug/pprof|/api/v1/updates)"


def eventually(found):
    """The result of a function as soon as it has one."""
    until = time.monotonic() + LIMIT
    while not (result := found()):
        if time.monotonic() > until:
            raise TimeoutError(found)
        time.sleep(0.05)
    return result


def text(path):
    """The first line of a file; "" without it."""
    try:
        return path.read_text().partition("\n")[0]
    except FileNotFoundError:
        return ""


def deployed(work, environment, node, url, token):
    """The two applications are deployed, with a replica each, and answer. A deploy of the same numbers does not undo that a request has scaled to 0."""
    subprocess.run([sys.executable, "shop.py"], cwd=work, env=environment, check=True, timeout=2 * LIMIT)
    for deployment in ("shop/deployments/Shop", "shop/deployments/Price", "price/deployments/Price"):
        scale = urllib.request.Request(f"{url}/api/v1/applications/{deployment}/scale", b'{"target_num_replicas": 1}', {"Authorization": f"Bearer {token}"})
        urllib.request.urlopen(scale, timeout=LIMIT).close()
    for route in ("/shop", "/price"):
        with urllib.request.urlopen(node["http"] + route, timeout=LIMIT) as answer:
            assert answer.read() == b"42 euros", route


def put(work, node, url, token):
    """A file with a small application is taken in JSON and in YAML: its revision is the same, a file without it deletes it, and then it is there again for the requests."""
    app = {"name": "small", "import_path": "small:app", "route_prefix": "/small", "runtime_env": {"working_dir": str(work)}}
    as_json = json.dumps({"applications": [app]})
    as_yaml = f"applications:\n- name: small\n  import_path: small:app\n  route_prefix: /small\n  runtime_env:\n    working_dir: {work}\n"

    def answer(kind, body):
        request = urllib.request.Request(
            f"{url}/api/serve/applications/?source=small&wait=true", body.encode(), {"Authorization": f"Bearer {token}", "Content-Type": kind}, method="PUT"
        )
        try:
            with urllib.request.urlopen(request, timeout=2 * LIMIT) as got:
                return json.load(got)["applications"]["small"]
        except urllib.error.HTTPError as e:
            raise AssertionError(f"{kind}: {e.read().decode()}") from None

    changes = [answer("application/json", as_json), answer("application/yaml", as_yaml), answer("application/json", '{"applications": []}'), answer("application/yaml", as_yaml)]
    assert [of["change"] for of in changes] == ["created", "unchanged", "deleted", "created"], changes
    with urllib.request.urlopen(node["http"] + "/small", timeout=LIMIT) as got:
        assert got.read() == b"small"


def about(url):
    with urllib.request.urlopen(url, timeout=LIMIT) as answer:
        return json.load(answer)


def as_started(url, token):
    """Takes back the settings that requests may have changed: a target capacity of 0 stops all replicas."""
    body = json.dumps({"target_capacity": None, "http_options": None}).encode()
    request = urllib.request.Request(url + "/api/v1/settings", body, {"Authorization": f"Bearer {token}"}, method="PATCH")
    urllib.request.urlopen(request, timeout=LIMIT).close()


def fuzz(schemathesis, url, token, seconds, environment):
    """The exit status of schemathesis."""
    command = [
        schemathesis, "--config-file", HERE / "schemathesis.toml", "run", url + "/openapi.json", "--header", f"Authorization: Bearer {token}",
        "--max-time", str(seconds), "--exclude-path-regex", LEFT_OUT, "--request-timeout", "60", "--warnings", "off",
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
    return subprocess.run(command, env={**environment, **hooks}, timeout=seconds + 5 * LIMIT).returncode


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("schemathesis")
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        state, attach = work / "state", work / "state" / "attach"
        (work / "run").mkdir()
        (work / "shop.py").write_text(PROGRAM)
        (work / "modules").mkdir()
        (work / "modules" / "small.py").write_text(SMALL)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HELVE_")} | {"HELVE_RUNTIME_DIR": str(work / "run"), "HELVE_NODE": str(state)}
        log = open(work / "log", "w+")
        node = subprocess.Popen(
            [sys.executable, "-m", "helve", "start", "--state-dir", state, "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
            cwd=work, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )
        try:
            url = eventually(lambda: text(attach / "admin.urls"))
            before = eventually(lambda: about(url) if about(url).get("http") else None)
            token = text(attach / "admin.token")
            deployed(work, environment, before, url, token)
            put(work / "modules", before, url, token)
            status = fuzz(options.schemathesis, url, token, options.seconds, environment)
            after = about(url)
            if (before["pid"], before["started_at"]) != (after["pid"], after["started_at"]):
                print("the node was started again")
                status = 1
            as_started(url, token)
            deployed(work, environment, after, url, token)
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read()[-20000:])
            raise
        finally:
            node.terminate()
            try:
                node.wait(LIMIT)
            finally:
                node.kill()
                node.wait()
                log.close()
    return status


if __name__ == "__main__":
    sys.exit(main())
