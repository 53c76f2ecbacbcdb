"""The version of a deployment's code, which a driver sends with the deployment. Replicas go on over a second serve.run of their
application if the versions are equal.

A class has a version if its module is one of the program's own files: not __main__ and not a notebook, whose code is nowhere but in the
program. The version is made of the files, of the arguments of bind(), and of the plain values that the code refers to. An object that a decorator keeps for a method counts
by what a pickle of it would hold, and by its class alone if no pickle can hold it. For example, the options of serve.batch count, and a lock counts as a lock. Pickles are not
compared, because they differ from run to run. Nor are directories: the same files in another place have the same version. For example, a class of models.py that is bound to a path and a number has a version;
bound to an open file, it has none, and each serve.run starts new replicas.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from importlib.machinery import PathFinder
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Callable, Iterator, Optional

MOST_FILES = 5000  # a module with more has no version
DEEPEST = 50  # levels of lists and dicts in arguments
MOST_PARTS = 10_000  # an object of a closure with more parts counts by its class


class _NoVersion(Exception):
    """The code of a deployment has no version."""


def source(target: Any) -> Optional[tuple]:
    """The state of the file of a class or function. Taken when the class is made, it tells later whether the file is still its code."""
    file = getattr(sys.modules.get(getattr(target, "__module__", None) or ""), "__file__", None)
    try:
        stat = os.stat(file) if file else None
    except OSError:
        stat = None
    return stat and (file, stat.st_mtime_ns, stat.st_size)


def version(target: Any, made: Optional[tuple], args: tuple, kwargs: dict, bound: Callable[[Any], Optional[str]]) -> str:
    """The version of a class or function with its arguments; "" for code that counts as new each time. made is its source() at the
    time when it was made. bound gives the name of a bound application, and None for other values.
    """
    try:
        module = _module(target)
        if made is None or source(target) != made:
            return ""
        parts = [target.__qualname__, _files(module), _plain([args, kwargs], bound), _placeless(list(_state(target, bound)), module)]
    except _NoVersion:
        return ""
    import hashlib

    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _module(target: Any) -> str:
    """The name of a module in which the target is found by its name: bare, as a deployment or as a bound one."""
    name, path = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if not isinstance(name, str) or not isinstance(path, str) or name == "__main__" or name not in sys.modules:
        raise _NoVersion
    found: Any = sys.modules[name]
    for part in path.split("."):
        found = getattr(found, part, None)
    found = getattr(found, "_bound", found)  # of app = app.bind(), which takes the place of the deployment
    if found is not target and getattr(found, "func_or_class", None) is not target:
        raise _NoVersion
    return name


def _placeless(state: list, module: str) -> str:
    """The text of values without the directory from which the module was imported. For example, models.py in /srv/a has the constant HERE =
    os.path.dirname(__file__): the same file in /srv/b is the same code.
    """
    root = _root(module)
    return repr(state) if not root else re.sub(re.escape(repr(root)[1:-1]) + r"(?=[/'\"]|$)", "{directory}", repr(state))


def _root(name: str) -> str:
    """The entry of sys.path from which a module was imported; "" for others."""
    root = getattr(sys.modules.get(name), "__file__", None)
    if not isinstance(root, str):
        return ""
    for _ in range(name.count(".") + 1 + os.path.basename(root).startswith("__init__.")):
        root = os.path.dirname(root)
    return root


# ---- values


def _plain(value: Any, bound: Callable[[Any], Optional[str]], depth: int = 0) -> Any:
    """A value whose repr() is equal for equal values, and differs for others."""
    t = type(value)
    if t in (type(None), bool, int, float, str):
        return value
    if t is bytes:
        import hashlib

        return (b"", hashlib.sha256(value).digest())
    if depth >= DEEPEST:
        raise _NoVersion
    if t in (list, tuple):
        return t(_plain(v, bound, depth + 1) for v in value)
    if t is dict:
        return {"items": [(_plain(k, bound, depth + 1), _plain(v, bound, depth + 1)) for k, v in value.items()]}
    name = bound(value)
    if name is None:
        raise _NoVersion
    return {"bound": name}


def _state(target: Any, bound: Callable[[Any], Optional[str]]) -> Iterator[tuple]:
    """The plain values that the code of a class or function refers to, with their names. They travel with a class that is pickled by
    value, and the program may have changed them. For example, a script sets models.THRESHOLD and runs the application again.
    """
    seen: dict = {}
    if not isinstance(target, type):
        yield from _function_state(target, bound, seen)
        return
    for cls in target.__mro__:
        if cls.__module__ != target.__module__:
            continue
        for name, value in sorted(vars(cls).items()):
            yield from _function_state(value, bound, seen)
            if not (name.startswith("__") and name.endswith("__")):
                yield from _named(f"{cls.__qualname__}.{name}", value, bound)


def _function_state(function: Any, bound: Callable[[Any], Optional[str]], seen: dict) -> Iterator[tuple]:
    """The plain values and the parts of objects that a function refers to, and the functions that it wraps. Of other values, those of the functions behind them, such as the getter of a
    property. seen has the values that were looked at by their ids.
    """
    if id(function) in seen:
        return
    seen[id(function)] = function
    if not isinstance(function, FunctionType):
        for inner in _behind(function):
            yield from _function_state(inner, bound, seen)
        return
    if function.__globals__.get("__name__") == "__main__":  # put into the class by a script, whose text is not compared
        raise _NoVersion
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            yield from _named(f"{function.__module__}:{name}", function.__globals__[name], bound)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            value = cell.cell_contents
        except ValueError:  # empty
            continue
        if isinstance(value, FunctionType):  # of a decorator
            yield from _function_state(value, bound, seen)
        elif name != "__class__":
            held = _Held(bound)
            yield function.__qualname__, name, held.all_of(value)
            for inner in sorted(held.functions, key=lambda f: _named_by(f if isinstance(f, FunctionType) else type(f))):  # they may be of a set
                yield from _function_state(inner, bound, seen)


def _behind(value: Any) -> list:
    """The functions, or wrappers of functions, that a descriptor or a wrapper calls: [] for other values."""
    if isinstance(value, property):
        return [value.fget, value.fset, value.fdel]
    if isinstance(value, (staticmethod, classmethod, MethodType)):
        return [value.__func__]
    if isinstance(value, (functools.partial, functools.partialmethod, functools.cached_property, functools.singledispatchmethod)):
        return [value.func]
    try:
        return [vars(value)["__wrapped__"]]  # of functools.wraps, lru_cache, update_wrapper: read without __getattr__, which may answer to each name
    except Exception:
        return []


class _Held:
    """The parts of a value that a closure holds, such as the options and the cache of a decorator.

    Such a value was made when the module was imported, by the files that are compared. Its parts count too, because it may be made of
    more than the files: @serve.batch(max_batch_size=int(os.environ["SIZE"])) is other code with another SIZE. An object that cannot be
    pickled counts by its class: it is a lock or a connection, or a counter that has a lock, and its numbers differ from run to run.
    """

    def __init__(self, bound: Callable[[Any], Optional[str]]):
        self.bound = bound
        self.functions: list = []  # functions, and objects that may wrap some, that were found among the parts
        self.within: list = []  # the ids of the values whose parts are looked at now, outermost first
        self.parts = 0
        self.missing = 0  # parts that cannot be pickled, of the object that is looked at now
        self.objects = 0  # objects, and no plain lists or dictionaries, whose parts are looked at now

    def all_of(self, value: Any) -> Any:
        """A value whose repr() is equal for equal values, in each process."""
        before = self.missing
        described = self.of(value)
        if self.missing == before:
            return described
        self.missing = before
        return {"class": _named_by(type(value))}

    def of(self, value: Any) -> Any:
        if type(value) in (type(None), bool, int, float, str, bytes):
            return _plain(value, self.bound)
        name = self.bound(value)
        if name is not None:
            return {"bound": name}
        if isinstance(value, (type, ModuleType, BuiltinFunctionType)):
            return {"name": _named_by(value)}
        if isinstance(value, FunctionType):
            self.functions.append(value)
            return {"name": _named_by(value)}
        paths = sys.modules.get("pathlib")  # not imported here: each start of a process would take longer
        if paths is not None and isinstance(value, paths.PurePath):
            return {"path": _placed(str(value))}
        if id(value) in self.within:  # an object that refers to itself: by the number of levels between
            return {"above": len(self.within) - self.within.index(id(value))}
        self.parts += 1
        if self.parts > MOST_PARTS or len(self.within) >= DEEPEST:
            self.missing += 1
            return None
        self.within.append(id(value))
        try:
            return self.composed(value)
        finally:
            self.within.pop()

    def part(self, value: Any) -> Any:
        """A part of a list, a dictionary or a set. In {"lock": Lock(), "size": 8} the lock counts by its class, and the size by its value. The parts of an object
        are in a dictionary too: there a lock makes the whole object count by its class.
        """
        return self.of(value) if self.objects else self.all_of(value)

    def composed(self, value: Any) -> Any:
        t = type(value)
        if t in (list, tuple):
            return t([self.part(v) for v in value])
        if t is dict:
            return {"items": [(self.part(k), self.part(v)) for k, v in value.items()]}
        if t in (set, frozenset):  # whose order differs from process to process
            return {t.__name__: sorted(repr(self.part(v)) for v in value)}
        self.functions.append(value)
        if t is MethodType:
            return {"method": [self.of(value.__func__), self.of(value.__self__)]}
        try:
            parts = _reduced(value)
        except Exception:  # of any class of the program
            self.missing += 1
            return None
        self.objects += 1
        before, described = self.missing, [self.of(part) for part in parts]
        self.objects -= 1
        if self.missing == before:
            return {"class": _named_by(t), "parts": described}
        self.missing = before
        return {"class": _named_by(t)}


def _placed(path: str) -> str:
    """A path without the directory of the program that it is in. For example, Path(__file__) of a program that was copied to another place is the same."""
    for own in sorted(_own_path(), key=len, reverse=True):
        if path.startswith(own + os.sep):
            return path[len(own):]
    return path


def _reduced(value: Any) -> list:
    """What a pickle of an object holds, as a list of values. It raises any exception for an object that cannot be pickled."""
    import copyreg

    reduce = copyreg.dispatch_table.get(type(value))
    made = reduce(value) if reduce else value.__reduce_ex__(4)
    if isinstance(made, str):
        return [made]
    return [*made[:3], *(None if part is None else list(part) for part in made[3:5])]  # the last two of subclasses of list and dict


def _named_by(value: Any) -> str:
    """The name of a class, a function or a module."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or type(value).__qualname__
    return f"{getattr(value, '__module__', '')}:{name}"


