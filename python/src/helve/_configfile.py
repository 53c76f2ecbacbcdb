"""A file of applications for `helve run serve.yaml`, in the form of Ray Serve's configuration. The binary reads it (internal/config), as it does for
`helve deploy`, so that one reader has the rules. Here its options are put over those of the code, and a mistake that the code shows gets its place.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from helve._flags import Mistake
from helve._hooks import hook, no_reconfigure

# Options that are groups of fields: a file changes the fields that it names, and null takes one away.
GROUPS = (
    "ray_actor_options", "autoscaling_config", "request_router_config", "backpressure_config", "logging_config", "rollout_config", "ejection_config", "limits",
    "request_router",
)


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
    places: Dict[tuple, tuple] = field(default_factory=dict)  # line and column of the key or item at each path
    apps: List[App] = field(default_factory=list)
    http: Dict[str, Any] = field(default_factory=dict)
    proxy_location: Optional[str] = None
    warnings: List[str] = field(default_factory=list)
    secrets: Dict[str, str] = field(default_factory=dict)  # values of placeholders in arguments

    def mistake(self, at: tuple, text: str, code: int = 2) -> Mistake:
        while at and at not in self.places:
            at = at[:-1]
        line, column = self.places.get(at, (1, 1))
        return Mistake(f"{self.name}:{line}:{column}: {text}", code)

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
    from helve import _driver, _secret

    try:
        with open(name, "rb") as f:
            text = f.read()
    except OSError as e:
        raise Mistake(f"{name}: {e.strerror}") from None
    done = subprocess.run([_driver.binary(), "read-file", "--", name], input=text, capture_output=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().removeprefix("error: ")
        raise Mistake(said or f"{name}: the reader of files has ended with status {done.returncode}")
    data = json.loads(done.stdout)
    file = File(name, http=data["http_options"] or {}, proxy_location=data.get("proxy_location"), warnings=data["warnings"] or [])
    file.places = {tuple(p[:-2]): (p[-2], p[-1]) for p in data["places"] or ()}
    if not data["applications"]:
        raise file.mistake(("applications",), "applications: must be a list with one application or more")
    try:
        file.http = _secret.opened(file.http)
    except RuntimeError as e:
        raise file.mistake(("http_options",), str(e)) from None
    file.apps = [_application(file, ("applications", i), app) for i, app in enumerate(data["applications"])]
    _secret.use(file.secrets)
    return file


def _application(file: File, at: tuple, app: dict) -> App:
    from helve import _secret
    from helve.serve import _environment

    fields = app["fields"]
    try:
        environment = _environment.environment("runtime_env", app["runtime_env"] or {})
    except (TypeError, ValueError, NotImplementedError) as e:
        raise file.mistake(file.blamed((*at, "runtime_env"), fields.get("runtime_env"), str(e)), str(e)) from None
    for key, path in _environment.missing(environment):
        raise file.mistake((*at, "runtime_env", key), f"runtime_env: {key}: there is no {path}")
    try:
        secrets = _secret.found(fields.get("args") or {})
    except RuntimeError as e:
        raise file.mistake((*at, "args"), str(e)) from None
    file.secrets.update(secrets)
    arguments = _secret.opened(fields.get("args") or {}, secrets)
    deployments: Dict[str, dict] = {}
    for i, d in enumerate(fields.get("deployments") or ()):
        deployments[d["name"]] = {"name": d["name"], "at": (*at, "deployments", i), "fields": {k: v for k, v in d.items() if k != "name"}}
    return App(app["import_path"], app["name"], app["route_prefix"], arguments, environment, app["logging_config"], deployments, at)


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


__all__ = ["App", "File", "changed", "read", "wrong"]
