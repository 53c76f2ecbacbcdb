"""WebSockets of FastAPI."""

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from starlette.middleware.cors import CORSMiddleware
import requests
from ray import serve
from websockets.sync.client import connect

app = FastAPI()


@serve.deployment
@serve.ingress(app)
class EchoServer:
    @app.websocket("/")
    async def echo(self, ws: WebSocket):
        await ws.accept()
        try:
            while True:
                text = await ws.receive_text()
                await ws.send_text(text)
        except WebSocketDisconnect:
            print("Client disconnected.")

    @app.get("/n")
    def n(self):
        return serve.get_replica_context().deployment


serve.run(EchoServer.bind())
with connect("ws://localhost:8000") as websocket:
    websocket.send("Eureka!")
    print(websocket.recv())
    websocket.send("I've found it!")
    print(websocket.recv())
print(requests.get("http://localhost:8000/n").json())
serve.shutdown()
