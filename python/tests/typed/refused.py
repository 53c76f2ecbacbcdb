"""The lines that both checkers refuse. The mark at the end of each is the rule of pyright and the rule of mypy."""

from __future__ import annotations

from typing import Any, Iterator, List

from helve import serve
from helve.serve.config import HTTPOptions
from helve.serve.handle import DeploymentHandle, DeploymentResponse


@serve.deployment
class Model:
    def __init__(self, path: str, scale: float = 1.0) -> None: ...

    def __call__(self, text: str) -> int:
        return len(text)


@serve.deployment
class Front:
    def __init__(self, model: DeploymentHandle) -> None: ...


@serve.deployment
def double(n: int) -> int:
    return 2 * n


class Batches:
    @serve.batch
    async def lengths(self, texts: List[str]) -> List[int]:
        return [len(text) for text in texts]

    async def call(self) -> None:
        await self.lengths(3)  # error: reportArgumentType, call-overload
        self.lengths.set_max_batch_size("3")  # error: reportArgumentType, arg-type


serve.deployment(num_replica=2)  # error: reportCallIssue, call-overload
serve.deployment(num_replicas="two")  # error: reportArgumentType, call-overload
serve.deployment(max_ongoing_requests="5")  # error: reportArgumentType, call-overload
serve.deployment("name")  # error: reportArgumentType, call-overload
serve.deployment(health_check_period_s=None)  # error: reportArgumentType, call-overload
Model.options(num_replica=2)  # error: reportCallIssue, call-overload
Model.options(num_replicas=2.5)  # error: reportArgumentType, call-overload
Model.bind()  # error: reportCallIssue, call-arg
Model.bind(3)  # error: reportArgumentType, arg-type
Model.bind("weights", sclae=2)  # error: reportCallIssue, call-arg
Model.options(num_replicas=2).bind(3)  # error: reportArgumentType, arg-type
Front.bind("model")  # error: reportArgumentType, arg-type
Front.bind(Model)  # error: reportArgumentType, arg-type
double.bind(3)  # error: reportCallIssue, call-arg
double(3)  # error: reportCallIssue, operator
serve.run(Model)  # error: reportArgumentType, arg-type
serve.run(Model.bind("w"), route=None)  # error: reportCallIssue, call-arg
serve.run(Model.bind("w")).remote("text").result(timeout=3)  # error: reportCallIssue, call-arg
Model.bind("w").remote("text")  # error: reportOptionalCall, misc
Model.bind("w").upper.remote("text")  # error: reportAttributeAccessIssue, attr-defined
n: str = serve.run(Model.bind("w")).remote("text").result()  # error: reportAssignmentType, assignment
serve.ingres  # error: reportAttributeAccessIssue, attr-defined
serve.status().application  # error: reportAttributeAccessIssue, attr-defined
serve.metrics.Counter("hits", tags=("a",))  # error: reportCallIssue, call-arg
HTTPOptions(ports=8000)  # error: reportCallIssue, call-arg
HTTPOptions(port="eight")  # error: reportArgumentType, arg-type


async def calls(handle: DeploymentHandle[Any], response: DeploymentResponse[int]) -> Iterator[int]:
    handle("text")  # error: reportCallIssue, operator
    await handle  # error: reportGeneralTypeIssues, misc
    await handle.options(stream=True).remote("text")  # error: reportGeneralTypeIssues, misc
    handle.options(stream=True).remote("text").result()  # error: reportAttributeAccessIssue, attr-defined
    handle.options(streem=True)  # error: reportCallIssue, call-overload
    handle.options(stream="yes")  # error: reportArgumentType, call-overload
    handle.deployment_name = "other"  # error: reportAttributeAccessIssue, misc
    text: str = await response  # error: reportAssignmentType, assignment
    for _ in response:  # error: reportGeneralTypeIssues, attr-defined
        pass
    handle.dispatch("replica")  # error: reportArgumentType, arg-type
    return response  # error: reportReturnType, return-value
