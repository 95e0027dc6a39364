"""Writes a model of Qwen3-0.6B's shape with random weights: an MLX folder, or the same shape as a GGUF file.

make_shape.py mlx FOLDER FORMAT     FORMAT: q4 (affine, groups of 64), q8, bf16
make_shape.py gguf FILE FORMAT      FORMAT: q4 (Q4_0), q8 (Q8_0), bf16

Only sizes and number formats matter to speed, so codes are random bits and scales keep activations ordinary.
"""

import json
import sys
from pathlib import Path

import gguf
import gguf_file
import mlx.core as mx
import numpy as np

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE, VOCAB = 1024, 28, 16, 8, 128, 3072, 151936
CONTEXT = 8192
CONFIG = {
    "model_type": "qwen3",
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "intermediate_size": INTERMEDIATE,
    "vocab_size": VOCAB,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": True,
}
# Module, its name in GGUF, rows, columns.
MATRICES = [
    ("self_attn.q_proj", "attn_q", HEADS * HEAD_DIM, HIDDEN),
    ("self_attn.k_proj", "attn_k", KV_HEADS * HEAD_DIM, HIDDEN),
    ("self_attn.v_proj", "attn_v", KV_HEADS * HEAD_DIM, HIDDEN),
    ("self_attn.o_proj", "attn_output", HIDDEN, HEADS * HEAD_DIM),
    ("mlp.gate_proj", "ffn_gate", INTERMEDIATE, HIDDEN),
    ("mlp.up_proj", "ffn_up", INTERMEDIATE, HIDDEN),
    ("mlp.down_proj", "ffn_down", HIDDEN, INTERMEDIATE),
]
NORMS = [
    ("input_layernorm", "attn_norm", HIDDEN),
    ("post_attention_layernorm", "ffn_norm", HIDDEN),
    ("self_attn.q_norm", "attn_q_norm", HEAD_DIM),
    ("self_attn.k_norm", "attn_k_norm", HEAD_DIM),
]
BITS = {"q4": 4, "q8": 8}
random = np.random.default_rng(1)


def spread(columns):
    return columns**-0.5


def write_mlx(folder, kind):
    folder.mkdir(parents=True, exist_ok=True)
    weights = {}

    def matrix(name, rows, columns):
        if kind == "bf16":
            values = random.standard_normal((rows, columns), dtype=np.float32) * spread(columns)
            weights[f"{name}.weight"] = mx.array(values).astype(mx.bfloat16)
            return
        bits = BITS[kind]
        words = random.integers(0, 2**32, (rows, columns * bits // 32), dtype=np.uint32)
        # Uniform codes around zero with the deviation that `spread` asks for.
        scale = spread(columns) * 12**0.5 / 2**bits
        scales = mx.array(
            random.uniform(0.8, 1.2, (rows, columns // 64)).astype(np.float32) * scale
        )
        weights[f"{name}.weight"] = mx.array(words)
        weights[f"{name}.scales"] = scales.astype(mx.bfloat16)
        weights[f"{name}.biases"] = (scales * -(2 ** (bits - 1))).astype(mx.bfloat16)

    matrix("model.embed_tokens", VOCAB, HIDDEN)
    weights["model.norm.weight"] = mx.ones(HIDDEN, dtype=mx.bfloat16)
    for layer in range(LAYERS):
        for name, _, rows, columns in MATRICES:
            matrix(f"model.layers.{layer}.{name}", rows, columns)
        for name, _, width in NORMS:
            weights[f"model.layers.{layer}.{name}.weight"] = mx.ones(width, dtype=mx.bfloat16)
    config = dict(CONFIG)
    if kind != "bf16":
        config["quantization"] = {"group_size": 64, "bits": BITS[kind], "mode": "affine"}
    (folder / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})


def write_gguf(file, kind):
    sizes = {
        "context_length": CONTEXT,
        "embedding_length": HIDDEN,
        "block_count": LAYERS,
        "feed_forward_length": INTERMEDIATE,
        "head_count": HEADS,
        "head_count_kv": KV_HEADS,
        "key_length": HEAD_DIM,
        "value_length": HEAD_DIM,
    }
    text = {"tokens": VOCAB, "pre": "qwen2"}
    writer = gguf_file.begin(file, "qwen3", sizes, **text, eps=1e-6, theta=1e6)
    types = {
        "q4": gguf.GGMLQuantizationType.Q4_0,
        "q8": gguf.GGMLQuantizationType.Q8_0,
        "bf16": gguf.GGMLQuantizationType.BF16,
    }

    def matrix(name, rows, columns):
        values = random.standard_normal((rows, columns), dtype=np.float32) * spread(columns)
        gguf_file.add_matrix(writer, name, values, types[kind])

    matrix("token_embd", VOCAB, HIDDEN)
    gguf_file.add_ones(writer, "output_norm", HIDDEN)
    for layer in range(LAYERS):
        for _, name, rows, columns in MATRICES:
            matrix(f"blk.{layer}.{name}", rows, columns)
        for _, name, width in NORMS:
            gguf_file.add_ones(writer, f"blk.{layer}.{name}", width)
    gguf_file.finish(writer)


if __name__ == "__main__":
    _, target, place, number_format = sys.argv
    {"mlx": write_mlx, "gguf": write_gguf}[target](Path(place), number_format)
