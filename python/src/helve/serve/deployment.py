"""Deployments and the applications that are bound from them."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Optional, Union

from helve import _code, _limits
from helve._hooks import DEFINITION, hook, no_reconfigure
from helve._pickling import dumps_replacing
from helve.serve._options import OPTIONS


def _check(options: dict, deployment: Optional[str]) -> dict:
    """The options, checked, with their present values. deployment is the name of their deployment, if that is known."""
    at = f"deployment {deployment!r}: " if deployment else ""
    out = {}
    for name, value in options.items():
        if name not in OPTIONS:
            raise TypeError(f"{at}unknown deployment option {name!r}; there are {', '.join(OPTIONS)}")
        if value is not None:
            out[name] = OPTIONS[name](at + name, value)
    return out


def _target(target: Any) -> Callable:
    if isinstance(target, Deployment) or not callable(target):
        raise TypeError(f"@serve.deployment is for classes and functions, not {_limits.shown(target)}")
    return target


def _named(target: Any) -> str:
    """The name of a deployment of a class or function."""
    return getattr(target, "__name__", None) or type(target).__name__


class Application:
    """A deployment bound to its constructor's arguments, which may be other applications: the graph of an app."""

    def __init__(self, deployment: "Deployment", args: tuple, kwargs: dict):
        self._bound, self._args, self._kwargs = deployment, args, kwargs

    def __reduce__(self):
        raise TypeError(
            f"{self._bound._name}.bind(...) is no value: pass it to another deployment's bind(), which makes a handle of it, or to serve.run"
        )

    def __getattr__(self, name: str):
        if name in ("remote", "options", "broadcast"):
            raise AttributeError(f"{self._bound._name}.bind(...) is not running: handles have {name!r}; serve.run gives one, and bind() passes one on")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class Deployment:
    """A class or function with a name and options. Calling it is an error: it is bound, and then run."""

    def __init__(self, target: Callable, name: str, options: dict, source: Optional[tuple] = None):
        self._target, self._name, self._options = target, name, options
        self._source = source or _code.source(target)

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
        name = self._name if name is None else _limits.name("name", name)
        options = {**self._options, **_check(options, name)}
        if func_or_class is not None:
            return Deployment(_target(func_or_class), name, options)
        return Deployment(self._target, name, options, self._source)

    def __call__(self, *args: Any, **kwargs: Any):
        raise RuntimeError(f"deployment {self._name} cannot be constructed directly; use {self._name}.bind(...) and serve.run")

    def __repr__(self) -> str:
        return f"Deployment(name={self._name})"


def deployment(_func_or_class: Optional[Callable] = None, *, name: Optional[str] = None, **options: Any) -> Union[Deployment, Callable[[Callable], Deployment]]:
    """Makes a class or function a deployment: @serve.deployment, or @serve.deployment(num_replicas=2)."""
    if name is not None:
        name = _limits.name("name", name)
    if _func_or_class is not None:
        _target(_func_or_class)
    checked = _check(options, name or _func_or_class is not None and _named(_func_or_class) or None)

    def decorate(target: Callable) -> Deployment:
        return Deployment(_target(target), name or _named(target), checked)

    return decorate(_func_or_class) if _func_or_class is not None else decorate


