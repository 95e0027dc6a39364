#!/usr/bin/env python3
"""Records what mlx-lm makes of the models in test/goldens when it converts them: hashes of its files, and the greedy
answers of some. Writes test/goldens/conversions.json.

usage: make_conversions.py [--goldens DIR] [--out FILE]
"""

import argparse
import hashlib
import importlib
import json
import struct
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map_with_path
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import dequantize_model, load_model, quantize_model, save_config, save_model

lm = importlib.import_module("mlx_lm.convert")

HERE = Path(__file__).resolve().parent
FILES = ["model.safetensors", "model.safetensors.index.json", "config.json"]
ANSWER_TOKENS = 12

# Options as mlxk spells them; `quantize` is the number of bits.
EVERY_DENSE = [{"quantize": 4, "groupSize": 32}]
EVERY_QUANTIZED = [{"dequantize": True}, {"dtype": "float16"}]
SOME = {
    "llama": [
        *({"quantize": bits} for bits in (2, 3, 4, 6, 8)),
        {"quantize": 2, "groupSize": 32},
        {"quantize": 4, "mode": "mxfp4"},
        {"quantize": 8, "mode": "mxfp8"},
        {"quantize": 4, "mode": "nvfp4"},
        {"quantize": 4, "groupSize": 32, "dtype": "bfloat16"},
        {"quantize": 4, "groupSize": 32, "dtype": "float16"},
        {"dtype": "bfloat16"},
        *({"quantize": 4, "mixed": recipe, "groupSize": 32} for recipe in lm.QUANT_RECIPES),
    ],
    "qwen3-f16": [{"quantize": 6}, {"dtype": "float32"}],
    "llama-bf16": [{"quantize": 8}, {"quantize": 3, "groupSize": 32}],
}
# Multimodal models, which mlxk does not convert without their eyes and ears.
REFUSED = "llava pixtral qwen2_vl idefics2 idefics3 mllama mistral3 gemma3 mimo gemma4".split()
# What mlxk converts otherwise, or not at all.
DIFFERENT = {
    "baichuan_m1": "its output matrix is normalized when it is loaded; mlxk refuses a plain one",
    "bailing_moe_v3": "mlx-lm quantizes two projections in some layers and not in others; mlxk in none",
    "bitnet": "a quantization of its own, which mlxk does not unpack",
}
ANSWERED = [
    ("llama", 4),
    ("llama", 8),
    ("qwen2", 4),
    ("qwen3", 4),
    ("mistral", 4),
    ("gemma3_text", 4),
]


def quantized(config):
    return "quantization" in config


def convert(source, target, options):
    """mlx_lm.convert, without the tokenizer that the reference models do not have."""
    model, config = load_model(source, lazy=True)
    group_size, bits = options.get("groupSize"), options.get("quantize")
    mode = options.get("mode", "affine")
    if bits and mode == "affine":
        group_size = group_size or 64
    predicate = None
    if "mixed" in options:
        predicate = lm.mixed_quant_predicate_builder(options["mixed"], model, group_size)
    dtype = options.get("dtype") or config.get("torch_dtype")
    if dtype in lm.MODEL_CONVERSION_DTYPES:
        cast_predicate = getattr(model, "cast_predicate", lambda _: True)

        def cast(name, value):
            casts = cast_predicate(name) and mx.issubdtype(value.dtype, mx.floating)
            return value.astype(getattr(mx, dtype)) if casts else value

        model.update(tree_map_with_path(cast, model.parameters()))
    if bits:
        model, config = quantize_model(
            model, config, group_size, bits, mode=mode, quant_predicate=predicate
        )
    if options.get("dequantize"):
        config.pop("quantization", None)
        config.pop("quantization_config", None)
        model = dequantize_model(model)
    save_model(target, model)
    save_config(config, target / "config.json")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def tensors_hash(file):
    """Of names, types, shapes and bytes, wherever they lie in the file: MLX's order depends on its C++ library."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    digest = hashlib.sha256()
    for name, tensor in sorted(header.items()):
        begin, end = (8 + length + offset for offset in tensor["data_offsets"])
        shape = ",".join(map(str, tensor["shape"]))
        digest.update(f"{name} {tensor['dtype']} [{shape}] {sha256(data[begin:end])}\n".encode())
    return digest.hexdigest()


def greedy(folder, prompt):
    model, _ = load_model(folder, lazy=False)
    cache = make_prompt_cache(model)
    ids, margins = [], []
    latest = model(mx.array([prompt]), cache=cache)[0, -1]
    for _ in range(ANSWER_TOKENS):
        best = np.sort(np.array(latest))[::-1]
        margins.append(float(best[0] - best[1]))
        ids.append(mx.argmax(latest).item())
        latest = model(mx.array([ids[-1:]]), cache=cache)[0, -1]
    return ids, min(margins)


def cases(goldens):
    for folder in sorted(path.parent for path in goldens.glob("*/golden.json")):
        config = json.loads((folder / "config.json").read_text())
        seeing = isinstance(config.get("vision_config"), dict)
        if seeing or config["model_type"] in [*REFUSED, *DIFFERENT]:
            continue
        common = EVERY_QUANTIZED if quantized(config) else EVERY_DENSE
        for options in [*common, *SOME.get(folder.name, [])]:
            yield folder, options


def record(folder, options):
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "converted"
        try:
            convert(folder, target, options)
            load_model(target, lazy=True)
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            print(f"{folder.name} {options}: mlx-lm fails: {error}")
            return None
        case = {
            "source": folder.name,
            "options": options,
            "tensors": tensors_hash(target / "model.safetensors"),
            "files": {name: sha256((target / name).read_bytes()) for name in FILES},
        }
        plain = not {"mode", "dtype", "mixed"} & options.keys()
        if plain and (folder.name, options.get("quantize")) in ANSWERED:
            prompt = json.loads((folder / "golden.json").read_text())["runs"][1]["prompt"]
            ids, margin = greedy(target, prompt)
            print(f"{folder.name} {options}: least margin {margin:.4f}")
            if margin > 0.01:
                case |= {"prompt": prompt, "greedy": ids}
        return case


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tests = HERE.parents[1] / "test" / "goldens"
    parser.add_argument("--goldens", type=Path, default=tests)
    parser.add_argument("--out", type=Path, default=tests / "conversions.json")
    arguments = parser.parse_args()
    mx.set_default_device(mx.cpu)
    mx.disable_compile()
    recorded = [record(folder, options) for folder, options in cases(arguments.goldens)]
    oracle = f"mlx-lm {version('mlx-lm')}, MLX {version('mlx')} CPU"
    lines = ",\n".join(json.dumps(case) for case in recorded if case)
    arguments.out.write_text(f'{{"oracle": {json.dumps(oracle)}, "cases": [\n{lines}\n]}}\n')


main()
