"""serve.ingress: ASGI applications as deployments."""

from __future__ import annotations

import copyreg
import inspect
import math
import sys
import types
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional

from helve import _limits
from helve._errors import BackPressureError, DeploymentUnavailableError, RayServeException
from helve._hooks import DEFINITION

if TYPE_CHECKING:
    from helve.serve._types import IngressDecorator

_OWNER = "_helve_class"  # the attribute of a route's function that names the class whose method it is


def ingress(app: Any) -> "IngressDecorator":
    """Serves HTTP requests of a class with an ASGI application, for example one of FastAPI:

        app = FastAPI()

        @serve.deployment
        @serve.ingress(app)
        class Api:
            @app.get("/double/{n}")
            def double(self, n: int) -> int:
                return 2 * n

    Routes of the application that are methods of the class, or of its base classes, get the replica's instance as self. Routes of other
    classes that share the application are not served here, nor are routes that are added after this call.

    Args:
        app: An application of FastAPI or Starlette, any other ASGI application, or a function without parameters that returns one, which each
            replica calls.

    Returns:
        A decorator of classes, to be put below `@serve.deployment`. Without a class, `serve.ingress(app)()` makes one.

    Raises:
        TypeError: Another value than an ASGI application.
        ValueError: The decorator is put on something else than a class without `__call__`.
    """
    from helve.serve.deployment import Deployment

    if inspect.isclass(app):
        raise TypeError(f"serve.ingress takes an ASGI application, as in @serve.ingress(app) above the class; it got the class {app.__name__}")
    if isinstance(app, Deployment):
        raise TypeError(f"serve.ingress takes an ASGI application, it got {app}")
    if not callable(app):
        raise TypeError(f"serve.ingress takes an ASGI application or a function that returns one, is {_limits.shown(app)}")
    _make_picklable()
    builder = inspect.isfunction(app) and not inspect.iscoroutinefunction(app) and len(_required(app)) < 2
    if builder and _required(app):
        raise TypeError(f"serve.ingress: {app.__qualname__} must have no parameters: it is called to make the ASGI application")

    def decorate(cls: Any = None) -> Any:
        if cls is None:
            cls = type("ASGIIngressDeployment", (), {"__module__": __name__, "__init__": _keep_arguments})
        if isinstance(cls, Deployment):
            raise ValueError("@serve.ingress must be used with a class: put it below @serve.deployment")
        if not inspect.isclass(cls):
            raise ValueError("@serve.ingress must be used with a class.")
        if DEFINITION in vars(cls):
            raise ValueError(f"{cls.__qualname__} has @serve.ingress twice")
        if any("__call__" in vars(c) for c in cls.__mro__):
            raise ValueError("Classes passed to @serve.ingress may not have __call__ method.")
        definition = Definition(app, builder, cls)
        meta: Any = type(cls)
        made = meta(cls.__name__, (cls,), {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__, DEFINITION: definition})
        return made

    return decorate


def _make_picklable() -> None:
    """Teaches pickle the parts of an application that it does not know: app.state, whose __getattr__ recurses when it is unpickled, and
    a router that FastAPI has included, which has a lock.
    """
    state = getattr(sys.modules.get("starlette.datastructures"), "State", None)
    if state is not None:
        copyreg.pickle(state, lambda s: (type(s), (s._state,)))
    datastructures = sys.modules.get("fastapi.datastructures")
    if datastructures is not None:  # a sentinel, which FastAPI compares by `is`
        unset = getattr(datastructures, "_Unset", None)
        if isinstance(unset, datastructures.DefaultPlaceholder):
            copyreg.pickle(datastructures.DefaultPlaceholder, lambda d: "_Unset" if d is unset else (type(d), (d.value,)))
    included = getattr(sys.modules.get("fastapi.routing"), "_IncludedRouter", None)
    if included is not None:
        copyreg.pickle(included, lambda r: (type(r), (r.original_router, r.include_context)))


def _keep_arguments(self: Any, *args: Any, **kwargs: Any) -> None:
    self.args, self.kwargs = args, kwargs


def _required(fn: Callable) -> list:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p for p in inspect.signature(fn).parameters.values() if p.default is p.empty and p.kind in kinds]


class Definition:
    """The application of an ingress class, as it travels to the replicas."""

    def __init__(self, app: Any, builder: bool, cls: type):
        self.app, self.builder = app, builder
        self.routes: Optional[list] = None  # the routers of the application with the routes that they have now
        if not builder:
            self.routes = [(router, list(router.routes)) for router in _routers(app)]
            for router, routes in self.routes:
                for route in routes:
                    _claim(route, cls)

    def docs_path(self) -> str:
        """The path of the pages that FastAPI makes of the routes, "" for none. The application of a function is not known here."""
        if self.builder:
            return ""
        if _is("fastapi", "FastAPI", self.app):
            return (self.app.openapi_url and self.app.docs_url) or ""
        return "/docs" if _is("fastapi.routing", "APIRouter", self.app) else ""

    async def build(self, instance: Any) -> Any:
        """The application of a replica. The process has one replica, so the application is changed in place."""
        app = self.app
        if self.builder:
            app = app()
            if inspect.isawaitable(app):
                app = await app
            if not callable(app):
                raise TypeError(f"{self.app.__qualname__} must return an ASGI application, it returned {_limits.shown(app)}")
        for router, routes in self.routes if self.routes is not None else [(r, list(r.routes)) for r in _routers(app)]:
            router.routes[:] = [made for route in routes if (made := _bound(route, instance, app)) is not None]
            changed = getattr(router, "_mark_routes_changed", None)
            if changed is not None:
                changed()
        _add_handlers(app)
        if _is("fastapi.routing", "APIRouter", app):  # a router alone is no application with exception handlers
            fastapi = sys.modules["fastapi"].FastAPI()
            fastapi.include_router(app)
            _add_handlers(fastapi)
            app = fastapi
        if _is("fastapi", "FastAPI", app) and app.root_path:
            app = _below(app)
        return app


