"""A FastAPI application in front of a model: dependencies, a WebSocket, a stream, and calls of another deployment.

    python examples/fastapi/app.py
    curl -H 'X-Key: letmein' -d '{"text": "a fine day"}' -H 'Content-Type: application/json' http://127.0.0.1:8000/score
"""

import asyncio
import threading

from fastapi import Depends, FastAPI, Header, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from helve import serve
from helve.serve.handle import DeploymentHandle


@serve.deployment(num_replicas=2)
class Model:
    """Stands for a model: it scores a text, and continues it."""

    def score(self, text: str) -> float:
        return min(1.0, len(set(text.split())) / 10)

    async def tokens(self, text: str):
        for word in f"{text}, and so on, and so forth".split():
            await asyncio.sleep(0.02)
            yield word + " "


class Question(BaseModel):
    text: str


async def key(x_key: str = Header()) -> str:
    if x_key != "letmein":
        raise HTTPException(403, "wrong key")
    return x_key


app = FastAPI(title="Texts")


@serve.deployment(max_ongoing_requests=100)
@serve.ingress(app)
class Api:
    def __init__(self, model: DeploymentHandle):
        self.model = model
        self.stream = model.options(stream=True).tokens

    @app.post("/score", dependencies=[Depends(key)])
    async def score(self, question: Question) -> dict[str, float]:
        return {"score": await self.model.score.remote(question.text)}

    @app.get("/tokens")
    async def tokens(self, text: str) -> StreamingResponse:
        return StreamingResponse(self.stream.remote(text), media_type="text/plain")

    @app.websocket("/chat")
    async def chat(self, socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                async for token in self.stream.remote(await socket.receive_text()):
                    await socket.send_text(token)
                await socket.send_text("")
        except WebSocketDisconnect:
            pass  # the client has left, and the calls above end with this method


texts = Api.bind(Model.bind())

if __name__ == "__main__":
    serve.run(texts)
    print("http://127.0.0.1:8000/docs")
    threading.Event().wait()
