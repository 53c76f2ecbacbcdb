"""What an editor shows: a client of pyright's language server asks for completions, hovers and signatures at places of a program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, Dict, List, NamedTuple, Tuple, cast

PROGRAM = '''
from helve import serve
from helve.serve.handle import DeploymentHandle, DeploymentResponse

@serve.deployment(|options of a decorator|)
class Model:
    def __init__(self, path: str, scale: float = 1.0) -> None: ...
    def __call__(self, text: str) -> int: ...

Model.options(|options of a deployment|)
Model.bind(|parameters of the constructor|)
handle = serve.run(Model.bind("w"))
handle.|members of a handle|
handle.say_hi.|members of a method|
handle.options(|options of a handle|)
handle.remote(|parameters of a call|)
handle.remote("x").|members of a response|
handle.options(stream=True).remote("x").|members of a stream|
serve.|names of the module|
serve.status().|members of a status|
serve.dep|hover over the decorator|loyment
handle.rem|hover over remote|ote
handle.options(max|hover|_x=1)
'''

OPTIONS = ["name=", "num_replicas=", "max_ongoing_requests=", "ray_actor_options=", "autoscaling_config=", "health_check_period_s=", "limits="]


class Case(NamedTuple):
    place: str
    there: Tuple[str, ...]
    absent: Tuple[str, ...] = ()


COMPLETIONS = [
    Case("options of a decorator", tuple(OPTIONS)),
    Case("options of a deployment", ("func_or_class=", *OPTIONS)),
    Case("members of a handle", ("remote", "options", "broadcast", "choose_replica", "deployment_name")),
    Case("members of a method", ("remote", "options")),
    Case("options of a handle", ("stream=", "method_name=", "multiplexed_model_id=", "session_id=")),
    Case("members of a response", ("result", "cancel", "request_id")),
    Case("members of a stream", ("cancel",), ("result",)),
    Case("names of the module", ("deployment", "run", "batch", "multiplexed", "metrics", "ingress", "RunTarget", "HTTPOptions"), ("api", "lookup")),
    Case("members of a status", ("applications", "proxies")),
]
HOVERS = [
    Case("hover over the decorator", ("max_ongoing_requests: int = 5", "Number of calls that one replica executes at a time", "Raises")),
    Case("hover over remote", ("DeploymentResponse[int]", "Starts a call and returns at once")),
]
SIGNATURES = [
    Case("parameters of the constructor", ("path: str", "scale: float = 1")),
    Case("parameters of a call", ("text: str",)),
    Case("options of a decorator", ("num_replicas: int | Literal['auto'] | None = 1",)),
]


class Server:
    """The language server, with one document open."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import sys; from pyright.langserver import main; main(*sys.argv[1:])", "--stdio"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, cwd=directory,
        )
        self.next = 0
        self.uri = (directory / "edited.py").as_uri()
        text, self.places = marked(PROGRAM)
        editor = {"workspace": {"configuration": True, "workspaceFolders": True}, "textDocument": {"hover": {"contentFormat": ["plaintext"]}}}
        folders = [{"uri": directory.as_uri(), "name": directory.name}]
        self.ask("initialize", processId=None, rootUri=directory.as_uri(), workspaceFolders=folders, capabilities=editor)
        self.say({"method": "initialized", "params": {}})
        self.say({"method": "textDocument/didOpen", "params": {"textDocument": {"uri": self.uri, "languageId": "python", "version": 1, "text": text}}})

    def say(self, message: Dict[str, Any]) -> None:
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        to = cast("IO[bytes]", self.process.stdin)
        to.write(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        to.flush()

    def hear(self) -> Dict[str, Any]:
        source = cast("IO[bytes]", self.process.stdout)
        size = 0
        while line := source.readline().strip():
            if line.lower().startswith(b"content-length:"):
                size = int(line.split(b":")[1])
        if not size:
            raise SystemExit(f"the language server has ended: {self.process.wait()}")
        return cast("Dict[str, Any]", json.loads(source.read(size)))

    def ask(self, method: str, **params: Any) -> Any:
        self.next += 1
        self.say({"id": self.next, "method": method, "params": params})
        while True:
            heard = self.hear()
            if "method" in heard:
                if "id" in heard:  # a question of the server, for example for its settings
                    items = heard["params"].get("items", []) if heard["method"] == "workspace/configuration" else None
                    settings = None if items is None else [{"pythonPath": sys.executable} if i.get("section") == "python" else {} for i in items]
                    self.say({"id": heard["id"], "result": settings})
            elif heard.get("id") == self.next:
                if "error" in heard:
                    raise SystemExit(f"{method}: {heard['error']}")
                return heard["result"]

    def at(self, kind: str, place: str) -> Any:
        line, column = self.places[place]
        return self.ask(f"textDocument/{kind}", textDocument={"uri": self.uri}, position={"line": line, "character": column})

    def close(self) -> None:
        self.ask("shutdown")
        self.say({"method": "exit"})
        self.process.communicate(timeout=30)


def marked(program: str) -> Tuple[str, Dict[str, Tuple[int, int]]]:
    """The program without its marks, and the places of these as line and column, from 0."""
    lines: List[str] = []
    places: Dict[str, Tuple[int, int]] = {}
    for number, line in enumerate(program.splitlines()):
        before, mark, rest = line.partition("|")
        if mark:
            name, _, after = rest.partition("|")
            places[name] = (number, len(before))
            line = before + after
        lines.append(line)
    return "\n".join(lines) + "\n", places


def check(directory: Path) -> List[str]:
    """The mistakes of the language server's answers."""
    server = Server(directory)
    wrong: List[str] = []

    def compare(kind: str, case: Case, shown: Any) -> None:
        wrong.extend(f"{kind}, {case.place}: {text!r} is not shown" for text in case.there if text not in shown)
        wrong.extend(f"{kind}, {case.place}: {text!r} is shown" for text in case.absent if text in shown)

    for case in COMPLETIONS:
        compare("completion", case, [item["label"] for item in server.at("completion", case.place)["items"]])
    for case in HOVERS:
        compare("hover", case, json.dumps(server.at("hover", case.place)["contents"], ensure_ascii=False))
    for case in SIGNATURES:
        compare("signature", case, [p["label"] for s in server.at("signatureHelp", case.place)["signatures"] for p in s["parameters"]])
    server.close()
    return wrong

