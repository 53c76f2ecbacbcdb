"""The first program: one deployment calls another through a handle.

    python examples/python/hello.py
"""

from helve import serve
from helve.serve.handle import DeploymentHandle, DeploymentResponse


@serve.deployment
class Downstream:
    def say_hi(self, message: str):
        return f"Hello {message}!"


@serve.deployment
class Ingress:
    def __init__(self, handle: DeploymentHandle):
        self._downstream_handle = handle

    async def __call__(self, name: str) -> str:
        response: DeploymentResponse = self._downstream_handle.say_hi.remote(name)
        return await response


app = Ingress.bind(Downstream.bind())

if __name__ == "__main__":
    handle: DeploymentHandle = serve.run(app)
    response = handle.remote("world")
    assert response.result() == "Hello world!"
    print(response.result())