def _named(name: str, value: Any, bound: Callable[[Any], Optional[str]]) -> Iterator[tuple]:
    try:
        yield name, _plain(value, bound)
    except _NoVersion:  # made by the module, whose files are compared
        pass


def _names(code: CodeType) -> set:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


# ---- files


def _own_path() -> list:
    """The directories of sys.path with the program's own modules: without those of the interpreter and of installed packages."""
    import sysconfig

    theirs = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    own = []
    for entry in sys.path:
        path = os.path.abspath(entry or os.getcwd())
        if path not in theirs and not {"site-packages", "dist-packages", "lib-dynload"} & set(path.split(os.sep)):
            own.append(path)
    return own


def own_entries() -> list:
    """The entries of sys.path with the program's own modules, as a durable node keeps them: without Helve's own, which is that of the node's workers."""
    helve = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return [p for p in dict.fromkeys(_own_path()) if p != helve and os.path.exists(p)]


def imported_from(path: str) -> bool:
    """Whether the program has imported a module from an entry of sys.path, beside its main program, which travels with its classes. For example,
    the modules of an interpreter below /srv/python are not imported from the entry /srv.
    """
    return any(_root(name) == path for name in list(sys.modules) if name not in ("__main__", "__mp_main__"))


def _files(module: str) -> list:
    """The digests of a module's files: its own or all of its package, and the files of the program's modules that they import. A file has the name of its package in
    front, and not its directory: a program that was copied to another place is the same code.
    """
    import hashlib

    files: dict = {}
    read: set = set()
    seen: set = set()
    todo, path = [module], _own_path()
    while todo:
        name = todo.pop()
        if name in seen or name.partition(".")[0] == "helve":  # which is not the program's, wherever it lies
            continue
        seen.add(name)
        for file, package in _found(name, path):
            if str(file) in read:
                continue
            read.add(str(file))
            if len(files) >= MOST_FILES:
                raise _NoVersion
            try:
                text = file.read_bytes()
            except OSError:
                raise _NoVersion from None
            files[f"{package}/{file.name}"] = hashlib.sha256(text).hexdigest()
            todo += _imports(text.decode("utf-8", "replace"), package)
    if not files:
        raise _NoVersion
    return sorted(files.items())


