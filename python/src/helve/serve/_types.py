"""Type variables and protocols of the public annotations. They are for type checkers, and cost a start nothing: no other module is imported.

A deployment has two type variables: P, the parameters of its constructor, and D, its instances, or the function itself. For example, of

    @serve.deployment
    class Model:
        def __init__(self, path: str): ...
        def __call__(self, text: str) -> int: ...

Model is a Deployment[(path: str), Model], Model.bind("weights") an Application[Model], serve.run of it gives a DeploymentHandle[Model], and
remote("text") of that a DeploymentResponse[int].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from abc import ABCMeta
    from typing import AsyncGenerator, AsyncIterator, Coroutine, Generic, List, NoReturn, Protocol, overload

    from typing_extensions import ParamSpec, TypeVar

    from helve.serve.deployment import Deployment

    P = ParamSpec("P", default=...)
    D = TypeVar("D", covariant=True, default=Any)
    T = TypeVar("T", covariant=True, default=Any)
    P2 = ParamSpec("P2")
    R = TypeVar("R")
    F = TypeVar("F", bound=Callable[..., Any])
    C = TypeVar("C", bound=type)
    Owner = TypeVar("Owner")
    One = TypeVar("One")
    Made = TypeVar("Made", covariant=True)
    Parameters = ParamSpec("Parameters")
    Taken = TypeVar("Taken", contravariant=True)

    class ClassOf(Protocol[Parameters, Made]):
        """A class, as mypy sees it: the parameters of its constructor and its instances."""

        @property
        def __mro__(self) -> tuple[type, ...]: ...
        def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Made: ...

    class InstanceOf(Protocol[Parameters, Made]):
        """The instances of a class, as pyright sees them: it finds the parameters of the constructor by __init__, and the instances by __new__."""

        def __new__(cls, *args: Any, **kwargs: Any) -> Made: ...  # type: ignore[misc]
        def __init__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> None: ...

    class Decorator(Protocol):
        """The result of @serve.deployment(...) with options."""

        @overload
        def __call__(self, func_or_class: ClassOf[P2, R], /) -> Deployment[P2, R]: ...  # type: ignore[overload-overlap]
        @overload
        def __call__(self, func_or_class: type[InstanceOf[P2, R]], /) -> Deployment[P2, R]: ...  # type: ignore[overload-overlap]
        @overload
        def __call__(self, func_or_class: type[R], /) -> Deployment[..., R]: ...  # type: ignore[overload-overlap,overload-cannot-match]
        @overload
        def __call__(self, func_or_class: Callable[P2, R], /) -> Deployment[[], Callable[P2, R]]: ...

    class Deployed(ABCMeta, Deployment[..., Any]):  # type: ignore[misc]
        """The metaclass that helve.mypy_plugin gives to a class below @serve.deployment, because mypy ignores what a decorator makes of a class."""

        def __call__(self, *args: Any, **kwargs: Any) -> NoReturn: ...

    class IngressDecorator(Protocol):
        """The result of serve.ingress(app)."""

        @overload
        def __call__(self, cls: C, /) -> C: ...
        @overload
        def __call__(self) -> type[Any]: ...

    class Batching(Protocol):
        """The attributes of a function with @serve.batch."""

        def set_max_batch_size(self, new_max_batch_size: int) -> None: ...
        def set_batch_wait_timeout_s(self, new_batch_wait_timeout_s: float) -> None: ...

    class Batched(Batching, Protocol[Taken, Made]):
        """A batch function of one list, as its callers see it: Made is a coroutine or a stream of one item's result."""

        @overload
        def __call__(self, item: Taken, /) -> Made: ...
        @overload
        def __call__(self, **item: Taken) -> Made: ...

    class BatchedFunction(Batching, Protocol[Made]):
        """A batch function whose parameters have no type for one item."""

        def __call__(self, *args: Any, **kwargs: Any) -> Made: ...

    class BatchedMethod(BatchedFunction[Made], Generic[Taken, Made]):
        """A batch method of one list. Access through an instance gives the function of one item."""

        @overload
        def __get__(self, instance: None, owner: type, /) -> BatchedFunction[Made]: ...
        @overload
        def __get__(self, instance: object, owner: type, /) -> Batched[Taken, Made]: ...
        def __get__(self, instance: Any, owner: type, /) -> Any: ...

    class Batcher(Protocol):
        """The result of @serve.batch(...) with options. A function of one list is told from a method by the number of its parameters."""

        @overload
        def __call__(self, fn: Callable[[List[One]], Coroutine[Any, Any, List[R]]], /) -> Batched[One, Coroutine[Any, Any, R]]: ...
        @overload
        def __call__(self, fn: Callable[[List[One]], AsyncIterator[List[R]]], /) -> Batched[One, AsyncGenerator[R, None]]: ...
        @overload
        def __call__(self, fn: Callable[[Any, List[One]], Coroutine[Any, Any, List[R]]], /) -> BatchedMethod[One, Coroutine[Any, Any, R]]: ...
        @overload
        def __call__(self, fn: Callable[[Any, List[One]], AsyncIterator[List[R]]], /) -> BatchedMethod[One, AsyncGenerator[R, None]]: ...
        @overload
        def __call__(self, fn: Callable[..., Coroutine[Any, Any, List[R]]], /) -> BatchedFunction[Coroutine[Any, Any, R]]: ...
        @overload
        def __call__(self, fn: Callable[..., AsyncIterator[List[R]]], /) -> BatchedFunction[AsyncGenerator[R, None]]: ...
        @overload
        def __call__(self, fn: Callable[..., Coroutine[Any, Any, Any]], /) -> BatchedFunction[Coroutine[Any, Any, Any]]: ...
else:
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    D, T = TypeVar("D"), TypeVar("T")

__all__ = ["D", "P", "T"]
