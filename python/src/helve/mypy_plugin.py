"""A plugin of mypy for `@serve.deployment` above a class. In pyproject.toml:

    [tool.mypy]
    plugins = ["helve.mypy_plugin"]

mypy takes a class below a decorator for the plain class, whatever the decorator returns, and would refuse `Model.bind(...)`. The plugin gives such
a class a metaclass with the members of `Deployment`. `bind` has the parameters of the constructor, and `options` keeps them. Functions need no
plugin, and neither does pyright.
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Type

from mypy.nodes import ArgKind, TypeInfo
from mypy.plugin import ClassDefContext, MethodSigContext, Plugin
from mypy.types import FunctionLike, Instance, Parameters, get_proper_type

DECORATOR = "helve.serve.deployment.deployment"
METACLASS = "helve.serve._types.Deployed"
APPLICATION = "helve.serve.deployment.Application"
METHODS = ("bind", "options")


class HelvePlugin(Plugin):
    def get_class_decorator_hook_2(self, fullname: str) -> Optional[Callable[[ClassDefContext], bool]]:
        return _deployed if fullname == DECORATOR else None

    def get_method_signature_hook(self, fullname: str) -> Optional[Callable[[MethodSigContext], FunctionLike]]:
        return _signature if fullname.rpartition(".")[2] in METHODS else None


def _deployed(ctx: ClassDefContext) -> bool:
    """Gives the class the metaclass, unless it has one of its own that is not ABCMeta. It returns False to be called again."""
    found = ctx.api.lookup_fully_qualified_or_none(METACLASS)
    if found is None or not isinstance(found.node, TypeInfo):
        return False
    info = ctx.cls.info
    if info.metaclass_type is None or info.metaclass_type.type.fullname in ("builtins.type", "abc.ABCMeta"):
        info.metaclass_type = info.declared_metaclass = Instance(found.node, [])
    return True


def _signature(ctx: MethodSigContext) -> FunctionLike:
    """The signature of bind or options for a class, with the parameters of the constructor and the class in place of those of any deployment."""
    made, default = get_proper_type(ctx.type), ctx.default_signature
    result = get_proper_type(default.ret_type)
    if not isinstance(made, FunctionLike) or made.fallback.type.fullname != METACLASS or not isinstance(result, Instance):
        return default
    first = made.items[0]
    arguments: dict[str, Any] = {}
    if len(made.items) == 1:  # else the constructor is overloaded, and bind takes any arguments
        arguments = {"arg_types": first.arg_types, "arg_kinds": first.arg_kinds, "arg_names": first.arg_names}
    if result.type.fullname == APPLICATION:
        return default.copy_modified(**arguments, ret_type=result.copy_modified(args=[first.ret_type]))
    if default.arg_kinds[0] is ArgKind.ARG_POS:  # options with another class
        return default
    parameters = Parameters(**arguments) if arguments else result.args[0]
    return default.copy_modified(ret_type=result.copy_modified(args=[parameters, first.ret_type]))


def plugin(version: str) -> Type[Plugin]:
    return HelvePlugin
