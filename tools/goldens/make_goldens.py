#!/usr/bin/env python3
"""Makes the reference data in test/goldens: tiny models with random weights, and what mlx-lm says about them.

usage: make_goldens.py [--goldens DIR] [--missing] [--settle] [CASE ...]

A case is a folder DIR/CASE whose case.json says what the model is: `config`, and where they are wanted `weights` (a type),
`quantize`, `modules`, `shards`, `inv_freq`, `samples`, `adapter` (an adapter_config.json), `kv` (bits and group_size of
quantized keys and values), `draw`, `gains`. The script adds config.json, the safetensors and golden.json. Every parameter
is drawn from a generator seeded by the case's name and `draw`, so a case is the same wherever and in whatever company it
is made. `gains` scales the parameters whose names contain a text.

A random model can be a bad measure of 16-bit arithmetic: where two experts tie for the last place, or where scores of
attention are so large that it looks at one position alone, one rounding turns the answer over, whoever computes. golden.json
records as `own_error` how far mlx-lm itself goes in bfloat16; `draw`, and `gains` where no draw helps, are such that it
stays within MOST_OWN_ERROR. --settle finds the first such draw and writes it into case.json.
Reference numbers are float32 on MLX's CPU back end, through the key-value cache, from the files as written; for
16-bit weights they are the float32 answer of the rounded weights.
"""

import argparse
import json
import math
import shutil
import tempfile
import zlib
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from mlx_lm.generate import generate_step
from mlx_lm.models.bitlinear_layers import BitLinear, bitnet_quantize
from mlx_lm.models.cache import ChunkedKVCache, KVCache, make_prompt_cache
from mlx_lm.sample_utils import make_sampler
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import _get_classes, load_model

from storage import stored

HERE = Path(__file__).resolve().parent
PROMPT_LENGTHS = {1: 12, 6: 12, 41: 24}  # ids in the prompt: ids of the greedy answer
SAMPLE_TOKENS = 24
MAX_CASE_BYTES = 1_000_000
MOST_OWN_ERROR = 0.025
GAINS = (1, 0.8, 0.6, 0.45)  # of every parameter, where no draw at the one before helps
MOST_DRAWS = 60
LEAST_IDS = 3  # different ones in the longest answer
OFF = 2**-8  # bfloat16 has 8 bits


def draw(name, shape, rng):
    """Nothing keeps its initial 0 or 1: a norm or bias that is ignored has to show."""
    noise = rng.standard_normal(shape)
    if name.endswith("A_log"):
        return np.log(1 + 8 * rng.random(shape))
    if name.endswith("sinks"):
        return noise
    if any(part in name for part in ("embed_tokens", "wte", "embeddings", "tok_embeddings")):
        return noise / 4
    if len(shape) > 1:
        return noise * 1.25 / math.sqrt(shape[-1])
    return 1 + noise / 4 if "norm" in name else noise / 5


def drawn(name, value, rng, gains):
    if value.dtype == mx.uint8:  # ternary matrices: four values a byte
        values = rng.integers(0, 3, (*value.shape, 4)) << np.array([0, 2, 4, 6])
        return mx.array(values.sum(-1).astype(np.uint8))
    gain = math.prod(gain for text, gain in gains.items() if text in name)
    return mx.array((draw(name, value.shape, rng) * gain).astype(np.float32))


def ternary_matmul(layer, x, packed):
    """What BitLinear computes by a kernel that there is for Metal alone."""
    rows = mx.concatenate([(packed >> (2 * i)) & 3 for i in range(4)], axis=0)
    y = x @ (rows.astype(x.dtype) - 1).T
    return y / layer.weight_scale if layer.invert_weight_scales else y * layer.weight_scale


def gather_mm_in_float32(a, b, *arguments, multiply=mx.gather_mm, **named):
    """On the CPU MLX multiplies experts in float32 alone."""
    y = multiply(a.astype(mx.float32), b.astype(mx.float32), *arguments, **named)
    return y.astype(a.dtype)


def random_model(config, rng, gains):
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    stated = config.get("quantization_config", {})
    if stated.get("quant_method") == "bitnet" and config["model_type"] != "bitnet":
        model = bitnet_quantize(model, stated)
    parameters = [
        (name, drawn(name, value, rng, gains))
        for name, value in sorted(tree_flatten(model.parameters()))
    ]
    model.update(tree_unflatten(parameters))
    return model


def quantize(model, config, base, modules):
    """Quantizes in place and records it in the config, as mlx-lm's own converter does."""

    def parameters_of(path, module):
        if not hasattr(module, "to_quantized"):
            return False
        return modules.get(path, base)

    nn.quantize(model, **base, class_predicate=parameters_of)
    config["quantization"] = {**base, **modules}
    config["quantization_config"] = config["quantization"]


def cast(value, dtype):
    return value.astype(dtype) if mx.issubdtype(value.dtype, mx.floating) else value