def _below(app: Any) -> Callable:
    """An application of FastAPI with a root_path, which would take the place of the route prefix. The path of both is in front of a request's:
    with FastAPI(root_path="/proxy") and route_prefix="/a" it is /proxy/a.
    """
    root, app.root_path = app.root_path.rstrip("/"), ""

    async def below(scope: dict, receive: Callable, send: Callable) -> None:
        if "path" in scope and not scope["root_path"].startswith(root):
            raw = scope.get("raw_path")
            scope = {**scope, "root_path": root + scope["root_path"], "path": root + scope["path"], "raw_path": raw and root.encode() + raw}
        await app(scope, receive, send)

    return below


def _is(module: str, name: str, value: Any) -> bool:
    """isinstance() for a class of a module that may not be imported."""
    cls = getattr(sys.modules.get(module), name, None)
    return cls is not None and isinstance(value, cls)


def _routers(app: Any) -> Iterator[Any]:
    """The routers of FastAPI in an application: its own, and those that it has included."""
    if _is("fastapi", "FastAPI", app):
        app = app.router
    todo: list = [app] if _is("fastapi.routing", "APIRouter", app) else []
    seen: list = []
    while todo:
        router = todo.pop()
        if any(router is s for s in seen):
            continue
        seen.append(router)
        yield router
        todo += [r.original_router for r in router.routes if _is("fastapi.routing", "APIRouter", getattr(r, "original_router", None))]


def _is_api(route: Any) -> bool:
    return _is("fastapi.routing", "APIRoute", route) or _is("fastapi.routing", "APIWebSocketRoute", route)


def _claim(route: Any, cls: type) -> None:
    """Notes the class whose method a route's function is: the class itself or one of its bases. The class is known by the names, because a
    class may have two functions of one name, of which it has only the last.
    """
    fn = route.endpoint if _is_api(route) else None
    if not inspect.isfunction(fn) or _OWNER in vars(fn):
        return
    for c in cls.__mro__:
        if fn.__module__ == c.__module__ and fn.__qualname__.rpartition(".")[0] == c.__qualname__:
            if not inspect.signature(fn).parameters:
                raise RayServeException(f"{fn.__qualname__} is a route, and must have `self` as its first argument")
            setattr(fn, _OWNER, c)
            return


def _bound(route: Any, instance: Any, app: Any) -> Any:
    """The route for an instance: the same one if its function is no method, None if it is the method of another class."""
    fn: Any = route.endpoint if _is_api(route) else None
    owner = vars(fn).get(_OWNER) if inspect.isfunction(fn) else None
    if owner is None:
        return route
    classes = type(instance).__mro__
    if owner not in classes:
        return None
    for c in classes[: classes.index(owner)]:  # a derived class may define the method anew
        override = vars(c).get(fn.__name__)
        if inspect.isfunction(override):
            fn = override
            break
    kind = "APIRoute" if _is("fastapi.routing", "APIRoute", route) else "APIWebSocketRoute"
    names = list(inspect.signature(getattr(sys.modules["fastapi.routing"], kind).__init__).parameters)[1:]
    values = {name: getattr(route, name) for name in names if hasattr(route, name)}
    values.setdefault("dependency_overrides_provider", app)
    values["endpoint"] = types.MethodType(fn, instance)
    return type(route)(**values)


def _add_handlers(app: Any) -> None:
    """Errors of deployments that the application calls are 503, unless it has handlers of its own for them."""
    if not _is("starlette.applications", "Starlette", app):
        return
    for cls in (BackPressureError, DeploymentUnavailableError):
        if not any(c in app.exception_handlers for c in (cls, RayServeException)):
            app.add_exception_handler(cls, _unavailable)


async def _unavailable(request: Any, error: Exception) -> Any:
    from starlette.responses import JSONResponse

    detail = str(error)
    if not isinstance(error, BackPressureError):  # its text may have the reason why a constructor failed
        from helve._http import logger

        logger.error("%s %s: %s", request.method, request.url.path, detail)
        detail = "a deployment that the request needs is not available"
    if not isinstance(error, BackPressureError):
        return JSONResponse({"detail": detail}, status_code=503)
    retry = error.retry_after_s
    headers = {} if retry is None else {"Retry-After": str(math.ceil(retry))}
    return JSONResponse({"detail": detail}, status_code=error.status_code, headers=headers)


__all__ = ["ingress"]
