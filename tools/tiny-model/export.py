"""Writes the model folder of the package from a training run.

usage: export.py RUN_DIR MODEL_DIR
Reads weights.npz and tokenizer.json of the run. README.md of the model folder is kept.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from model import CONFIG
from quantize import BITS, GROUP, dequantize, quantize
from render import END

HERE = Path(__file__).parent


def mlx_name(name):
    return f"model.{name}"


def tensors(weights):
    """All arrays of model.safetensors: matrices quantized, norms in float32."""
    out = {}
    for name, w in sorted(weights.items()):
        if w.ndim == 1:
            out[f"{mlx_name(name)}.weight"] = w.astype(np.float32)
            continue
        parts = quantize(w)
        for part, array in zip(("weight", "scales", "biases"), parts):
            out[f"{mlx_name(name)}.{part}"] = np.ascontiguousarray(array)
    return out


def load(model_dir):
    """The weights as they are after quantization, under the names of `model.py`."""
    stored = load_file(str(Path(model_dir) / "model.safetensors"))
    weights = {}
    for name, array in stored.items():
        if not name.endswith(".weight"):
            continue
        stem = name.removesuffix(".weight")
        if f"{stem}.scales" in stored:
            array = dequantize(array, stored[f"{stem}.scales"], stored[f"{stem}.biases"])
        weights[stem.removeprefix("model.")] = array
    return weights


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def main(run_dir, model_dir):
    run, out = Path(run_dir), Path(model_dir)
    out.mkdir(parents=True, exist_ok=True)
    weights = dict(np.load(run / "weights.npz"))
    tokenizer = Tokenizer.from_file(str(run / "tokenizer.json"))
    end, pad = tokenizer.token_to_id(END), tokenizer.token_to_id("<|endoftext|>")
    save_file(tensors(weights), str(out / "model.safetensors"), metadata={"format": "mlx"})
    (out / "model.safetensors").chmod(0o644)  # safetensors writes private files
    write_json(
        out / "config.json",
        CONFIG
        | {
            "vocab_size": tokenizer.get_vocab_size(),
            "eos_token_id": end,
            "quantization": {"group_size": GROUP, "bits": BITS},
        },
    )
    write_json(out / "generation_config.json", {"eos_token_id": [end, pad], "pad_token_id": pad})
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END,
            "pad_token": "<|endoftext|>",
            "model_max_length": CONFIG["max_position_embeddings"],
            "clean_up_tokenization_spaces": False,
        },
    )
    shutil.copy(run / "tokenizer.json", out / "tokenizer.json")
    shutil.copy(HERE / "chat_template.jinja", out / "chat_template.jinja")
    total = sum(f.stat().st_size for f in out.iterdir())
    print(f"{out}: {total / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
