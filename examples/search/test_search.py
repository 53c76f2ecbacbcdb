"""The model against the values of its authors, and the whole example over HTTP. make test-search runs it: the weights are a download of 80 MB."""

import json
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from minilm import MiniLM, erf  # noqa: E402


@pytest.fixture(scope="module")
def model():
    return MiniLM()


def test_erf():
    import math

    x = numpy.linspace(-5, 5, 1001, dtype=numpy.float32)
    assert numpy.abs(erf(x) - [math.erf(v) for v in x]).max() < 1e-6


def test_known_similarities(model):
    """The example of the start page of Sentence Transformers (sbert.net), which prints the cosines of three sentences by this model."""
    v = model.embed(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    want = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]
    assert v.shape == (3, 384) and numpy.abs(v @ v.T - want).max() < 2e-4


@pytest.mark.parametrize("text, near, far", [
    ("A man is eating food.", "A man is eating a piece of bread.", "A man is riding a horse."),
    ("How do I reset my password?", "I forgot my login credentials.", "How do I bake a cake?"),
    ("The cat sits outside.", "A kitten is in the garden.", "The new film is great."),
    ("The stock market fell sharply.", "Share prices dropped a lot.", "The river rose after the rain."),
])
def test_similar_pairs_score_above_others(model, text, near, far):
    v = model.embed([text, near, far])
    assert v[0] @ v[1] > v[0] @ v[2] + 0.2


def test_batches_are_as_single_texts(model):
    """The padding of a short text beside a long one changes nothing."""
    texts = ["Hi.", "This text is a good deal longer than the other one, and so the other one is padded.", ""]
    assert numpy.allclose(model.embed(texts), numpy.concatenate([model.embed([t]) for t in texts]), atol=1e-5)


@pytest.fixture(scope="module")
def url():
    from helve import serve
    from search import app

    serve.start(http_options={"port": 0})
    handle = serve.run(app)
    from helve import _driver

    yield _driver.running().control("http", host="127.0.0.1", port=0)["url"], handle
    serve.shutdown()


def ask(url, query, **fields):
    request = urllib.request.Request(url, json.dumps({"query": query, **fields}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.parametrize("query, word", [
    ("my wifi does not work", "router"), ("sea mammals", "Whales"), ("why is dough getting bigger", "yeast"), ("running a long race", "marathon"),
    ("delayed planes", "Flights"), ("protect my data", "Back up"),
])
def test_search(url, query, word):
    hits = ask(url[0], query)
    assert len(hits) == 3 and any(word in hit["document"] for hit in hits[:2]), hits
    assert [h["score"] for h in hits] == sorted((h["score"] for h in hits), reverse=True)


def test_many_at_once(url):
    """Queries that come together share batches, and each has its own answer."""
    documents = [hit["document"] for hit in ask(url[0], "water", top=30)]
    assert len(documents) == 30
    with ThreadPoolExecutor(30) as pool:
        for document, hits in zip(documents, pool.map(lambda d: ask(url[0], d, top=1), documents)):
            assert hits[0]["document"] == document and hits[0]["score"] > 0.999


def test_from_python_and_mistakes(url):
    assert "router" in url[1].remote(query="the internet is gone", top=1).result()[0]["document"]
    with pytest.raises(urllib.error.HTTPError) as e:
        ask(url[0], "")
    assert e.value.code == 400 and "query is missing" in e.value.read().decode()
