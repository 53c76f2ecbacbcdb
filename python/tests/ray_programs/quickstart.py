"""A deployment over HTTP, with a query parameter."""

import requests
from starlette.requests import Request
from typing import Dict

from ray import serve


@serve.deployment
class MyModelDeployment:
    def __init__(self, msg: str):
        self._msg = msg

    def __call__(self, request: Request) -> Dict:
        return {"result": self._msg, "who": request.query_params.get("who")}


app = MyModelDeployment.bind(msg="Hello world!")

handle = serve.run(app, route_prefix="/")

print(requests.get("http://localhost:8000/", params={"who": "me"}).json())
print(requests.post("http://localhost:8000/", json=1).status_code)
serve.shutdown()
