"""`helve run` of applications: MODULE:APPLICATION, several of them, or a file of applications."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Optional

from helve import _driver
from helve._flags import NODE, Command, Mistake, address, is_port


@dataclass
class Planned:
    """An application to run, before its code is loaded."""

    path: str
    name: str
    route_prefix: Optional[str]
    arguments: Dict[str, Any]
    origin: Callable[[str, str], Mistake]  # the mistake of an argument or of the application itself: its key and the text
    runtime_env: Dict[str, Any] = field(default_factory=dict)
    logging_config: Any = None
    change: Optional[Callable] = None  # a deployment with the options of a file, for its name


def prepare(command: Command) -> None:
    """Carries out the flags of the process: HTTP and the other options of the node, and the directory of modules."""
    overlay: Dict[str, Any] = {}
    if command["http"] is not None:
        host, port = address(command.origin["http"], command["http"])
        overlay = {"host": host, "port": port} if host else {"port": port}
    if command["host"] is not None:
        overlay["host"] = command["host"]
    if command["port"] is not None:
        if not is_port(command["port"]):
            raise Mistake(f"--port: must be a number from 0 to 65535, is {command['port']!r}")
        overlay["port"] = int(command["port"])
    own = _driver.command
    own.flags, own.http, own.where = command.node(), overlay, "--http HOST:PORT (port 0 picks one)"
    own.search = False  # a durable node is taken if --node says so
    if command["node"] is not None:
        for name, origin in command.origin.items():
            if origin.startswith("--") and (name in NODE or name in ("http", "host", "port", "reload")):
                raise Mistake(f"{origin}: --node runs the program in a node that has its own options; leave one of the two out")
    if command["app-dir"] is not None and not os.path.isdir(command["app-dir"]):
        raise Mistake(f"{command.origin['app-dir']} {command['app-dir']}: there is no such directory")


def directory(command: Command) -> str:
    """The directory in which modules are looked for first."""
    return os.path.abspath(command["app-dir"] or os.getcwd())


def planned(command: Command) -> tuple:
    """The applications of a command, and its file; None for no file."""
    if command.file:
        from helve import _configfile

        file = _configfile.read(command.file)
        for warning in file.warnings:
            print(f"warning: {warning}", file=sys.stderr, flush=True)
        return [_of_file(file, app) for app in file.apps], file
    apps = []
    for t in command.targets:
        given: Dict[str, Any] = {}
        for argument in t.arguments:
            key, equals, value = argument.partition("=")
            if not equals or not key:
                raise Mistake(f"Invalid application argument {argument!r}: must be key=value")
            if key in given:
                raise Mistake(f"{t.path}: the argument {key!r} is there twice")
            given[key] = value
        prefix = "/" if t.route_prefix is None else None if t.route_prefix in ("", "none") else t.route_prefix
        from helve.serve.api import _prefix

        try:
            _prefix(prefix)
        except ValueError as e:
            raise Mistake(f"{t.path}: --route-prefix: {e}") from None
        apps.append(Planned(t.path, "default" if t.name is None else t.name, prefix, given, lambda key, text, t=t: Mistake(f"{t.path}: {text}")))
    _clashes(apps)
    return apps, None


def _clashes(apps: List[Planned]) -> None:
    """Refuses two applications with one name or one path, with the command as it should be."""
    for flag, attribute in (("--name", "name"), ("--route-prefix", "route_prefix")):
        seen: Dict[Any, Planned] = {}
        for app in apps:
            value = getattr(app, attribute)
            if value is not None and value in seen:
                words = _words(apps)
                better = " ".join(f"{a.path} --name {w} --route-prefix /{w}" for a, w in zip(apps, words))
                raise Mistake(f"{seen[value].path} and {app.path} have the same {flag} {value}: give each its own, for example helve run {better}")
            seen[value] = app


def _words(apps: List[Planned]) -> List[str]:
    """A name for each application that no other has."""
    words: List[str] = []
    for app in apps:
        word = app.name if app.name != "default" else app.path.partition(":")[0].rpartition(".")[2]
        if word in words:
            word = next(w for n in range(2, len(apps) + 1) if (w := f"{word}{n}") not in words)
        words.append(word)
    return words


def _of_file(file: Any, app: Any) -> Planned:
    from helve import _configfile

    def mistake(key: str, text: str) -> Mistake:
        at = (*app.at, "args", key) if key else (*app.at, "import_path")
        for own in app.deployments.values() if not key else ():  # for example, user_config for a class without reconfigure
            found = file.blamed(own["at"], own["fields"], text)
            at = found if found != own["at"] and own["name"] in text else at
        return file.mistake(at, f"{app.path}: {text}")

    def change(name: str, deployment: Any) -> Any:
        return _configfile.changed(file, app, name, deployment)

    return Planned(app.path, app.name, app.route_prefix, app.arguments, mistake, app.runtime_env, app.logging_config, change)


def made(command: Command, apps: List[Planned], file: Any) -> list:
    """The applications, made by the user's code, as targets of serve.run_many. Each deployment that a file names is there."""
    from helve.serve.api import RunTarget

    targets = []
    for app in apps:
        with _environment(app.runtime_env):
            target = RunTarget(application(app, load(app, directory(command))), app.name, app.route_prefix, app.logging_config)
        target.runtime_env, target.change = app.runtime_env, app.change  # type: ignore[attr-defined]
        if file is not None:
            graph = _graph(target.target, app)
            names = [d["name"] for d in graph.deployments]
            of = next(a for a in file.apps if a.name == app.name)
            for name, own in of.deployments.items():
                if name in names and name not in graph.targets:
                    raise file.mistake((*own["at"], "name"), f"deployment {name!r} is in Go, and has the options of its executable")
                if name not in names:
                    from helve._refused import close_names

                    raise file.mistake((*own["at"], "name"), f"application {app.name!r} has no deployment {name!r}{close_names(name, names)}; it has {', '.join(names)}")
        targets.append(target)
    return targets


