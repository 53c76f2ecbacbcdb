"""A file of applications for `helve run serve.yaml`, in the form of Ray Serve's configuration. Each mistake names its file and line.

A field that Helve does not have is a mistake, unless its value asks for nothing. For example, `grpc_options: {port: 9000}` is read without effect,
because it names no service, and `target_capacity: 50` is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional

from helve._flags import Mistake
from helve._hooks import hook, no_reconfigure

TOP = (
    "proxy_location", "http_options", "grpc_options", "logging_config", "applications", "target_capacity", "tracing_config", "controller_options",
)
HTTP = (
    "host", "port", "root_path", "request_timeout_s", "keep_alive_timeout_s", "ssl_keyfile", "ssl_certfile", "ssl_keyfile_password", "ssl_ca_certs",
)
APPLICATION = (
    "name", "route_prefix", "import_path", "args", "runtime_env", "deployments", "logging_config", "external_scaler_enabled", "autoscaling_policy",
)
# Options that are groups of fields: a file changes the fields that it names, and null takes one away.
GROUPS = ("ray_actor_options", "autoscaling_config", "request_router_config", "backpressure_config", "logging_config")
MOST = 100_000  # values of a file
# Fields that are there in Ray Serve only: the test whether a value asks for nothing, and what to do instead.
_REFUSED: Dict[str, tuple] = {
    "grpc_options": (lambda v: isinstance(v, dict) and not v.get("grpc_servicer_functions"), "there is no gRPC ingress: use HTTP, or handles"),
    "target_capacity": (lambda v: v == 100, "leave it out, and set num_replicas of the deployments"),
    "tracing_config": (lambda v: isinstance(v, dict) and not v.get("enabled"), "traces are not exported yet; requests carry the trace of their caller"),
    "controller_options": (lambda v: v == {}, "the node has no controller to configure"),
    "external_scaler_enabled": (lambda v: v is False, "leave it out: the number of replicas can be set from outside at any time"),
    "autoscaling_policy": (lambda v: v == {}, "replicas do not scale by themselves yet: set num_replicas"),
}


@dataclass
class App:
    """One application of a file."""

    path: str
    name: str
    route_prefix: Optional[str]
    arguments: Dict[str, Any]
    runtime_env: Dict[str, Any]
    logging_config: Any
    deployments: Dict[str, dict]
    at: tuple  # its place in the file


@dataclass
class File:
    """A file that was read."""

    name: str
    data: Any
    lines: Dict[tuple, int] = field(default_factory=dict)  # of the key or item at each path
    apps: List[App] = field(default_factory=list)
    http: Dict[str, Any] = field(default_factory=dict)
    proxy_location: Optional[str] = None
    logging_config: Any = None

    def mistake(self, at: tuple, text: str, code: int = 2) -> Mistake:
        while at and at not in self.lines:
            at = at[:-1]
        return Mistake(f"{self.name}:{self.lines.get(at, 1)}: {text}", code)

    def blamed(self, at: tuple, value: Any, text: str) -> tuple:
        """The path of the field that an error about a value is about: of its keys, the one whose name comes first in the text, and so on inside."""
        if isinstance(value, dict):
            found = ((re.search(rf"(?<!\w){re.escape(str(key))}(?!\w)", text), key) for key in value)
            first = min(((m.start(), key) for m, key in found if m), key=lambda f: f[0], default=None)
            if first is not None:
                return self.blamed((*at, first[1]), value[first[1]], text)
        return at


def read(name: str) -> File:
    """Reads a file and checks all that can be checked without the code of its applications."""
    file = _parsed(name)
    data = file.data
    if not isinstance(data, dict):
        raise file.mistake((), "must have fields such as applications, and has none")
    if "import_path" in data and "applications" not in data:
        raise file.mistake(("import_path",), "an application is an item of the list `applications:`")
    _known(file, (), data, TOP, "the file")
    applications = data.get("applications")
    if not isinstance(applications, list) or not applications:
        raise file.mistake(("applications",), "applications: must be a list with one application or more")
    _http(file, data.get("http_options"))
    location = data.get("proxy_location")
    if location is not None:
        from helve.serve.api import LOCATIONS

        if location not in LOCATIONS:
            raise file.mistake(("proxy_location",), f"proxy_location: must be {', '.join(LOCATIONS)}, is {location!r}")
        file.proxy_location = location
    file.logging_config = _logging(file, ("logging_config",), data.get("logging_config"))
    for i, app in enumerate(applications):
        file.apps.append(_application(file, ("applications", i), app))
    for attribute in ("name", "route_prefix"):
        seen: Dict[Any, App] = {}
        for app in file.apps:
            value = getattr(app, attribute)
            if value is not None and value in seen:
                first = file.lines.get((*seen[value].at, attribute)) or file.lines[seen[value].at]
                raise file.mistake((*app.at, attribute), f"two applications have the {attribute} {value!r}, this one and that of line {first}: give each its own")
            seen[value] = app
    return file


def _application(file: File, at: tuple, app: Any) -> App:
    if not isinstance(app, dict):
        raise file.mistake(at, f"an application must have fields such as import_path, and is {app!r}")
    for key in ("host", "port"):
        if key in app:
            raise file.mistake((*at, key), f"{key}: is of all applications: write it in http_options of the file")
    _known(file, at, app, APPLICATION, "an application")
    path = app.get("import_path")
    if not isinstance(path, str):
        wrong = "is missing" if path is None else f"must be a text, is {path!r}"
        raise file.mistake((*at, "import_path"), f"import_path: {wrong}: it names the application, for example import_path: app:entrypoint")
    module, colon, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    if not module or not attribute or ":" in attribute:
        raise file.mistake((*at, "import_path"), f"import_path: must be MODULE:APPLICATION, for example app:entrypoint, is {path!r}")
    name = app.get("name", "default")
    if not isinstance(name, str) or not name:
        raise file.mistake((*at, "name"), f"name: must be a text that is not empty, is {name!r}")
    prefix = app.get("route_prefix", "/")
    if prefix is not None:
        from helve.serve.api import _prefix

        try:
            _prefix(prefix)
        except (TypeError, ValueError) as e:
            raise file.mistake((*at, "route_prefix"), str(e)) from None
    environment = _object(file, (*at, "runtime_env"), app.get("runtime_env"))
    from helve.serve import _environment

    try:
        made = _environment.environment("runtime_env", environment)
    except (TypeError, ValueError, NotImplementedError) as e:
        raise file.mistake(file.blamed((*at, "runtime_env"), environment, str(e)), str(e)) from None
    for key, path in _environment.missing(made):
        raise file.mistake((*at, "runtime_env", key), f"runtime_env: {key}: there is no {path}")
    deployments: Dict[str, dict] = {}
    items = app.get("deployments")
    items = [] if items is None else items
    if not isinstance(items, list):
        raise file.mistake((*at, "deployments"), "deployments: must be a list")
    for i, d in enumerate(items):
        place = (*at, "deployments", i)
        own = d.get("name") if isinstance(d, dict) else None
        if not isinstance(own, str):
            raise file.mistake(place, "a deployment must have a name, that of its class or function")
        if own in deployments:
            raise file.mistake((*place, "name"), f"deployment {own!r} is twice in this application")
        from helve.serve import _checks

        _known(file, place, d, (*_checks.RAY, *_checks.OWN), f"deployment {own!r}")
        for group, model in (("autoscaling_config", "AutoscalingConfig"), ("request_router_config", "RequestRouterConfig")):
            if isinstance(d.get(group), dict):
                from helve.serve import config

                public = {k: v for k, v in d[group].items() if not str(k).startswith("_")}  # `serve build` writes others, too
                _known(file, (*place, group), public, getattr(config, model).model_fields, f"{group} of deployment {own!r}")
        deployments[own] = {"name": own, "at": place, "fields": {k: v for k, v in d.items() if k != "name"}}
    return App(
        f"{module}:{attribute}", name, prefix, _object(file, (*at, "args"), app.get("args")), made, _logging(file, (*at, "logging_config"), app.get("logging_config")),
        deployments, at,
    )


def _http(file: File, value: Any) -> None:
    at = ("http_options",)
    value = _object(file, at, value)
    _known(file, at, value, HTTP, "http_options")
    from helve.serve._http_options import HTTPSettings

    given = {k: v for k, v in value.items() if v is not None}
    try:
        HTTPSettings(**given)
    except (TypeError, ValueError) as e:
        raise file.mistake(file.blamed(at, value, str(e)), str(e)) from None
    file.http = given


def _logging(file: File, at: tuple, value: Any) -> Any:
    if value is None:
        return None
    from helve import _logging as checks

    try:
        return checks.checked(value)
    except (TypeError, ValueError) as e:
        errors: Optional[Callable[[], list]] = getattr(e, "errors", None)
        if errors is None:
            raise file.mistake(file.blamed(at, value, str(e)), str(e)) from None
        first = errors()[0]
        text = "there is no such field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise file.mistake((*at, *first["loc"][:1]), f"logging_config: {'.'.join(map(str, first['loc']))}: {text}") from None


def _object(file: File, at: tuple, value: Any) -> dict:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise file.mistake(at, f"{at[-1]}: must have fields, is {value!r}")
    return value


def _known(file: File, at: tuple, value: dict, names: Any, of: str) -> None:
    """Refuses fields that are not there, and those of Ray Serve that ask for more than Helve has."""
    for key, v in value.items():
        if key not in names:
            from helve._refused import close_names

            raise file.mistake((*at, key), f"{key}: {of} has no such field{close_names(str(key), names) or '; it has ' + ', '.join(names)}")
        if key in _REFUSED and v is not None:
            nothing, instead = _REFUSED[key]
            if not nothing(v):
                raise file.mistake((*at, key), f"{key}: is not there: {instead}")


def changed(file: File, app: App, name: str, deployment: Any) -> Any:
    """A deployment with the options that the file has for it. A group of fields, such as ray_actor_options, changes in the fields that the file
    names; user_config is one value, and is replaced as a whole.
    """
    own = app.deployments.get(name)
    if own is None:
        return deployment
    options = {}
    for key, value in own["fields"].items():
        options[key] = _merged(deployment._options.get(key), value) if key in GROUPS and isinstance(value, dict) else value
    if options.get("num_replicas") is not None and "autoscaling_config" not in options and options["num_replicas"] != "auto":
        options["autoscaling_config"] = None
    elif options.get("autoscaling_config") is not None and "num_replicas" not in options:
        options["num_replicas"] = None
    if options.get("user_config") is not None and hook(deployment._target, "reconfigure") is None:
        raise file.mistake((*own["at"], "user_config"), str(no_reconfigure(deployment._target, name)))
    try:
        return deployment.options(**options)
    except (TypeError, ValueError, NotImplementedError) as e:
        raise wrong(file, app, name, e) from None


def wrong(file: File, app: App, name: str, e: Exception) -> Mistake:
    """The mistake of an option of a deployment, with the line of its field. An error of pydantic names a field in a group, and has the class of the
    group in its title: AutoscalingConfig is that of autoscaling_config.
    """
    own = app.deployments[name]
    errors = getattr(e, "errors", None)
    if errors is None:
        return file.mistake(file.blamed(own["at"], own["fields"], str(e)), str(e))
    first = errors()[0]
    text = first["msg"].removeprefix("Value error, ")
    group = next((g for g in GROUPS if g.replace("_", "") == getattr(e, "title", "").lower()), "")
    at, inside = (*own["at"], group), own["fields"].get(group)
    at = (*at, *first["loc"][:1]) if first["loc"] else file.blamed(at, inside, text)
    place = ".".join(map(str, filter(None, (group, *first["loc"]))))
    return file.mistake(at, f"deployment {name!r}: {place + ': ' if place else ''}{text}")


def _merged(before: Any, value: dict) -> dict:
    """A group of fields with those of the file over it; null takes a field away."""
    if hasattr(before, "model_dump"):
        before = before.model_dump(exclude_unset=True)
    out = dict(before) if isinstance(before, dict) else {}
    for key, v in value.items():
        if v is None:
            out.pop(key, None)
        else:
            out[key] = _merged(out.get(key), v) if isinstance(v, dict) else v
    return out


def _parsed(name: str) -> File:
    import yaml  # type: ignore[import-untyped]

    try:
        with open(name, "rb") as f:
            text = f.read().decode("utf-8")
    except OSError as e:
        raise Mistake(f"{name}: {e.strerror}") from None
    except UnicodeDecodeError as e:
        raise Mistake(f"{name}:{_line(e.object, e.start)}: is no text in UTF-8: {e.reason}") from None
    file = File(name, None)
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            file.data = _Values(loader, file).value(node, (), ()) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        raise Mistake(f"{name}:{mark.line + 1 if mark else 1}: {e.problem or e.context}") from None
    except yaml.reader.ReaderError as e:
        raise Mistake(f"{name}:{_line(text, e.position)}: has the character #x{e.character:04x}, which a text has not") from None
    except RecursionError:
        raise Mistake(f"{name}:1: has too many values inside each other") from None
    return file


def _line(text: Any, position: int) -> int:
    """The line of a position in a text or in bytes, from 1."""
    return text.count(b"\n" if isinstance(text, bytes) else "\n", 0, position) + 1


class _Values:
    """The values of the nodes of a file. The lines of keys and items go into the file meanwhile."""

    def __init__(self, loader: Any, file: File):
        self.loader, self.file = loader, file
        self.own: Dict[int, tuple] = {}  # of mappings, by their id: the lines of their own keys, and that of the key <<; an alias comes here again

    def mistake(self, node: Any, text: str) -> Mistake:
        return Mistake(f"{self.file.name}:{node.start_mark.line + 1}: {text}")

    def value(self, node: Any, at: tuple, above: tuple) -> Any:
        """The value of a node, whose place in the file is at. above are the nodes that it is in."""
        import yaml  # type: ignore[import-untyped]

        if any(node is n for n in above):
            raise self.mistake(node, "the value has itself inside")
        if len(self.file.lines) > MOST:  # aliases of aliases: ten lines can have more values than a machine has memory
            raise self.mistake(node, f"the file has more than {MOST:,} values")
        if isinstance(node, yaml.CollectionNode) and node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            raise self.mistake(node, f"a value with the tag {_tag(node)!r}: must be plain")
        if isinstance(node, yaml.MappingNode):
            own, merged = self.keys(node)
            out = {}
            for key, v in node.value:
                name = self.scalar(key)
                place = (*at, name)
                self.file.lines[place] = own.get(key.value, merged)
                out[name] = self.value(v, place, (*above, node))
            return out
        if isinstance(node, yaml.SequenceNode):
            items = []
            for i, v in enumerate(node.value):
                self.file.lines[(*at, i)] = v.start_mark.line + 1
                items.append(self.value(v, (*at, i), (*above, node)))
            return items
        return self.scalar(node)

    def keys(self, node: Any) -> tuple:
        """The lines of a mapping's keys, and the line of its key <<, in whose place the fields of another mapping come."""
        import yaml  # type: ignore[import-untyped]

        if id(node) in self.own:  # its fields are those of both mappings already, and may be there twice
            return self.own[id(node)]
        own: Dict[Any, int] = {}
        merged = node.start_mark.line + 1
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.mistake(key, "the name of a field must be a text")
            if key.tag == "tag:yaml.org,2002:merge":
                merged = key.start_mark.line + 1
            elif key.value in own:
                raise self.mistake(key, f"{key.value}: is in line {own[key.value]} too")
            else:
                own[key.value] = key.start_mark.line + 1
        self.loader.flatten_mapping(node)
        self.own[id(node)] = own, merged
        return own, merged

    def scalar(self, node: Any) -> Any:
        """The value of a text, such as a number or a date. PyYAML has errors of many types for a text that only looks like one, such as 2020-13-45."""
        try:
            return self.loader.construct_object(node, deep=True)
        except (ValueError, TypeError, LookupError, AttributeError):
            text = node.value if len(node.value) <= 40 else node.value[:40] + "..."
            raise self.mistake(node, f"{text!r} cannot be read as {_tag(node)}; in quotes it is a text") from None


def _tag(node: Any) -> str:
    return node.tag.replace("tag:yaml.org,2002:", "!!")


__all__ = ["App", "File", "changed", "read", "wrong"]