def save(folder, tensors, shards):
    names = sorted(tensors)
    if shards == 1:
        mx.save_safetensors(str(folder / "model.safetensors"), tensors, metadata={"format": "mlx"})
        return
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        mx.save_safetensors(str(folder / file), part, metadata={"format": "mlx"})
        weight_map |= dict.fromkeys(part, file)
    total_size = sum(value.nbytes for value in tensors.values())
    index = {"metadata": {"total_size": total_size}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def declare_float8(file):
    """MLX writes codes of float8 as bytes; what makes them float8 is their type in the header."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    for name in header:
        if f"{name}_scale_inv" in header:
            header[name]["dtype"] = "F8_E4M3"
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def save_adapter(model, config, rng, folder):
    """An adapter of random matrices, as mlx-lm's training saves it."""
    use_dora = config["fine_tune_type"] == "dora"
    model.freeze()
    linear_to_lora_layers(model, config["num_layers"], config["lora_parameters"], use_dora)
    tensors = {}
    for name, value in sorted(tree_flatten(model.trainable_parameters())):
        if name.rsplit(".", 1)[-1] in ("lora_a", "lora_b"):
            tensors[name] = mx.array((rng.standard_normal(value.shape) / 4).astype(np.float32))
        elif name.endswith(".m"):
            tensors[name] = value * mx.array(
                (1 + rng.standard_normal(value.shape) / 4).astype(np.float32)
            )
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
    mx.save_safetensors(str(folder / "adapters.safetensors"), tensors)


def six_digits(values):
    return [float(f"{value:.6g}") for value in np.array(values).tolist()]


def packed_from_the_start(cache, kv):
    """A cache whose full layers pack keys and values; mlx-lm cannot do it for the others, and mlxk does not."""
    return [c.to_quantized(**kv) if type(c) is KVCache else c for c in cache] if kv else cache


def greedy_run(model, prompt, steps, kv=None):
    cache = packed_from_the_start(make_prompt_cache(model), kv)

    def scores(ids):
        return model(mx.array([ids]), cache=cache)[0, -1].astype(mx.float32)

    first = latest = scores(prompt)
    greedy, logprobs, margins = [], [], []
    for _ in range(steps):
        ranked = mx.sort(latest - mx.logsumexp(latest))
        greedy.append(mx.argmax(latest).item())
        logprobs.append(round(ranked[-1].item(), 5))
        margins.append(round((ranked[-1] - ranked[-2]).item(), 5))
        latest = scores(greedy[-1:])
    assert np.isfinite(np.array(latest)).all()
    return {
        "prompt": prompt,
        "first_logits": six_digits(first),
        "greedy": greedy,
        "logprobs": logprobs,
        "margins": margins,
        "last_logits": six_digits(latest),
    }


def own_error(folder, dtype, runs, copies=0):
    """How far mlx-lm itself goes from the scores of `runs`: with weights of `dtype`, in float32 and computing in that
    type; and, as roundings elsewhere would have it, in `copies` whose weights are a little off."""

    def changed(change):
        model, _ = load_model(folder, lazy=False)
        model.update(tree_map(change, model.parameters()))
        return model

    def off(value):
        return value * (1 + OFF * mx.array(rng.uniform(-1, 1, value.shape).astype(np.float32)))

    rng = np.random.default_rng(0)
    models = [
        changed(lambda value: cast(value, dtype)),
        changed(lambda value: cast(cast(value, dtype), mx.float32)),
    ]
    models += [changed(lambda value: off(cast(value, mx.float32))) for _ in range(copies)]
    errors = []
    for run in runs:
        ids = run["prompt"] + run["greedy"]
        for prompt, scores in ((run["prompt"], run["first_logits"]), (ids, run["last_logits"])):
            for model in models:
                y = model(mx.array([prompt]), cache=make_prompt_cache(model))[0, -1]
                actual = np.array(y.astype(mx.float32))
                errors.append(np.abs(actual - scores).max() / np.abs(scores).max())
    return round(float(max(errors)), 4)


def sampled_run(model, prompt, seed, settings):
    sampler = make_sampler(
        temp=settings["temperature"],
        top_p=settings.get("top_p", 0.0),
        top_k=settings.get("top_k", 0),
        min_p=settings.get("min_p", 0.0),
    )
    mx.random.seed(seed)
    steps = generate_step(mx.array(prompt), model, max_tokens=SAMPLE_TOKENS, sampler=sampler)
    return {"prompt": prompt, "seed": seed, **settings, "tokens": [token for token, _ in steps]}


def make_case(name, folder):
    for file in folder.iterdir():
        if file.is_dir():
            shutil.rmtree(file)
        elif file.name != "case.json":
            file.unlink()
    golden = make(name, json.loads((folder / "case.json").read_text()), folder)
    size = sum(file.stat().st_size for file in folder.rglob("*"))
    assert size <= MAX_CASE_BYTES, f"{name} has {size} bytes"
    answer, margins = (
        golden["runs"][-1]["greedy"],
        [m for run in golden["runs"] for m in run["margins"]],
    )
    print(
        f"{name}: {size / 1e3:.0f} kB, {len(set(answer))} of {len(answer)} ids differ, least margin {min(margins)},"
        f" own error {golden.get('own_error')}"
    )


def settle(name, folder):
    """Writes into case.json the first draw, at the largest gain that has one, in which mlx-lm keeps its scores."""
    spec = json.loads((folder / "case.json").read_text())
    gains = spec.get("gains", {})
    for gain in GAINS if "" not in gains else (gains[""],):
        for draw in range(MOST_DRAWS):
            tried = spec | ({"draw": draw} if draw else {})
            if all_gains := ({"": gain} if gain != 1 else {}) | gains:
                tried["gains"] = all_gains
            with tempfile.TemporaryDirectory() as trial:
                golden = make(name, tried, Path(trial))
            if (
                golden["own_error"] > MOST_OWN_ERROR
                or len(set(golden["runs"][-1]["greedy"])) < LEAST_IDS
            ):
                continue
            (folder / "case.json").write_text(json.dumps(tried, indent=1) + "\n")
            return True
    print(f"{name}: none of {MOST_DRAWS} draws keeps mlx-lm within {MOST_OWN_ERROR} of its scores")
    return False


def make(name, spec, folder):
    """Writes config.json, the weights and golden.json of `spec` into a folder without any; returns the last."""
    draw = spec.get("draw", 0)
    rng = np.random.default_rng(zlib.crc32((f"{name}/{draw}" if draw else name).encode()))
    config = dict(spec["config"])
    model = random_model(config, rng, spec.get("gains", {}))
    dtype = getattr(mx, spec.get("weights", "float32"))
    if "quantize" in spec:
        quantize(model, config, spec["quantize"], spec.get("modules", {}))
    tensors = {key: cast(value, dtype) for key, value in tree_flatten(model.parameters())}
    if spec.get("inv_freq"):
        head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        inv_freq = config["rope_theta"] ** (-np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)
        for layer in range(config["num_hidden_layers"]):
            tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = mx.array(inv_freq)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    if "storage" in spec:
        tensors = stored(tensors, spec["storage"], rng)
    save(folder, tensors, spec.get("shards", 1))
    if spec.get("storage") == "float8":
        declare_float8(folder / "model.safetensors")

    # What a user would load from disk is what is measured, not the model in memory.
    model, _ = load_model(folder, lazy=False)
    if "adapter" in spec:
        save_adapter(model, spec["adapter"], rng, folder / "adapters")
        model, _ = load_model(folder, lazy=False)
        load_adapters(model, str(folder / "adapters"))
    model.set_dtype(mx.float32)
    vocab_size = config.get("text_config", config)["vocab_size"]
    prompts = {n: rng.integers(3, vocab_size, n).tolist() for n in PROMPT_LENGTHS}
    kv = spec.get("kv")
    runs = [greedy_run(model, prompts[n], steps, kv) for n, steps in PROMPT_LENGTHS.items()]
    golden = {
        "oracle": f"mlx-lm {version('mlx-lm')}, MLX {version('mlx')} CPU, float32",
        "model_type": config["model_type"],
        "quantize": spec.get("quantize"),
        "weights": spec.get("weights", "float32"),
        "kv": kv,
        "runs": runs,
        "samples": [
            sampled_run(model, prompts[6], 100 + i, settings)
            for i, settings in enumerate(spec.get("samples", []))
        ],
    }
    if dtype != mx.float32:
        golden["own_error"] = own_error(folder, dtype, runs)
    elif not spec.keys() & {"quantize", "adapter", "kv", "storage"}:
        golden["own_error"] = own_error(folder, mx.bfloat16, runs, copies=8)
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    return golden


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--goldens", type=Path, default=HERE.parents[1] / "test" / "goldens")
    parser.add_argument("--missing", action="store_true", help="only cases that have no data yet")
    parser.add_argument(
        "--settle",
        action="store_true",
        help="find draws in which 16 bits do not turn the answer over",
    )
    parser.add_argument("cases", nargs="*", help="names of cases; all where none is given")
    arguments = parser.parse_args()

    mx.set_default_device(mx.cpu)
    # Its chunked cache drops what it takes for older chunks by whole steps, 256: longer than the chunks of tiny models.
    ChunkedKVCache.step = 8
    BitLinear.execute_matmul_kernel = ternary_matmul
    mx.gather_mm = gather_mm_in_float32
    mx.disable_compile()  # on this back end it calls a C++ compiler at run time; the bits are the same
    names = arguments.cases or sorted(
        file.parent.name for file in arguments.goldens.glob("*/case.json")
    )
    for name in names:
        folder = arguments.goldens / name
        if arguments.missing and (folder / "golden.json").exists():
            continue
        if arguments.settle and not settle(name, folder):
            continue
        make_case(name, folder)


if __name__ == "__main__":
    main()
