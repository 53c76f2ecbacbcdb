"""Search by meaning: sentence embeddings in Python, batched, behind an ingress in Go that ranks documents."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from minilm import MiniLM

from helve import serve

DOCUMENTS = (Path(__file__).parent / "documents.txt").read_text().splitlines()


ONE_THREAD = {"env_vars": {"OPENBLAS_NUM_THREADS": "1"}}  # numpy's threads would be in each other's way; more replicas use more cores


@serve.deployment(max_ongoing_requests=64, runtime_env=ONE_THREAD)
class Embedder:
    """The embeddings of texts. Each call has one text, and calls that come at the same time go through the model together."""

    def __init__(self) -> None:
        self.model = MiniLM()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
    async def embed(self, texts: list[str]) -> list[Any]:
        return list(await asyncio.to_thread(self.model.embed, texts))  # the event loop takes the calls of the next batch meanwhile


ranker = serve.go_deployment("Ranker", build="./ranker")
app = ranker.bind(embedder=Embedder.bind(), documents=DOCUMENTS)

if __name__ == "__main__":
    serve.run(app, blocking=True)