def _found(name: str, path: list) -> Iterator[tuple]:
    """The files of a module, each with the name of its package. Nothing is imported for it."""
    from pathlib import Path

    at = ""
    for part in name.split("."):
        at = f"{at}.{part}" if at else part
        try:
            spec = PathFinder.find_spec(at, path)
        except (ImportError, ValueError):
            spec = None
        if spec is None:
            return
        if spec.origin is not None and spec.submodule_search_locations:  # a package: what is not imported now may be imported later
            root = Path(spec.origin).parent
            for file in sorted(root.rglob("*.py")):
                inside = file.relative_to(root).parts
                if not any(p == "__pycache__" or p.startswith(".") for p in inside):
                    yield file, ".".join([at, *inside[:-1]])
            return
        if spec.origin is not None:
            if spec.origin.endswith(".py"):
                yield Path(spec.origin), at.rpartition(".")[0]
            return
        path = list(spec.submodule_search_locations or ())  # a folder without __init__.py: the rest of the name says what of it


_IMPORT = re.compile(r"^[ \t]*import[ \t]+([^\r\n#;]+)", re.M)
_FROM = re.compile(r"^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\r\n#;]+)", re.M)


def _imports(text: str, package: str) -> Iterator[str]:
    """The full names of the modules that a source may import, by its lines: to parse all files of a program takes seconds. A line in a
    string that looks like an import counts as one: a file too many has an effect only when it changes.
    """
    for names in _IMPORT.findall(text):
        yield from (name.split()[0] for name in names.split(",") if name.strip())  # import a.b as c, d
    for dots, base, names in _FROM.findall(text):
        if dots:
            above = package.split(".")
            base = ".".join([*above[:len(above) - len(dots) + 1], *([base] if base else [])])
        yield base
        for name in re.sub(r"#[^\n]*", "", names).strip("()").split(","):  # each may be a module
            if base and name.strip():
                yield f"{base}.{name.split()[0]}"
