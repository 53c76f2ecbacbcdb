"""The docstrings of the public names: each name has one, and it names each parameter and each field.

The public names are those that _surface.json says are there, and those in __all__ of the modules of helve.serve.
"""

import dataclasses
import enum
import importlib
import inspect
import re
import typing

import pytest

from helve import _refused, serve

MODULES = [
    "helve", "helve.serve", "helve.serve.autoscaling_policy", "helve.serve.config", "helve.serve.context", "helve.serve.exceptions", "helve.serve.grpc_util",
    "helve.serve.handle", "helve.serve.metrics", "helve.serve.request_router", "helve.serve.schema",
]

# Classes whose objects a function of the library makes: their constructors are not for users.
MADE = {"Application", "Deployment", "ReplicaSelection"}
# Classes whose fields have another place: those of serve.deployment, and those of a process that is not there.
ELSEWHERE = {"DeploymentSchema", "ControllerHealthMetrics"}


def public():
    names = {}
    for module in MODULES:
        for name in importlib.import_module(module).__all__:
            names[f"{module}.{name}"] = None
    for module, rows in _refused.table()["modules"].items():
        if module == "serve" or module.startswith("serve."):
            for name, row in rows["names"].items():
                if row["is"] == "yes":
                    names[f"helve.{module}.{name}"] = None
    found = {}
    for full in names:
        module, _, name = full.rpartition(".")
        value = getattr(importlib.import_module(module), name)
        if not name.startswith("_") and not inspect.ismodule(value) and (inspect.isclass(value) or callable(value)) and typing.get_origin(value) is None:
            found.setdefault(id(value), (full, value))
    return list(found.values())


def own_doc(value):
    """The docstring without those that Python, enum, dataclasses and pydantic make."""
    doc = vars(value).get("__doc__") if inspect.isclass(value) else getattr(value, "__doc__", None)
    if not doc or inspect.isclass(value) and doc.startswith(f"{value.__name__}("):
        return ""
    return inspect.cleandoc(doc)


def missing(names, doc):
    """The names that do not begin an entry of a section, and are not in backticks."""
    return [name for name in names if not re.search(rf"(?m)^ +\*{{0,2}}{re.escape(name)}: |`{re.escape(name)}\b", doc)]


def parameters(fn):
    try:
        found = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in found if p.name not in ("self", "cls", "mcs")]


def fields(cls):
    if hasattr(cls, "model_fields"):
        return [n for n in cls.model_fields if n in cls.__annotations__]
    if dataclasses.is_dataclass(cls):
        return [f.name for f in dataclasses.fields(cls) if not f.name.startswith("_") and f.name in vars(cls).get("__annotations__", {})]
    return []


def mistakes_of_function(where, fn, elsewhere=""):
    doc = own_doc(fn)
    if not doc:
        return [f"{where}: no docstring"]
    found = [f"{where}: its parameter {name} is not described" for name in missing(parameters(fn), doc + elsewhere)]
    if not re.search(r"[.:]$", doc.split("\n\n")[0]):
        found.append(f"{where}: the first paragraph ends without a full stop")
    return found


def mistakes_of_class(where, cls):
    doc = own_doc(cls)
    if not doc:
        return [f"{where}: no docstring"]
    names = [] if cls.__name__ in ELSEWHERE else fields(cls)
    found = [f"{where}: its field {name} is not described" for name in missing(names, doc)]
    init = vars(cls).get("__init__")
    if inspect.isfunction(init) and not fields(cls) and not issubclass(cls, enum.Enum) and cls.__name__ not in MADE:
        found += [f"{where}: the parameter {p} of its constructor is not described" for p in missing(parameters(init), doc) if p[0] != "_"]
    for name, member in vars(cls).items():
        if name.startswith("_") or name in fields(cls):
            continue
        if isinstance(member, property):
            found += [] if own_doc(member.fget) else [f"{where}.{name}: no docstring"]
        elif isinstance(member, (staticmethod, classmethod)) or inspect.isfunction(member):
            fn = member.__func__ if isinstance(member, (staticmethod, classmethod)) else member
            elsewhere = own_doc(serve.deployment) if fn is serve.Deployment.options else ""
            found += mistakes_of_function(f"{where}.{name}", fn, elsewhere)
    return found


def mistakes(where, value):
    return mistakes_of_class(where, value) if inspect.isclass(value) else mistakes_of_function(where, value)


NAMES = public()


@pytest.mark.parametrize("where, value", NAMES, ids=[where for where, _ in NAMES])
def test_a_public_name(where, value):
    assert mistakes(where, value) == []


def test_mistakes_are_found():
    def without(n):
        pass

    def half(n, m):
        """Adds.

        Args:
            n: One.
        """

    def endless():
        """Runs"""

    @dataclasses.dataclass
    class Fields:
        """Has fields.

        Attributes:
            a: One.
        """

        a: int
        b: int = 2

        def method(self):
            pass

    assert mistakes("f", without) == ["f: no docstring"]
    assert mistakes("f", half) == ["f: its parameter m is not described"]
    assert mistakes("f", endless) == ["f: the first paragraph ends without a full stop"]
    assert mistakes("C", Fields) == ["C: its field b is not described", "C.method: no docstring"]
    assert len(NAMES) > 100
