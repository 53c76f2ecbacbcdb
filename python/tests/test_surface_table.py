"""The table of Ray Serve's names, _surface.json, against the package: a name that says yes is there, with its parameters and members, and a
refused one is an error with the text of the table, however it is reached.
"""

import dataclasses
import importlib
import inspect
import subprocess
import sys

import pytest

from helve import _refused, serve

TABLE = _refused.table()
MODULES = TABLE["modules"]
SERVE = {m: rows for m, rows in MODULES.items() if m == "serve" or m.startswith("serve.")}
NAMES = [(m, n, row) for m, rows in SERVE.items() for n, row in rows["names"].items()]


def ids(rows):
    return [f"{m}.{n}" for m, n, _ in rows]


def rows_where(test):
    rows = [r for r in NAMES if test(*r)]
    return pytest.mark.parametrize("module, name, row", rows, ids=ids(rows))


def there(module, name, row):
    return row["is"] == "yes" or row.get("when") == "used"


def there_in(module, name):
    """An object by its name in the table."""
    return getattr(importlib.import_module(f"helve.{module}"), name)


def parameters(value):
    """The names that a function or class takes; None if it takes any."""
    if hasattr(value, "model_fields"):
        return set(value.model_fields)
    if dataclasses.is_dataclass(value):
        return {f.name for f in dataclasses.fields(value)}
    found = inspect.signature(value).parameters.values()
    return None if any(p.kind is p.VAR_KEYWORD for p in found) else {p.name for p in found}


@rows_where(there)
def test_a_name_that_is_there(module, name, row):
    value = there_in(module, name)
    exec(f"from helve.{module} import {name}", {})
    takes = parameters(value) if "parameters" in row else None
    if takes is not None:
        assert set(row["parameters"]) <= takes
    for member in row.get("members", ()):
        assert hasattr(value, member) or member in getattr(value, "__annotations__", {}) or member in dict.fromkeys(getattr(value, "__slots__", ())), member


@rows_where(lambda *row: not there(*row))
def test_a_refused_name(module, name, row):
    with pytest.raises(ImportError) as caught:
        exec(f"from helve.{module} import {name}", {})
    assert row["instead"] in str(caught.value)
    if "instead" in MODULES[module]:
        return
    found = importlib.import_module(f"helve.{module}")
    with pytest.raises(AttributeError) as caught:
        getattr(found, name)
    assert row["instead"] in str(caught.value)
    assert not hasattr(found, name)


@pytest.mark.parametrize("module", [m for m, rows in SERVE.items() if "instead" in rows])
def test_a_refused_module(module):
    for statement in (f"import helve.{module}", f"from helve.{module.rpartition('.')[0]} import {module.rpartition('.')[2]}"):
        with pytest.raises(ImportError) as caught:
            exec(statement, {})
        assert MODULES[module]["instead"] in str(caught.value)


@pytest.mark.parametrize("option", TABLE["options"])
def test_an_option_of_deployments(option):
    row = TABLE["options"][option]
    if row["is"] == "yes":
        assert option in inspect.signature(serve.deployment).parameters
        return
    with pytest.raises(NotImplementedError, match=f"{option}.*not there"):
        serve.deployment(placement_group_bundles=[{"CPU": 1}], **{option: [{}]})(print)



@pytest.mark.parametrize("module", [m for m, rows in MODULES.items() if "all" in rows])
def test_every_name_of_the_references_all_is_in_the_table(module):
    assert set(MODULES[module]["all"]) <= set(MODULES[module]["names"])


def test_serve_lists_its_names():
    for name in serve.__all__:
        assert getattr(serve, name) is not None
    assert {n for n, row in MODULES["serve"]["names"].items() if row["is"] == "yes" and not n.startswith("_")} <= set(dir(serve))


def test_a_typo_says_what_was_meant():
    with pytest.raises(ImportError, match="did you mean 'deployment'"):
        from helve.serve import deploymnt  # noqa: F401
    with pytest.raises(AttributeError, match="did you mean 'shutdown'"):
        serve.shutdwn
    with pytest.raises(ImportError, match="did you mean 'AutoscalingConfig'"):
        from helve.serve.config import AutoscalingConfg  # noqa: F401


RARE = ("batching", "broadcast", "choose", "config", "metrics", "multiplex", "schema", "_autoscaling", "_http_options", "_models", "_targets")


def test_the_import_is_cheap():
    """No module that is slow to import comes with helve.serve, no other package, and no module of its own that few programs need."""
    slow = ("pydantic", "starlette", "cloudpickle", "fastapi", "uvloop", "typing_extensions", *(f"helve.serve.{name}" for name in RARE))
    code = f"import sys; sys.path[:0] = {sys.path!r}; import helve.serve; print([m for m in {slow!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


RAY = """
import importlib, json, sys
from helve import _refused, raycompat

raycompat.install()
wrong = []
modules = _refused.table()["modules"]
for module, rows in modules.items():
    if module.startswith("serve"):
        module = "ray." + module
    if "instead" in rows:
        try:
            importlib.import_module(module)
            wrong.append(module)
        except ImportError as e:
            if rows["instead"] not in str(e):
                wrong.append(f"{module}: {e}")
        continue
    found = importlib.import_module(module)
    for name, row in rows["names"].items():
        try:
            exec(f"from {module} import {name}", {})
            if row["is"] != "yes" and row.get("when") != "used":
                wrong.append(f"{module}.{name} is there")
        except ImportError as e:
            if row["is"] == "yes" or row["instead"] not in str(e):
                wrong.append(f"{module}.{name}: {e}")
print(json.dumps(wrong))
"""


def test_the_names_of_ray_under_ray_compat():
    done = subprocess.run([sys.executable, "-c", RAY], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_a_chosen_replica_is_told_as_plain_values():
    selection = object.__new__(serve.handle.ReplicaSelection)
    for name, value in dict(replica_id="r", node_id="n", node_ip="1.2.3.4", port=None, availability_zone=None, replica_metadata={}).items():
        setattr(selection, name, value)
    selection._used = True
    assert selection.address == "1.2.3.4" and selection.to_dict()["replica_id"] == "r"
    selection.port = 80
    assert selection.address == "1.2.3.4:80"
