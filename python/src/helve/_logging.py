"""The logging of a replica: the records of the loggers ``ray.serve`` and ``helve.serve``, as the deployment's ``logging_config`` says.

A record goes to the node, which prints it and writes its own files, and with ``logs_dir`` to a file of the replica. Text is a line such as

    INFO 2026-05-04 10:15:02,031 hello_Model 7f3a request-1 -- loaded

with the application and deployment, the replica, and the id of the request if one runs; a traceback follows it in lines. With the encoding JSON each
record is one line.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import logging
import os
import sys
import time
from typing import Any, Callable, Optional

from helve import _guard, _origins
from helve._frames import request_info

LOGGERS = ("ray.serve", "helve.serve")
FILE_SIZE, FILES = 16 << 20, 4  # bytes of a part of a log file, and the number of older parts

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OWN = frozenset(("_helve_info",))
logger = logging.getLogger("ray.serve")
access = False  # whether calls are logged
program: Optional[dict] = None  # the logging_config of serve.start, for applications that have none


class Where:
    """The names in all records of this process."""

    app = deployment = replica = ""

    @property
    def component(self) -> str:
        return f"{self.app}_{self.deployment}" if self.app else self.deployment


where = Where()


def _info(record: Optional[logging.LogRecord] = None) -> Any:
    """The request that a record is about, or the code that runs; None without one."""
    return getattr(record, "_helve_info", None) or _origins.about.get() or request_info.get() or _origins.origin.get()


def ids(record: Optional[logging.LogRecord] = None) -> tuple:
    """(request id, trace id) of a record or of the code that runs; empty outside of requests."""
    info = _info(record)
    if info is None:
        return "", ""
    try:
        trace = info.trace if info.trace and any(info.trace) else info.request
        return context_of_request(info), trace.hex() if any(trace) else ""
    except Exception:  # a request that a test of the user's has made
        return "", ""


def context_of_request(info: Any) -> str:
    from helve.serve._request_context import context_of

    return context_of(info).request_id or info.request_id


def extra(record: logging.LogRecord) -> dict:
    """What a record has beside the attributes of every record, as text: the argument extra."""
    found = ((n, v) for n, v in vars(record).items() if n not in _STANDARD and n not in _OWN and n != "serve_access_log")
    return {n: v if type(v) is str else _guard.guarded(lambda v=v: json.dumps(v, default=shown), lambda e, v=v: shown(v)) for n, v in found}


def _request(record: logging.LogRecord) -> tuple:
    """(request id, route) of the request that a record is about; empty without one."""
    from helve.serve._request_context import context_of

    info = _info(record)
    if info is None:
        return "", ""
    context = context_of(info)
    return context.request_id, context.route


class Text(logging.Formatter):
    """A line of text per record, and the lines of its traceback."""

    def __init__(self, attributes: list):
        super().__init__()
        self.attributes = attributes

    def formatMessage(self, record: logging.LogRecord) -> str:
        parts = [record.levelname, self.formatTime(record), where.component, where.replica, _request(record)[0]]
        parts += (str(getattr(record, name, "")) for name in self.attributes)
        return " ".join(p for p in parts if p) + f" -- {record.message}"

    def formatException(self, ei: Any) -> str:
        return _guard.trace(ei[1]).rstrip() if ei[1] is not None else super().formatException(ei)


class Json(Text):
    """One line of JSON per record."""

    def format(self, record: logging.LogRecord) -> str:
        request_id, route = _request(record)
        out: dict = {
            "asctime": self.formatTime(record), "levelname": record.levelname, "message": record.getMessage(), "filename": record.filename,
            "lineno": record.lineno, "process": record.process,
        }
        for name in self.attributes:
            if name not in out:
                out[name] = out["message"] if name == "message" else getattr(record, name, None)
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            out["exc_text"] = record.exc_text
        if record.stack_info:
            out["stack_info"] = self.formatStack(record.stack_info)
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in _OWN and name not in out and name != "serve_access_log":
                out[name] = value
        if request_id:
            out.update(route=route, request_id=request_id)
        out.update(
            application=where.app, deployment=where.component, replica=where.replica, component_name="replica", timestamp_ns=int(record.created * 1e9),
        )
        return json.dumps({k: v for k, v in out.items() if v is not None}, default=shown)


def shown(value: Any) -> str:
    """A value that JSON does not have, in an attribute of a record."""
    return _guard.guarded(lambda: str(value), lambda e: f"<its text failed: {_guard.type_name(e)}>")


class Access(logging.Filter):
    """Lets through the lines about calls only if the configuration wants them."""

    def filter(self, record: logging.LogRecord) -> bool:
        return access or not getattr(record, "serve_access_log", False)


_formatter: logging.Formatter = Text([])
_config: dict = {}


def set_up(to_node: logging.Handler, config: Optional[dict]) -> None:
    """Configures the loggers of a worker. config is the logging_config of its deployment; None for none."""
    global _formatter, _config, access
    given, _config = config is not None, config or {}
    encoding = _config.get("encoding") or os.environ.get("RAY_SERVE_LOG_ENCODING") or "TEXT"
    _formatter = (Json if encoding == "JSON" else Text)(list(_config.get("additional_log_standard_attrs") or ()))
    access = given and _config.get("enable_access_log") is not False
    handlers = [] if os.environ.get("RAY_SERVE_LOG_TO_STDERR") == "0" else [to_node]
    for name in LOGGERS:
        log = logging.getLogger(name)
        log.handlers[:] = handlers
        log.setLevel(_config.get("log_level") or logging.INFO)
        log.propagate = False
    to_node.setFormatter(_formatter)
    to_node.addFilter(Access())


def name(app: str, deployment: str, replica: str) -> None:
    """Says which replica this process has, and opens its file."""
    where.app, where.deployment, where.replica = app, deployment, replica.rpartition("#")[2]
    directory = _config.get("logs_dir")
    if not directory:
        return
    from logging.handlers import RotatingFileHandler

    file = f"replica_{where.component}_{where.replica}.log".replace(os.sep, "_")
    try:
        os.makedirs(directory, exist_ok=True)
        handler = RotatingFileHandler(os.path.join(directory, file), maxBytes=FILE_SIZE, backupCount=FILES, delay=False)
    except OSError as e:
        raise OSError(e.errno, f"logging_config: the logs_dir {directory!r} cannot be used: {e.strerror}") from None
    handler.setFormatter(_formatter)
    handler.addFilter(Access())
    for log in LOGGERS:
        logging.getLogger(log).addHandler(handler)


def defaults(deployments: list, *configs: Any) -> None:
    """Gives deployments without a logging_config the first of configs that is not None, for example an application's and then the program's.
    deployments is the list of a graph, each with its options.
    """
    config = next((c for c in configs if c is not None), None)
    if config is None:
        return
    value = checked(config)
    for d in deployments:
        if d["options"].get("logging_config") is None and "go" not in d:
            d["options"] = {**d["options"], "logging_config": value}


def checked(config: Any) -> dict:
    """A logging_config, a dict or a LoggingConfig, as it travels."""
    from helve.serve.schema import LoggingConfig

    if isinstance(config, dict):
        config = LoggingConfig(**config)
    if not isinstance(config, LoggingConfig):
        raise TypeError(f"logging_config: must be a dict or LoggingConfig, is {_guard.type_name(config)}")
    return config.model_dump(mode="json")


def _handle(record: logging.LogRecord) -> None:
    """Logs a record about a call. An error of a user's filter or handler is not the call's: its caller would wait for the answer for ever."""
    try:
        logger.handle(record)
    except Exception as e:
        print(f"helve: logging has failed: {_guard.type_name(e)}: {_guard.text(e)}", file=sys.stderr)


def failure(message: str, e: BaseException, info: Any) -> None:
    """Logs the exception of a request with the user's frames."""
    if not logger.isEnabledFor(logging.ERROR):
        return
    record = logger.makeRecord(logger.name, logging.ERROR, "", 0, message, (), None)
    record.exc_text, record._helve_info = _guard.trace(e).rstrip(), info
    entry = _guard.last_frame(e)
    if entry is not None:
        record.pathname, record.lineno, record.funcName = entry
        record.filename = os.path.basename(record.pathname)
    _handle(record)


