#!/usr/bin/env python3
"""Records what mlx-lm makes of a config that leaves a field out: test/goldens/defaults.json.

usage: make_defaults.py [--goldens DIR] [--out FILE] [--jobs N] [CASE ...]

Of every float32 case of test/goldens each field of config.json, nested ones too, is once deleted and once set to null,
and mlx-lm is asked to load the weights and to score the case's longest run. The table says for every case which fields
mlx-lm does without, `absent` or `null`: "same" where that made no difference, and the scores where others came out,
which tell its default for the field. Fields that it cannot do without are not listed. `one` is what a mixture gives that
chooses a single expert, whose weight some families normalize and others do not.
With names of cases the table is made anew for these alone.
"""

import argparse
import copy
import json
import os
import tempfile
from multiprocessing import Pool
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.models.bitlinear_layers import BitLinear
from mlx_lm.models.cache import ChunkedKVCache, make_prompt_cache
from mlx_lm.utils import load_model

from make_goldens import ternary_matmul

ROOT = Path(__file__).resolve().parents[2]
SCORES = 8  # of the vocabulary, evenly spread: enough to tell one default from another
SAME = 1e-5  # of the largest score
EXPERTS_CHOSEN = {"moe_k", "moe_top_k", "moe_topk", "num_experts_per_tok", "num_experts_per_token"}
LEFT_ALONE = ("quantization", "quantization_config")


def fields(config, above=()):
    for name, value in config.items():
        path = (*above, name)
        if name in LEFT_ALONE or path == ("model_type",):
            continue
        yield path
        if isinstance(value, dict):
            yield from fields(value, path)


def changed(config, path, way):
    config = copy.deepcopy(config)
    *above, name = path
    holder = config
    for key in above:
        holder = holder[key]
    if way == "absent":
        del holder[name]
    else:
        holder[name] = None if way == "null" else 1
    return config


def scores(case, config, ids):
    """Of the token after `ids`, [vocab]; None where mlx-lm cannot load or run the model."""
    with tempfile.TemporaryDirectory() as folder:
        for file in case.glob("model*"):
            os.symlink(file, Path(folder) / file.name)
        (Path(folder) / "config.json").write_text(json.dumps(config))
        try:
            model, _ = load_model(Path(folder), lazy=False)
            model.set_dtype(mx.float32)
            out = model(mx.array([ids]), cache=make_prompt_cache(model))
            made = np.array(out[0, -1].astype(mx.float32))
        except Exception:  # whatever it is, mlx-lm does not run this
            return None
        return made if np.isfinite(made).all() else None


def told(made, plain):
    if made.shape == plain.shape and np.abs(made - plain).max() <= SAME * np.abs(plain).max():
        return "same"
    picked = made[np.linspace(0, len(made) - 1, SCORES).astype(int)]
    return [float(f"{value:.6g}") for value in picked]


def sweep(case):
    mx.set_default_device(mx.cpu)
    mx.disable_compile()
    ChunkedKVCache.step = 8
    BitLinear.execute_matmul_kernel = ternary_matmul
    config = json.loads((case / "config.json").read_text())
    run = json.loads((case / "golden.json").read_text())["runs"][-1]
    ids = run["prompt"] + run["greedy"]
    plain = scores(case, config, ids)
    assert plain is not None, f"{case.name} does not run as it is"
    table = {"absent": {}, "null": {}, "one": {}}
    for path in fields(config):
        for way, outcomes in table.items():
            if way == "one" and path[-1] not in EXPERTS_CHOSEN:
                continue
            made = scores(case, changed(config, path, way), ids)
            if made is not None:
                outcomes[".".join(path)] = told(made, plain)
    return case.name, table


def is_plain(case):
    spec = json.loads((case / "case.json").read_text())
    return set(spec) <= {"config", "draw", "gains", "inv_freq", "samples", "shards"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--goldens", type=Path, default=ROOT / "test" / "goldens")
    parser.add_argument("--out", type=Path, default=ROOT / "test" / "goldens" / "defaults.json")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("cases", nargs="*", help="names of cases; all where none is given")
    arguments = parser.parse_args()

    table = json.loads(arguments.out.read_text()) if arguments.cases else {}
    names = arguments.cases or [file.parent.name for file in arguments.goldens.glob("*/case.json")]
    cases = [arguments.goldens / name for name in names]
    with Pool(arguments.jobs) as pool:
        for name, found in pool.imap_unordered(sweep, filter(is_plain, cases)):
            table[name] = found
            print(name, len(found["absent"]), len(found["null"]), flush=True)
    lines = (f"{json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table))
    arguments.out.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
