"""logging_config of deployments, applications and serve.start: the lines of replicas and their files."""

import io
import json
import logging
import os
import re
import subprocess
import sys

import pytest

from ports import free_port
from helve import _logging, serve
from helve._wire import RequestInfo, request_info

PROGRAM = """
import logging, sys, urllib.error, urllib.request
from helve import serve
from helve.serve.schema import LoggingConfig

logger = logging.getLogger("ray.serve")

@serve.deployment(logging_config={"log_level": "DEBUG"})
class Text:
    def __init__(self):
        logger.info("in the constructor")

    async def __call__(self, request):
        logger.info("hello %s", "x")
        logger.debug("details")
        logging.getLogger("helve.serve").warning("from helve.serve")
        logging.getLogger("other").warning("from another logger")
        print("printed")
        if request.query_params.get("fail"):
            raise ValueError("over HTTP")
        return "ok"

    def fine(self):
        return 1

    def items(self):
        yield 1

    async def fail(self):
        raise KeyError("by a handle")

@serve.deployment(logging_config=LoggingConfig(encoding="JSON", logs_dir=sys.argv[1], additional_log_standard_attrs=["name", "threadName"]))
class Json(Text.func_or_class):
    pass

@serve.deployment(logging_config={"enable_access_log": False, "log_level": "ERROR"})
class Quiet(Text.func_or_class):
    pass

@serve.deployment
class Plain(Text.func_or_class):
    pass

@serve.deployment
class Outer:
    def __init__(self, inner):
        self.inner = inner

    async def __call__(self):
        return await self.inner.fail.remote()

serve.start(http_options={"port": int(sys.argv[2])})

def get(url):
    try:
        urllib.request.urlopen(urllib.request.Request(url, headers={"x-request-id": "r-1"})).read()
    except urllib.error.HTTPError:
        pass

for d in (Text, Json, Quiet, Plain):
    name = d.name.lower()
    handle = serve.run(d.bind(), name=name, route_prefix="/" + name)
    handle.fine.remote().result()
    list(handle.options(stream=True).items.remote())
    try:
        handle.fail.remote().result()
    except KeyError:
        pass
    get(f"http://127.0.0.1:{sys.argv[2]}/{name}")
    get(f"http://127.0.0.1:{sys.argv[2]}/{name}?fail=1")
serve.run(Text.options(logging_config=None).bind(), name="by_app", route_prefix=None, logging_config={"log_level": "DEBUG"}).fine.remote().result()
try:
    serve.run(Outer.bind(Plain.bind()), name="outer", route_prefix=None).remote().result()
except KeyError:
    pass
serve.shutdown()
"""


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The lines that the program prints by replica, without the prefixes, and the files of logs_dir."""
    directory = tmp_path_factory.mktemp("logs")
    script = directory / "program.py"
    script.write_text(PROGRAM)
    port = free_port()
    ran = subprocess.run([sys.executable, str(script), str(directory / "of"), str(port)], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    by = {}
    for line in ran.stderr.splitlines():
        found = re.match(r"\((\w+)#\w+(?: [\w-]+)?\) (.*)", line)
        if found:
            by.setdefault(found[1], []).append(found[2])
    files = {p.name: p.read_text() for p in (directory / "of").iterdir()}
    return by, files


TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
ID = r"[0-9a-f]{8}-[0-9a-f-]{27}"


def records(lines):
    """The lines of the log. A printed line comes by another pipe, so it may stand between the lines of one record."""
    return [line for line in lines if line != "printed"]


def has(lines, pattern):
    return [line for line in lines if re.fullmatch(pattern, line)]


def test_text(lines):
    text = lines[0]["Text"]
    assert has(text, f"INFO {TIME} text_Text \\w+ -- in the constructor")
    assert has(text, f"INFO {TIME} text_Text \\w+ r-1 -- hello x")
    assert has(text, f"DEBUG {TIME} text_Text \\w+ r-1 -- details")
    assert has(text, f"WARNING {TIME} text_Text \\w+ r-1 -- from helve.serve")
    assert "other -- from another logger" in text and "printed" in text


def test_access_log(lines):
    text = lines[0]["Text"]
    assert has(text, f"INFO {TIME} text_Text \\w+ r-1 -- GET /text 200 \\d+\\.\\dms")
    assert has(text, f"INFO {TIME} text_Text \\w+ r-1 -- GET /text 500 \\d+\\.\\dms")
    assert has(text, f"INFO {TIME} text_Text \\w+ {ID} -- CALL fine OK \\d+\\.\\dms")
    assert has(text, f"INFO {TIME} text_Text \\w+ {ID} -- CALL items OK \\d+\\.\\dms")
    assert has(text, f"INFO {TIME} text_Text \\w+ {ID} -- CALL fail ERROR \\d+\\.\\dms")
    for name in ("Quiet", "Plain"):
        assert has(lines[0][name], ".* (GET|CALL) .*ms") == []


def test_failed_requests_are_logged_with_the_users_frames(lines):
    text = records(lines[0]["Text"])
    [at] = [i for i, line in enumerate(text) if re.fullmatch(f"ERROR {TIME} text_Text \\w+ {ID} -- Request failed\\.", line)]
    block = text[at + 1 : at + 5]
    assert block[0].strip() == "Traceback (most recent call last):" and block[-1].strip() == "KeyError: 'by a handle'", block
    assert "in fail" in block[1] and "helve/" not in "".join(block)
    [at] = [i for i, line in enumerate(text) if line.endswith("GET /text 500: the request failed, id r-1")]
    assert "in __call__" in text[at + 2] and "ValueError: over HTTP" in "".join(text[at + 3 : at + 6])


def test_a_failure_is_logged_where_it_was_raised(lines):
    plain = lines[0]["Plain"]
    assert len(has(plain, ".* -- Request failed\\.")) == 2  # of its own call, and of the call of Outer
    assert "Outer" not in lines[0]


def test_level(lines):
    quiet = lines[0]["Quiet"]
    assert has(quiet, f"ERROR {TIME} quiet_Quiet .*")
    assert has(quiet, "(INFO|DEBUG|WARNING) .*") == []


def test_json(lines):
    printed = [json.loads(line) for line in lines[0]["Json"] if line.startswith("{")]
    [(name, content)] = lines[1].items()
    assert re.fullmatch(r"replica_json_Json_\w+\.log", name)
    records = [json.loads(line) for line in content.splitlines()]
    assert printed == records
    hello = [r for r in records if r["message"] == "hello x"][0]
    assert {k: v for k, v in hello.items() if k not in ("asctime", "lineno", "process", "timestamp_ns", "replica")} == {
        "levelname": "INFO", "filename": "program.py", "name": "ray.serve", "threadName": "MainThread", "route": "/json", "request_id": "r-1",
        "application": "json", "deployment": "json_Json", "component_name": "replica",
    } | {"message": "hello x"}
    [failed] = [r for r in records if r["message"] == "Request failed."]
    assert failed["exc_text"].startswith("Traceback") and failed["exc_text"].endswith("KeyError: 'by a handle'") and failed["filename"] == "program.py"
    assert [r for r in records if re.fullmatch(r"CALL fine OK \d+\.\dms", r["message"])]


def test_the_application_has_the_deployments_config(lines):
    assert has(lines[0]["Text"], f"INFO {TIME} by_app_Text \\w+ {ID} -- CALL fine OK \\d+\\.\\dms")


# ---- in this process


@pytest.fixture
def loggers(monkeypatch):
    """Configures the loggers for a handler of the test, and restores them."""
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).level, logging.getLogger(name).propagate) for name in _logging.LOGGERS}
    for name in ("_config", "_formatter", "access"):
        monkeypatch.setattr(_logging, name, getattr(_logging, name))
    out = io.StringIO()

    def configure(config):
        _logging.set_up(logging.StreamHandler(out), config)
        return out

    yield configure
    for name, (handlers, level, propagate) in before.items():
        log = logging.getLogger(name)
        for h in log.handlers:
            if h not in handlers:
                h.close()
        log.handlers[:], log.propagate = handlers, propagate
        log.setLevel(level)
    for name in ("app", "deployment", "replica"):
        monkeypatch.setattr(_logging.where, name, "")


def test_attributes_of_records(loggers):
    out = loggers({"encoding": "JSON", "additional_log_standard_attrs": ["levelno"]})
    _logging.name("app", "D", "D#1")
    info = RequestInfo(b"\1" * 16, b"", b"", 0, 0, None)
    token = request_info.set(info)
    try:
        try:
            raise ValueError("text")
        except ValueError:
            logging.getLogger("ray.serve").exception("failed", extra={"k": "v", "strange": object})
    finally:
        request_info.reset(token)
    logging.getLogger("helve.serve").info("two\nlines")
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["levelno"], first["k"], first["strange"], first["request_id"]) == (40, "v", "<class 'object'>", info.request_id)
    assert first["exc_text"].endswith("ValueError: text")
    assert (second["message"], "request_id" in second, "levelno" in second) == ("two\nlines", False, True)


def test_access_lines_of_the_users_own(loggers):
    out = loggers({"enable_access_log": False})
    logging.getLogger("ray.serve").info("hidden", extra={"serve_access_log": True})
    assert out.getvalue() == ""
    out = loggers({})
    logging.getLogger("ray.serve").info("shown", extra={"serve_access_log": True})
    assert out.getvalue().endswith(" -- shown\n")


def test_variables_of_the_environment(loggers, monkeypatch):
    monkeypatch.setenv("RAY_SERVE_LOG_ENCODING", "JSON")
    out = loggers(None)
    logging.getLogger("ray.serve").info("a")
    assert json.loads(out.getvalue())["message"] == "a"
    monkeypatch.setenv("RAY_SERVE_LOG_TO_STDERR", "0")
    loggers(None)
    logging.getLogger("ray.serve").info("b")
    assert '"b"' not in out.getvalue()


def test_a_directory_that_cannot_be_used(loggers, tmp_path):
    (tmp_path / "file").write_text("")
    loggers({"logs_dir": str(tmp_path / "file")})
    with pytest.raises(OSError, match="logs_dir .* cannot be used"):
        _logging.name("app", "D", "D#1")


def test_names_with_separators_stay_in_the_directory(loggers, tmp_path):
    loggers({"logs_dir": str(tmp_path / "new")})
    _logging.name("a/../b", "D", "D#1")
    assert os.listdir(tmp_path / "new") == ["replica_a_.._b_D_1.log"]


@pytest.mark.parametrize("config, error", [(3, TypeError), ({"log_level": "LOUD"}, ValueError), ({"unknown": 1}, ValueError)])
def test_mistakes(config, error):
    with pytest.raises(error):
        _logging.defaults([{"options": {}}], config)


def test_the_nearest_config_counts():
    deployments = [{"options": {"logging_config": {"log_level": "DEBUG"}}}, {"options": {}}]
    _logging.defaults(deployments, None, {"log_level": "ERROR"})
    assert [d["options"]["logging_config"]["log_level"] for d in deployments] == ["DEBUG", "ERROR"]
    _logging.defaults(deployments, {"log_level": "INFO"}, {"log_level": "ERROR"})
    assert [d["options"]["logging_config"]["log_level"] for d in deployments] == ["DEBUG", "ERROR"]
    rest = [{"options": {}}]
    _logging.defaults(rest, None, None)
    assert rest == [{"options": {}}]


@serve.deployment(logging_config={})
class Filtered:
    def __init__(self):
        def broken(record):
            raise LookupError("no filter")

        logging.getLogger("ray.serve").addFilter(broken)

    async def good(self):
        return "good"

    async def bad(self):
        raise KeyError("of the method")


def test_a_filter_that_fails_keeps_no_answer_back(capfd):
    serve.start(http_options={"port": None})
    try:
        handle = serve.run(Filtered.bind(), route_prefix=None)
        assert handle.good.remote().result(timeout_s=20) == "good"
        with pytest.raises(KeyError, match="of the method"):
            handle.bad.remote().result(timeout_s=20)
    finally:
        serve.shutdown()
    assert "logging has failed: LookupError: no filter" in capfd.readouterr().err