def uncaught(message: str, e: BaseException) -> None:
    """Logs an exception that no code has caught, on the logger helve.serve."""
    log = logging.getLogger("helve.serve")
    record = log.makeRecord(log.name, logging.ERROR, "", 0, message, (), None)
    record.exc_text = _guard.trace(e).rstrip()
    _handle(record)


def failed_call(e: BaseException, info: Any) -> None:
    """Logs the exception of a call by a handle, where it was raised: an exception that the method has from another call was logged there."""
    from helve._errors import reason_of

    if info.http is None and type(_guard.attribute(e, "_helve")) is not bytes and reason_of(e) == "user":
        failure("Request failed.", e, info)


def call_ended(what: str, status: Any, began: float, info: Any = None) -> None:
    """The line about a call that has ended, such as ``CALL predict OK 12.3ms``."""
    if logger.isEnabledFor(logging.INFO):
        message = f"{what} {status} {(time.monotonic() - began) * 1000:.1f}ms"
        record = logger.makeRecord(logger.name, logging.INFO, "", 0, message, (), None, extra={"serve_access_log": True})
        record._helve_info = info
        _handle(record)


def exchange_ended(exchange: Any, status: int, error: Optional[BaseException] = None) -> None:
    """The line about an HTTP request that has ended, such as ``GET /hello 200 12.3ms``. The route stands for the path, which is the client's text.
    status is 0 if no answer was sent.
    """
    from helve.serve._request_context import context_of

    began, exchange.began = exchange.began, 0.0
    if began:
        method = exchange.head.split(b"\0", 1)[0].decode("utf-8", "replace")
        status = status or (499 if error is not None and _status(error) == "CANCELLED" else 500)
        call_ended(f"{method} {context_of(exchange.info).route}", status, began, exchange.info)


