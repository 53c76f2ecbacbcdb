"""Deployments and the applications that are bound from them."""

from __future__ import annotations

import inspect
import json
from typing import Any, Callable, Optional, Union

from helve._hooks import hook, no_reconfigure

_OPTIONS = {
    "num_replicas": int,
    "max_ongoing_requests": int,
    "graceful_shutdown_timeout_s": (int, float),
    "graceful_shutdown_wait_loop_s": (int, float),
    "version": str,
    "user_config": None,  # whatever JSON has
    "max_queued_requests": int,
    "health_check_period_s": (int, float),
    "health_check_timeout_s": (int, float),
    "construct_timeout_s": (int, float),
    "max_constructor_retry_count": int,
    "runtime_env": dict,  # env_vars, working_dir
    "limits": dict,  # memory, num_cpus, open_files
    "unresponsive_after_s": (int, float),
    "max_unresponsive_s": (int, float),
}

_KINDS = {int: "an integer", str: "text", (int, float): "a number of seconds", dict: "a dict"}

_KEYS = {
    "runtime_env": {"env_vars": dict, "working_dir": str},
    "limits": {"memory": int, "num_cpus": (int, float), "open_files": int},
}


def _check_keys(name: str, value: dict) -> None:
    keys = _KEYS[name]
    for key, v in value.items():
        if key not in keys:
            raise TypeError(f"{name}: unknown key {key!r}; there are {', '.join(keys)}")
        if v is None:
            continue
        kind = keys[key]
        if not isinstance(v, kind) or isinstance(v, bool):
            raise TypeError(f"{name}: {key}: must be {'a number' if key == 'num_cpus' else _KINDS[kind]}, is {v!r}")
    for variable, v in (value.get("env_vars") or {}).items():
        if not isinstance(variable, str) or not isinstance(v, str):
            raise TypeError(f"{name}: env_vars: {variable!r} must be text with a value of text, has {v!r}")


def _check(options: dict) -> dict:
    for name, value in options.items():
        if name not in _OPTIONS:
            raise TypeError(f"unknown deployment option {name!r}; there are {', '.join(_OPTIONS)}")
        kind = _OPTIONS[name]
        if value is None:
            continue
        if kind is None:
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as e:
                raise TypeError(f"{name}: it must be JSON: {e}") from None
            continue
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{name}: must be {_KINDS[kind]}, is {value!r}")
        if kind is int and value < 1 and not (name == "max_queued_requests" and value == -1):
            no_limit = "-1 (no limit) or " if name == "max_queued_requests" else ""
            raise ValueError(f"{name}: must be {no_limit}at least 1, is {value}")
        if kind is dict:
            _check_keys(name, value)
        if kind not in (int, str, dict) and value < 0:
            raise ValueError(f"{name}: must not be negative, is {value}")
    return {k: v for k, v in options.items() if v is not None}


class Application:
    """A deployment bound to its constructor's arguments, which may be other applications: the graph of an app."""

    def __init__(self, deployment: "Deployment", args: tuple, kwargs: dict):
        self._bound, self._args, self._kwargs = deployment, args, kwargs


class Deployment:
    """A class or function with a name and options. Calling it is an error: it is bound, and then run."""

    def __init__(self, target: Callable, name: str, options: dict):
        self._target, self._name, self._options = target, name, options

    @property
    def name(self) -> str:
        return self._name

    @property
    def func_or_class(self) -> Callable:
        return self._target

    def bind(self, *args: Any, **kwargs: Any) -> Application:
        return Application(self, args, kwargs)

    def options(self, func_or_class: Optional[Callable] = None, *, name: Optional[str] = None, **options: Any) -> "Deployment":
        """A copy with these options changed."""
        return Deployment(func_or_class or self._target, name or self._name, {**self._options, **_check(options)})

    def __call__(self, *args: Any, **kwargs: Any):
        raise RuntimeError(f"deployment {self._name} cannot be constructed directly; use {self._name}.bind(...) and serve.run")

    def __repr__(self) -> str:
        return f"Deployment(name={self._name})"


