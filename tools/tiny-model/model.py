"""The network: a Qwen3-shaped decoder in plain JAX, with the parameter names mlx-lm uses.

Owns the maths of one forward pass and the initial weights. Must not know where text comes from
or how weights are stored. Rows are padded on the right, so the causal mask alone is enough.
"""

import jax
import jax.numpy as jnp
import numpy as np

CONFIG = {
    "model_type": "qwen3",
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "vocab_size": 2048,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}


def layer_shapes(config):
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = config["head_dim"]
    queries = config["num_attention_heads"] * head
    keys = config["num_key_value_heads"] * head
    return {
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "self_attn.q_norm": (head,),
        "self_attn.k_norm": (head,),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }


def init(config, seed):
    """Weights as a flat dict: norms 1, matrices normal with variance 1/inputs, outputs smaller."""
    random = np.random.default_rng(seed)
    depth = config["num_hidden_layers"]

    def fresh(name, shape):
        if len(shape) == 1:
            return jnp.ones(shape, jnp.float32)
        scale = shape[1] ** -0.5
        if name.endswith(("o_proj", "down_proj")):
            scale /= (2 * depth) ** 0.5
        return jnp.asarray(random.normal(0, scale, shape), jnp.float32)

    params = {
        "embed_tokens": jnp.asarray(
            random.normal(0, 0.02, (config["vocab_size"], config["hidden_size"])), jnp.float32
        ),
        "norm": jnp.ones(config["hidden_size"], jnp.float32),
    }
    for layer in range(depth):
        for name, shape in layer_shapes(config).items():
            params[f"layers.{layer}.{name}"] = fresh(name, shape)
    return params


def rms_norm(x, weight, eps):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + eps) * weight


def rope(x, theta):
    """Rotary positions; x is [batch, length, heads, head_dim], halves rotated together."""
    length, half = x.shape[1], x.shape[-1] // 2
    angle = jnp.arange(length)[:, None] * theta ** (-jnp.arange(half) / half)[None]
    cos, sin = jnp.cos(angle)[None, :, None], jnp.sin(angle)[None, :, None]
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def drop(x, rate, key):
    if key is None or rate == 0:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)


def attention(config, p, x):
    batch, length, _ = x.shape
    head, heads = config["head_dim"], config["num_attention_heads"]
    groups, eps = config["num_key_value_heads"], config["rms_norm_eps"]
    q = (x @ p["self_attn.q_proj"].T).reshape(batch, length, heads, head)
    k = (x @ p["self_attn.k_proj"].T).reshape(batch, length, groups, head)
    v = (x @ p["self_attn.v_proj"].T).reshape(batch, length, groups, head)
    q = rope(rms_norm(q, p["self_attn.q_norm"], eps), config["rope_theta"])
    k = rope(rms_norm(k, p["self_attn.k_norm"], eps), config["rope_theta"])
    q = q.reshape(batch, length, groups, heads // groups, head)
    scores = jnp.einsum("blgrd,bmgd->bgrlm", q, k) * head**-0.5
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e9)
    mixed = jnp.einsum("bgrlm,bmgd->blgrd", jax.nn.softmax(scores, -1), v)
    return mixed.reshape(batch, length, heads * head) @ p["self_attn.o_proj"].T


def forward(config, params, ids, dropout=0.0, key=None):
    """Hidden states after the last norm, [batch, length, hidden]; scores are these @ embed.T."""
    depth, eps = config["num_hidden_layers"], config["rms_norm_eps"]
    keys = [None] * (2 * depth + 1) if key is None else jax.random.split(key, 2 * depth + 1)
    x = drop(params["embed_tokens"][ids], dropout, keys[-1])
    for layer in range(depth):
        prefix = f"layers.{layer}."
        p = {n[len(prefix) :]: w for n, w in params.items() if n.startswith(prefix)}
        y = attention(config, p, rms_norm(x, p["input_layernorm"], eps))
        x = x + drop(y, dropout, keys[2 * layer])
        y = rms_norm(x, p["post_attention_layernorm"], eps)
        y = jax.nn.silu(y @ p["mlp.gate_proj"].T) * (y @ p["mlp.up_proj"].T)
        x = x + drop(y @ p["mlp.down_proj"].T, dropout, keys[2 * layer + 1])
    return rms_norm(x, params["norm"], eps)