def _graph(target: Any, app: Planned) -> Any:
    """The deployments of an application, with the options of its file."""
    from helve._errors import RayServeException
    from helve.serve.deployment import Graph

    try:
        return Graph(target, app.name, None, app.change)
    except (RuntimeError, TypeError, ValueError, RayServeException) as e:
        raise app.origin("", str(e)) from None


@contextmanager
def _environment(environment: Dict[str, Any]) -> Iterator[None]:
    """The variables and the directory of an application's runtime_env, while its modules are imported here."""
    from helve import _secret

    before = dict(os.environ)
    os.environ.update(_secret.opened(environment.get("env_vars") or {}))
    places = [p for p in (environment.get("working_dir"), *(environment.get("py_modules") or [])) if p and os.path.isdir(p)]
    sys.path[:0] = places
    try:
        yield
    finally:
        for name in environment.get("env_vars") or {}:
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)
        for p in places:
            sys.path.remove(p)


def options(file: Any) -> None:
    """Sets the HTTP options of a file; those of the command line are over them."""
    from helve import serve

    serve.start(proxy_location=file.proxy_location, http_options=file.http or None)


def dry_run(targets: list, apps: List[Planned]) -> None:
    """Prints what would run: the applications with their deployments."""
    from helve.serve import _environment

    for target, app in zip(targets, apps):
        graph = _graph(target.target, app)
        for d in graph.deployments:
            for key, path in _environment.missing(d["options"].get("runtime_env") or {}):
                raise _of_code(app, f"deployment {d['name']!r}: runtime_env: {key}: there is no {path}")
        where = "no HTTP" if target.route_prefix is None else target.route_prefix
        print(f"application {target.name}  {app.path}  {where}")
        for d in graph.deployments:
            n = d["options"].get("num_replicas", 1)
            given = ", ".join(f"{k}={v!r}" for k, v in sorted(d["options"].items()) if k != "num_replicas" and k in graph.given.get(d["name"], ()))
            print(f"  deployment {d['name']}  {n} {'replica' if n == 1 else 'replicas'}" + (f"  {given}" if given else ""))


# ---- the objects of the command line


def load(app: Planned, directory: str, advice: str = "--app-dir names its directory") -> Any:
    """The object behind MODULE:ATTRIBUTE. advice is for a module that is not there."""
    path = app.path
    name, _, attribute = path.partition(":")
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError as e:
        if name.endswith(".py") and os.path.exists(os.path.join(directory, name)):
            raise Mistake(f"{path}: write {name[:-3]}:{attribute}, with the name of the module", 1) from None
        if e.name == name or e.name and name.startswith(e.name + "."):
            raise _of_code(app, f"there is no module {e.name!r} in {directory} or elsewhere on the path of {sys.executable}; {advice}") from None
        raise _of_code(app, f"the import of {name!r} failed\n\n{_trace(e)}{for_ray(e)}") from None
    except (Exception, SystemExit) as e:  # a script that ends with sys.exit() is no module
        raise _of_code(app, f"the import of {name!r} failed\n\n{_trace(e)}") from None
    at = name
    for part in attribute.split("."):
        if not hasattr(found, part):
            from helve._refused import close_names

            raise _of_code(app, f"{at} has no {part!r}{close_names(part, [n for n in dir(found) if not n.startswith('_')])}")
        found, at = getattr(found, part), f"{at}.{part}"
    return found


