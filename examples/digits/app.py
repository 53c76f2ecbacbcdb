"""Handwritten digits, told apart by two models of scikit-learn: FastAPI in front, multiplexed models, and batches of images.

    python examples/digits/app.py
    curl -s http://127.0.0.1:8000/images/3 | curl -s 'http://127.0.0.1:8000/classify?model=svm' -H 'Content-Type: application/json' -d @-
"""

import threading
from typing import Annotated, List, Literal

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from helve import serve
from helve.serve.handle import DeploymentHandle

Model = Literal["logistic", "svm"]
Row = Annotated[List[Annotated[float, Field(ge=0, le=16)]], Field(min_length=8, max_length=8)]


@serve.deployment(num_replicas=2, max_ongoing_requests=64)
class Classifier:
    """Keeps the models that its calls ask for. Helve sends the calls of a model to a replica that has it, and puts the calls that come together into one
    batch: scikit-learn takes hardly longer for 32 images than for one. All calls of a batch are of one model.
    """

    @serve.multiplexed(max_num_models_per_replica=2)
    async def model(self, name: str):
        import models

        return models.train(name)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
    async def classify(self, images: List[List[float]]) -> List[int]:
        model = await self.model(serve.get_multiplexed_model_id())
        return model.predict(images).tolist()


class Image(BaseModel):
    """Eight rows of eight pixels, from 0 (white) to 16 (black)."""

    pixels: Annotated[List[Row], Field(min_length=8, max_length=8)]


class Digit(BaseModel):
    digit: int
    model: Model


app = FastAPI(title="Digits")


@serve.deployment(max_ongoing_requests=200)
@serve.ingress(app)
class Api:
    def __init__(self, classifier: DeploymentHandle):
        self.classifier = classifier

    @app.post("/classify")
    async def classify(self, image: Image, model: Model = "logistic") -> Digit:
        flat = [pixel for row in image.pixels for pixel in row]
        classifier = self.classifier.options(multiplexed_model_id=model)
        return Digit(digit=await classifier.classify.remote(flat), model=model)

    @app.get("/images/{number}")
    async def image(self, number: int) -> dict:
        """An image that no model has seen, with its digit, in the form that /classify takes."""
        import models

        images, digits = models.held_out()
        if not 0 <= number < len(images):
            raise HTTPException(404, f"there are images 0 to {len(images) - 1}")
        return {"pixels": images[number].reshape(8, 8).tolist(), "digit": int(digits[number])}


digits = Api.bind(Classifier.bind())

if __name__ == "__main__":
    serve.run(digits)
    print("http://127.0.0.1:8000/docs")
    threading.Event().wait()