def deployment(_func_or_class: Optional[Callable] = None, *, name: Optional[str] = None, **options: Any) -> Union[Deployment, Callable[[Callable], Deployment]]:
    """Makes a class or function a deployment: @serve.deployment, or @serve.deployment(num_replicas=2)."""
    checked = _check(options)

    def decorate(target: Callable) -> Deployment:
        if not callable(target):
            raise TypeError("@serve.deployment is for classes and functions")
        return Deployment(target, name or target.__name__, checked)

    return decorate(_func_or_class) if _func_or_class is not None else decorate


class Graph:
    """An application as what is sent to the node: deployments by name, with handles in place of bound applications."""

    def __init__(self, app: Application, app_name: str):
        if not isinstance(app, Application):
            hint = "; call .bind() on it" if isinstance(app, Deployment) else ""
            raise TypeError(f"serve.run takes an application, got {type(app).__name__}{hint}")
        self.app_name = app_name
        self.code: dict[str, tuple] = {}
        self.deployments: list[dict] = []
        self._names: dict[int, str] = {}
        self._keep: list = []  # ids are only good as long as the objects live
        self.ingress = self._add(app)

    def _add(self, app: Application) -> str:
        if id(app) in self._names:  # bound once, used twice: one deployment
            return self._names[id(app)]
        d, name, n = app._bound, app._bound._name, 0
        taken = set(self._names.values())
        while name in taken:
            n += 1
            name = f"{d._name}_{n}"
        self._names[id(app)] = name
        self._keep.append(app)
        uses: list[str] = []
        args = tuple(self._replace(a, uses) for a in app._args)
        kwargs = {k: self._replace(v, uses) for k, v in app._kwargs.items()}
        self.code[name] = (d._target, args, kwargs)
        target = d._target
        if d._options.get("user_config") is not None and hook(target, "reconfigure") is None:
            raise no_reconfigure(target, name)
        self.deployments.append({
            "name": name, "class": f"{target.__module__}:{target.__qualname__}", "options": d._options, "uses": sorted(set(uses)),
        })
        return name

    def _replace(self, value: Any, uses: list) -> Any:
        from helve.serve.handle import DeploymentHandle

        if isinstance(value, Application):
            name = self._add(value)
            uses.append(name)
            return DeploymentHandle(name, self.app_name)
        if type(value) in (list, tuple):
            return type(value)(self._replace(v, uses) for v in value)
        if type(value) is dict:
            return {k: self._replace(v, uses) for k, v in value.items()}
        return value


def http_kind(fn: Callable, bound: bool) -> str:
    """What the one argument of a method is when an HTTP ingress calls it: none, str, bytes, or request (not served yet)."""
    try:
        params = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        return "request"
    if bound and params:
        params = params[1:]
    required = [p for p in params if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not params:
        return "none"
    if len(required) > 1 or params[0].kind not in (params[0].POSITIONAL_ONLY, params[0].POSITIONAL_OR_KEYWORD):
        return "request"
    kinds = {str: "str", "str": "str", bytes: "bytes", "bytes": "bytes"}
    try:
        return kinds.get(params[0].annotation, "request")
    except TypeError:
        return "request"


def methods_of(target: Any) -> list[dict]:
    """The methods of a class or function that handles can call."""
    if not inspect.isclass(target):
        return [{"name": "__call__", "shape": "unary", "http": http_kind(target, False)}]
    out = []
    for name in dir(target):
        if name.startswith("_") and name != "__call__":
            continue
        fn = getattr(target, name, None)
        if callable(fn) and (name != "__call__" or "__call__" in _members(target)):
            bound = not isinstance(inspect.getattr_static(target, name), (staticmethod, classmethod))
            stream = inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)
            out.append({"name": name, "shape": "stream" if stream else "unary", "http": http_kind(fn, bound)})
    return out


def _members(cls: type) -> set:
    """Names that a class has beside what every class has from its metaclass."""
    return {name for c in cls.__mro__ for name in vars(c)}


__all__ = ["Application", "Deployment", "deployment"]