def _status(e: BaseException) -> str:
    return "CANCELLED" if issubclass(type(e), (asyncio.CancelledError, GeneratorExit)) else "ERROR"


def logged(method: str, fn: Callable, function: Callable) -> Callable:
    """A method whose calls are logged. It is of the same kind as function, the code of fn: asynchronous, a generator, or neither."""
    what = f"CALL {method}"
    if inspect.iscoroutinefunction(function):

        async def call(*args, **kwargs):
            began = time.monotonic()
            try:
                value = await fn(*args, **kwargs)
            except BaseException as e:
                call_ended(what, _status(e), began)
                raise
            call_ended(what, "OK", began)
            return value

    elif inspect.isasyncgenfunction(function):

        async def call(*args, **kwargs):
            began, items = time.monotonic(), fn(*args, **kwargs)
            try:
                async for item in items:
                    yield item
            except BaseException as e:
                call_ended(what, _status(e), began)
                raise
            finally:
                await items.aclose()
            call_ended(what, "OK", began)

    elif inspect.isgeneratorfunction(function):

        def call(*args, **kwargs):
            began = time.monotonic()
            try:
                yield from fn(*args, **kwargs)
            except BaseException as e:
                call_ended(what, _status(e), began)
                raise
            call_ended(what, "OK", began)

    else:

        def call(*args, **kwargs):
            began = time.monotonic()
            try:
                value = fn(*args, **kwargs)
            except BaseException as e:
                call_ended(what, _status(e), began)
                raise
            call_ended(what, "OK", began)
            return value

    return functools.wraps(fn)(call) if hasattr(fn, "__qualname__") else call


__all__ = ["call_ended", "checked", "defaults", "exchange_ended", "failed_call", "failure", "logged", "name", "set_up"]