class Graph:
    """An application in the form that is sent to the node: deployments by name, with handles in place of bound
    applications.
    """

    def __init__(self, app: Application, app_name: str, middlewares: Optional[list] = None):
        """middlewares are put around the application of the ingress."""
        if not isinstance(app, Application):
            hint = "; call .bind() on it" if isinstance(app, Deployment) else ""
            raise TypeError(f"serve.run takes an application, got {type(app).__name__}{hint}")
        self.app_name = app_name
        self._middlewares = middlewares or []
        self.targets: dict[str, Callable] = {}
        self.code: dict[str, bytes] = {}  # pickles of (class, args, kwargs)
        self.deployments: list[dict] = []
        self._names: dict[int, str] = {}
        self._keep: list = []  # keeps the objects alive, because their ids are keys
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
        target = d._target
        if d._options.get("user_config") is not None and hook(target, "reconfigure") is None:
            raise no_reconfigure(target, name)
        self.targets[name] = target
        uses: set[str] = set()
        code = (target, app._args, app._kwargs)
        if self._middlewares and len(self.targets) == 1:  # the ingress comes first
            code += (self._middlewares,)
        self.code[name] = self._pickle(name, code, uses)
        self.deployments.append({
            "name": name, "class": f"{target.__module__}:{target.__qualname__}", "options": d._options, "uses": sorted(uses - {name}),
            "code_version": _code.version(target, d._source, app._args, app._kwargs, self._bound),
        })
        return name

    def _bound(self, value: Any) -> Optional[str]:
        """The name of a bound application that is part of the graph; None for other values."""
        return self._names.get(id(value)) if type(value) is Application else None

    def _pickle(self, name: str, code: tuple, uses: set) -> bytes:
        """Pickles the code of a deployment. The bound applications that it uses are found meanwhile: among its
        arguments, in objects of any class, and in the globals of the program's functions.
        """
        from helve.serve.handle import DeploymentHandle

        mistakes: list = []

        def replace(value: Any) -> Any:
            if not issubclass(type(value), Application):
                return NotImplemented
            try:
                used = self._add(value)
            except Exception as e:
                mistakes.append(e)
                raise
            uses.add(used)
            return DeploymentHandle(used, self.app_name).__reduce__()

        try:
            return dumps_replacing(code, replace)
        except Exception as e:
            if mistakes:  # mistakes of the deployments that it uses
                raise mistakes[0]
            raise TypeError(f"deployment {name!r} of application {self.app_name!r} cannot be pickled: {e}") from e


def http_kind(fn: Callable, bound: bool) -> str:
    """What a method gets when an HTTP ingress calls it. str and bytes: the body, which the node reads. none: nothing, of a generator whose
    items the node sends on. request: the exchange itself.
    """
    kinds = {str: "str", "str": "str", bytes: "bytes", "bytes": "bytes"}
    try:
        params = list(inspect.signature(fn).parameters.values())[1 if bound else 0 :]
        required = [p for p in params if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if not params:
            return "none" if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn) else "request"
        if len(required) <= 1 and params[0].kind in (params[0].POSITIONAL_ONLY, params[0].POSITIONAL_OR_KEYWORD):
            return kinds.get(params[0].annotation, "request")
    except (TypeError, ValueError):
        pass
    return "request"


def http_mistake(name: str, target: Any) -> str:
    """The mistake of a deployment as an ingress for HTTP; "" if there is none."""
    fn, what = target, name
    if inspect.isclass(target):
        if hasattr(target, DEFINITION):
            return ""
        if "__call__" not in _members(target):
            return f"deployment {name} has no __call__, which HTTP requests would call"
        what, fn = f"{name}.__call__", target.__call__
    try:
        params = list(inspect.signature(fn).parameters.values())[1 if inspect.isclass(target) else 0 :]
    except (TypeError, ValueError):
        return ""
    required = [p.name for p in params if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(required) > 1 or any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in params):
        return f"HTTP requests to {what} will fail: it is called with one argument, the request, and wants {', '.join(required)}"
    return ""


def methods_of(target: Any) -> list[dict]:
    """The methods of a class or function that handles can call, and the one that HTTP requests call."""
    if not inspect.isclass(target):
        return [_method("__call__", target, False)]
    out = []
    for name in dir(target):
        if name.startswith("_") and name != "__call__":
            continue
        fn = getattr(target, name, None)
        if callable(fn) and (name != "__call__" or "__call__" in _members(target)):
            out.append(_method(name, fn, not isinstance(inspect.getattr_static(target, name), (staticmethod, classmethod))))
    if hasattr(target, DEFINITION):
        out.append({"name": "__call__", "shape": "unary", "http": "request"})
    return out


def _method(name: str, fn: Callable, bound: bool) -> dict:
    http = http_kind(fn, bound)
    stream = inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)
    return {"name": name, "shape": "stream" if stream else "unary", "http": http}


def _members(cls: type) -> set:
    """The names of a class, without the names that every class has from its metaclass."""
    return {name for c in cls.__mro__ for name in vars(c)}


__all__ = ["Application", "Deployment", "deployment"]
