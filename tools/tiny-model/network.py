"""Inference in numpy with a key/value cache, so that evaluation is quick and checks `model.py`.

Knows the weights under the names of `model.py`; must not know text.
"""

import numpy as np


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * weight


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


class Network:
    def __init__(self, config, weights):
        self.config, self.weights = config, weights

    def cache(self):
        """Keys and values seen so far, one pair a layer; `step` appends to it."""
        return [None] * self.config["num_hidden_layers"]

    def step(self, ids, cache):
        """Scores after the last of `ids` ([batch, new]), which follow what is in the cache."""
        w, eps = self.weights, self.config["rms_norm_eps"]
        x = w["embed_tokens"][ids]
        for layer in range(len(cache)):
            p = f"layers.{layer}."
            x = x + self.attention(p, layer, rms_norm(x, w[p + "input_layernorm"], eps), cache)
            y = rms_norm(x, w[p + "post_attention_layernorm"], eps)
            gate, up = y @ w[p + "mlp.gate_proj"].T, y @ w[p + "mlp.up_proj"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ w[p + "mlp.down_proj"].T
        return rms_norm(x[:, -1], w["norm"], eps) @ w["embed_tokens"].T

    def attention(self, p, layer, x, cache):
        w, eps, head = self.weights, self.config["rms_norm_eps"], self.config["head_dim"]
        heads, groups = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        batch, new, _ = x.shape
        seen = 0 if cache[layer] is None else cache[layer][0].shape[1]

        def split(name):
            return (x @ w[f"{p}self_attn.{name}_proj"].T).reshape(batch, new, -1, head)

        q = self.rope(rms_norm(split("q"), w[p + "self_attn.q_norm"], eps), seen)
        k = self.rope(rms_norm(split("k"), w[p + "self_attn.k_norm"], eps), seen)
        v = split("v")
        if seen:
            k = np.concatenate([cache[layer][0], k], 1)
            v = np.concatenate([cache[layer][1], v], 1)
        cache[layer] = (k, v)
        q = q.reshape(batch, new, groups, heads // groups, head)
        scores = np.einsum("blgrd,bmgd->bgrlm", q, k, optimize=True) * head**-0.5
        scores = np.where(np.tril(np.ones((new, seen + new), bool), seen), scores, -1e9)
        mixed = np.einsum("bgrlm,bmgd->blgrd", softmax(scores), v, optimize=True)
        return mixed.reshape(batch, new, -1) @ w[f"{p}self_attn.o_proj"].T

    def rope(self, x, seen):
        half = x.shape[-1] // 2
        speed = self.config["rope_theta"] ** (-np.arange(half, dtype=np.float32) / half)
        angle = np.arange(seen, seen + x.shape[1], dtype=np.float32)[:, None] * speed
        cos, sin = np.cos(angle)[None, :, None], np.sin(angle)[None, :, None]
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)
