"""The digits example, asked over HTTP as a client does: make test-examples."""

import asyncio
import importlib
import sys
from pathlib import Path

import httpx
import pytest

from helve import serve

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / "python" / "tests"))

from ports import free_port  # noqa: E402


@pytest.fixture(scope="module")
def address():
    sys.path.insert(0, str(HERE))  # replicas import the modules by their names
    app = importlib.import_module("app")
    port = free_port()
    serve.start(http_options={"port": port})
    serve.run(app.digits)
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    sys.path.remove(str(HERE))
    del sys.modules["app"], sys.modules["models"]


def held_out():
    return importlib.import_module("models").held_out()


def right(address, model, images, digits):
    """The share of right answers, of 64 requests at a time."""

    async def all_of_them():
        places = asyncio.Semaphore(64)
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:

            async def one(image):
                async with places:
                    r = await client.post("/classify", params={"model": model}, json={"pixels": image.reshape(8, 8).tolist()})
                assert r.status_code == 200, r.text
                assert r.json()["model"] == model
                return r.json()["digit"]

            return await asyncio.gather(*map(one, images))

    answers = asyncio.run(all_of_them())
    return sum(a == d for a, d in zip(answers, digits)) / len(digits)


@pytest.mark.parametrize("model, share", [("logistic", 0.95), ("svm", 0.98)])
def test_accuracy_on_images_that_no_model_has_seen(address, model, share):
    images, digits = held_out()
    assert len(digits) == 540
    assert right(address, model, images, digits) >= share


def test_both_models_at_once(address):
    images, digits = held_out()

    async def both():
        return await asyncio.gather(*(asyncio.to_thread(right, address, m, images[:100], digits[:100]) for m in ("logistic", "svm")))

    assert min(asyncio.run(both())) >= 0.94


def test_an_image_can_be_sent_back(address):
    image = httpx.get(f"{address}/images/3", timeout=60).json()
    answer = httpx.post(f"{address}/classify", json=image, timeout=60)
    assert answer.json() == {"digit": image["digit"], "model": "logistic"}
    of_the_page = httpx.post(f"{address}/classify", params={"model": "svm"}, json=image, timeout=60).text
    assert f"It answers `{of_the_page}`." in (HERE / "README.md").read_text()
    missing = httpx.get(f"{address}/images/540", timeout=60)
    assert missing.status_code == 404 and missing.json() == {"detail": "there are images 0 to 539"}


GOOD = [[0.0] * 8] * 8


@pytest.mark.parametrize(
    "pixels, place, text",
    [
        (GOOD[:7], ["body", "pixels"], "at least 8 items"),
        (GOOD + GOOD[:1], ["body", "pixels"], "at most 8 items"),
        (GOOD[:7] + [[0.0] * 9], ["body", "pixels", 7], "at most 8 items"),
        (GOOD[:7] + [[0.0] * 7 + [17]], ["body", "pixels", 7, 7], "less than or equal to 16"),
        (GOOD[:7] + [[0.0] * 7 + ["ink"]], ["body", "pixels", 7, 7], "valid number"),
        ("an image", ["body", "pixels"], "valid list"),
    ],
)
def test_wrong_images_name_their_field(address, pixels, place, text):
    r = httpx.post(f"{address}/classify", json={"pixels": pixels}, timeout=60)
    [mistake] = r.json()["detail"]
    assert r.status_code == 422 and mistake["loc"] == place and text in mistake["msg"], r.text


def test_an_unknown_model_names_those_that_exist(address):
    r = httpx.post(f"{address}/classify", params={"model": "forest"}, json={"pixels": GOOD}, timeout=60)
    [mistake] = r.json()["detail"]
    assert r.status_code == 422 and mistake["loc"] == ["query", "model"] and "'logistic' or 'svm'" in mistake["msg"], r.text