def _of_code(app: Planned, text: str) -> Mistake:
    mistake = app.origin("", text)
    mistake.code = 1
    return mistake


def for_ray(e: BaseException) -> str:
    """A line for a program that imports ray where no ray is installed: it is one for Ray Serve. The text is empty for every other error."""
    if not isinstance(e, ModuleNotFoundError) or e.name != "ray":
        return ""
    return "\n\nA program for Ray Serve runs as it is by helve run --ray-compat, or with helve.serve in place of ray.serve in its imports."


def _trace(e: BaseException) -> str:
    """The traceback of an import or of a call, from the user's first frame on."""
    tb = e.__traceback__
    while tb is not None and (os.path.dirname(tb.tb_frame.f_code.co_filename) == os.path.dirname(__file__) or "importlib" in tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    return "".join(traceback.format_exception(type(e), e, tb)).rstrip()


class OtherRayError(Mistake):
    """An object is of the package ray that is installed, and not of Helve."""


def _foreign(app: Planned, value: Any) -> None:
    """Refuses an object of the package ray that is installed. For example, `app = Model.bind()` of a program that imports `ray` is an
    Application of Ray's, and no application here.
    """
    if (type(value).__module__ or "").partition(".")[0] != "ray":
        return
    name = f"{type(value).__module__}.{type(value).__name__}"
    raise OtherRayError(str(_of_code(
        app, f"it is of the package ray that is installed in this environment ({name}): run the program with helve run --ray-compat, or import "
        "helve.serve in place of ray.serve"
    )), 1)


def application(app: Planned, target: Any) -> Any:
    """The application that an object is or makes."""
    from helve import _builder
    from helve.serve.deployment import Application, Deployment

    if isinstance(target, Application):
        if app.arguments:
            raise app.origin(next(iter(app.arguments)), "it is an application already, and takes no arguments: they are for a function that makes one (an application builder)")
        return target
    _foreign(app, target)
    if isinstance(target, Deployment):
        raise _of_code(app, f"it is a deployment, and must be an application: write app = {target.name}.bind(...), and run that")
    if not inspect.isroutine(target):
        raise _of_code(app, f"it is {_article(type(target).__name__)}, and must be an Application (made by .bind(...)) or a function that makes one")
    try:
        call = _builder.call(target, app.arguments)
    except _builder.ArgumentError as e:
        raise app.origin(e.key, str(e)) from None
    try:
        result = call()
    except (Exception, SystemExit) as e:
        raise _of_code(app, f"the function failed\n\n{_trace(e)}") from None
    if not isinstance(result, Application):
        _foreign(app, result)
        raise _of_code(app, f"it returned {_article(type(result).__name__)}, and must return an Application (made by .bind(...))")
    return result


def _article(name: str) -> str:
    return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"


# ---- the run


def run(command: Command) -> int:
    """Runs the applications of a command until it is interrupted."""
    apps, file = planned(command)
    targets = made(command, apps, file)
    if command["dry-run"]:
        dry_run(targets, apps)
        return 0
    from helve import _loader, _until, serve
    from helve._errors import RayServeException

    wishes = None if _loader.active() else _until.Wishes()
    try:
        if file is not None:
            options(file)
        serve.run_many(targets)
        driver = _driver.running()
        if wishes is not None:
            wishes.serving = True  # from here on an interrupt drains the applications; between their lines and this one it is the exception below
    except (RuntimeError, ValueError, RayServeException) as e:  # of the deploy; it has the user's traceback
        raise failure(e) from None
    except KeyboardInterrupt:
        driver = _driver._driver
        if wishes is None or driver is None or any(t.name not in driver.ingress for t in targets):
            raise  # an application that still starts is given up
        return wishes.end(driver)
    for t in targets:
        if not driver.durable and (t.route_prefix is None or driver.http.port is None):
            print(f"Application {t.name!r} is ready, without HTTP.", file=sys.stderr, flush=True)
    if wishes is None:
        _loader.tell(done=True, http=file.http if file is not None else None)
        return 0
    if command["node"] is not None:  # the applications go on
        return 0
    return wishes.wait(driver)


def failure(e: Exception) -> Mistake:
    """The error of a node or of a deploy for the user. A node that refuses a flag or a variable has said so itself, and ended with status 2."""
    return Mistake(str(e), 2 if str(e).endswith("exit status 2") else 1)


__all__ = ["Planned", "application", "directory", "failure", "for_ray", "load", "made", "planned", "prepare", "run"]
