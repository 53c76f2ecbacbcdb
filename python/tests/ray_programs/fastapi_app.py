"""A FastAPI application that calls another deployment, with its errors and its OpenAPI."""

import requests
from fastapi import FastAPI, HTTPException, Depends
from pydantic import BaseModel
import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

app = FastAPI()


class Item(BaseModel):
    name: str
    price: float = 1.5


@serve.deployment
class Pricer:
    def price(self, item: Item) -> float:
        return item.price * 2


@serve.deployment
@serve.ingress(app)
class FastAPIDeployment:
    def __init__(self, pricer: DeploymentHandle):
        self.pricer = pricer
        self.n = 0

    @app.get("/")
    def root(self):
        return "Hello, world!"

    @app.post("/items/{item_id}")
    async def create(self, item_id: int, item: Item):
        return {"id": item_id, "price": await self.pricer.price.remote(item)}

    @app.get("/fail")
    def fail(self):
        raise HTTPException(status_code=418, detail="teapot")

    @app.get("/boom")
    def boom(self):
        raise RuntimeError("boom")


serve.run(FastAPIDeployment.bind(Pricer.bind()), route_prefix="/hello", name="fast")
base = "http://localhost:8000/hello"
print(requests.get(base + "/").json(), requests.get(base).status_code)
print(requests.post(base + "/items/3", json={"name": "x"}).json())
print(requests.post(base + "/items/x", json={"name": "x"}).status_code)
print(requests.get(base + "/fail").json(), requests.get(base + "/boom").status_code, requests.get(base + "/boom").text)
print(requests.get(base + "/openapi.json").json()["info"]["title"])
print(requests.get("http://localhost:8000/nothing").status_code, requests.get("http://localhost:8000/-/routes").json(), requests.get("http://localhost:8000/-/healthz").text)
serve.shutdown()
