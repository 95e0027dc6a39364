"""Writes a small gpt-oss with random weights: an MLX folder, or the same shape as a GGUF file.

make_gpt_oss.py mlx FOLDER     experts in mxfp4, the rest affine of 8 bits by 64
make_gpt_oss.py gguf FILE      experts in MXFP4, the rest Q8_0

About 600 million numbers in experts, of which a token takes a quarter. Only sizes and number formats matter to speed, so
codes are random bits and scales keep activations ordinary.
"""

import json
import sys
from pathlib import Path

import gguf
import gguf_file
import mlx.core as mx
import numpy as np

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE, VOCAB = 1024, 12, 16, 4, 64, 1024, 151936
EXPERTS, PICKED, WINDOW, CONTEXT, THETA = 16, 4, 128, 8192, 150000.0
TYPES = ["sliding_attention" if i % 2 == 0 else "full_attention" for i in range(LAYERS)]
ATTENTION = [
    ("q_proj", "attn_q", HEADS * HEAD_DIM, HIDDEN),
    ("k_proj", "attn_k", KV_HEADS * HEAD_DIM, HIDDEN),
    ("v_proj", "attn_v", KV_HEADS * HEAD_DIM, HIDDEN),
    ("o_proj", "attn_output", HIDDEN, HEADS * HEAD_DIM),
]
MATRICES = [
    ("gate_proj", "ffn_gate_exps", INTERMEDIATE, HIDDEN),
    ("up_proj", "ffn_up_exps", INTERMEDIATE, HIDDEN),
    ("down_proj", "ffn_down_exps", HIDDEN, INTERMEDIATE),
]
NORMS = [("input_layernorm", "attn_norm"), ("post_attention_layernorm", "post_attention_norm")]
E8M0 = 120  # 2^-7: numbers of e2m1 times it deviate by about 1/32
random = np.random.default_rng(1)


def write_mlx(folder):
    folder.mkdir(parents=True, exist_ok=True)
    weights, eight_bits = {}, {}

    def matrix(name, rows, columns):
        words = random.integers(0, 2**32, (rows, columns // 4), dtype=np.uint32)
        scale = columns**-0.5 * 12**0.5 / 256
        scales = mx.array(
            random.uniform(0.8, 1.2, (rows, columns // 64)).astype(np.float32) * scale
        )
        weights[f"{name}.weight"] = mx.array(words)
        weights[f"{name}.scales"] = scales.astype(mx.bfloat16)
        weights[f"{name}.biases"] = (scales * -128).astype(mx.bfloat16)
        eight_bits[name] = {"group_size": 64, "bits": 8, "mode": "affine"}

    matrix("model.embed_tokens", VOCAB, HIDDEN)
    matrix("lm_head", VOCAB, HIDDEN)
    weights["model.norm.weight"] = mx.ones(HIDDEN, dtype=mx.bfloat16)
    for layer in range(LAYERS):
        base = f"model.layers.{layer}"
        for name, _, rows, columns in ATTENTION:
            matrix(f"{base}.self_attn.{name}", rows, columns)
            weights[f"{base}.self_attn.{name}.bias"] = mx.zeros(rows, dtype=mx.bfloat16)
        weights[f"{base}.self_attn.sinks"] = mx.zeros(HEADS, dtype=mx.bfloat16)
        matrix(f"{base}.mlp.router", EXPERTS, HIDDEN)
        weights[f"{base}.mlp.router.bias"] = mx.zeros(EXPERTS, dtype=mx.bfloat16)
        for name, _, rows, columns in MATRICES:
            expert = f"{base}.mlp.experts.{name}"
            words = random.integers(0, 2**32, (EXPERTS, rows, columns // 8), dtype=np.uint32)
            scales = np.full((EXPERTS, rows, columns // 32), E8M0, dtype=np.uint8)
            weights[f"{expert}.weight"] = mx.array(words)
            weights[f"{expert}.scales"] = mx.array(scales)
            weights[f"{expert}.bias"] = mx.zeros((EXPERTS, rows), dtype=mx.bfloat16)
        for name, _ in NORMS:
            weights[f"{base}.{name}.weight"] = mx.ones(HIDDEN, dtype=mx.bfloat16)
    config = {
        "model_type": "gpt_oss",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "intermediate_size": INTERMEDIATE,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "num_local_experts": EXPERTS,
        "num_experts_per_tok": PICKED,
        "rms_norm_eps": 1e-5,
        "vocab_size": VOCAB,
        "rope_theta": THETA,
        "max_position_embeddings": CONTEXT,
        "sliding_window": WINDOW,
        "layer_types": TYPES,
        "tie_word_embeddings": False,
        "quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4", **eight_bits},
    }
    (folder / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})


def write_gguf(file):
    sizes = {
        "context_length": CONTEXT,
        "embedding_length": HIDDEN,
        "block_count": LAYERS,
        "feed_forward_length": INTERMEDIATE,
        "expert_feed_forward_length": INTERMEDIATE,
        "expert_count": EXPERTS,
        "expert_used_count": PICKED,
        "head_count": HEADS,
        "head_count_kv": KV_HEADS,
        "key_length": HEAD_DIM,
        "value_length": HEAD_DIM,
        "sliding_window": WINDOW,
    }
    text = {"tokens": VOCAB, "pre": "gpt-4o"}
    writer = gguf_file.begin(file, "gpt-oss", sizes, **text, eps=1e-5, theta=THETA)

    def matrix(name, rows, columns):
        values = random.standard_normal((rows, columns), dtype=np.float32) * columns**-0.5
        gguf_file.add_matrix(writer, name, values, gguf.GGMLQuantizationType.Q8_0)

    def zeros(name, *shape):
        writer.add_tensor(name, np.zeros(shape, dtype=np.float32))

    matrix("token_embd", VOCAB, HIDDEN)
    matrix("output", VOCAB, HIDDEN)
    gguf_file.add_ones(writer, "output_norm", HIDDEN)
    for layer in range(LAYERS):
        base = f"blk.{layer}"
        for _, name, rows, columns in ATTENTION:
            matrix(f"{base}.{name}", rows, columns)
            zeros(f"{base}.{name}.bias", rows)
        zeros(f"{base}.attn_sinks.weight", HEADS)
        router = random.standard_normal((EXPERTS, HIDDEN), dtype=np.float32) * HIDDEN**-0.5
        writer.add_tensor(f"{base}.ffn_gate_inp.weight", router)
        zeros(f"{base}.ffn_gate_inp.bias", EXPERTS)
        for _, name, rows, columns in MATRICES:
            # A block is a byte of scale and 32 codes.
            blocks = random.integers(0, 256, (EXPERTS, rows, columns // 32, 17), dtype=np.uint8)
            blocks[..., 0] = E8M0
            packed = blocks.reshape(EXPERTS, rows, columns // 32 * 17)
            kind = gguf.GGMLQuantizationType.MXFP4
            writer.add_tensor(f"{base}.{name}.weight", packed, raw_dtype=kind)
            zeros(f"{base}.{name}.bias", EXPERTS, rows)
        for _, name in NORMS:
            gguf_file.add_ones(writer, f"{base}.{name}", HIDDEN)
    gguf_file.finish(writer)


if __name__ == "__main__":
    _, target, place = sys.argv[:3]
    {"mlx": write_mlx, "gguf": write_gguf}[target](Path(place))
