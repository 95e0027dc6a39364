"""The mlx-lm side of the long-lived pair: one model, one JSON line in, one out.

Uses generate_step, the loop under stream_generate and mlx-lm's own benchmark, with nothing around it: no
tokenizer, no detokenizer, greedy, compile at its default.
"""

import json
import sys
import time
from pathlib import Path

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_model

model, _ = load_model(Path(sys.argv[1]))


def generate(prompt, maxTokens):
    tokens, first = [], None
    cpu_before, started = time.process_time(), time.perf_counter()
    for token, _ in generate_step(mx.array(prompt), model, max_tokens=maxTokens):
        first = first or time.perf_counter()
        tokens.append(token)
    ended = time.perf_counter()
    return {
        "tokens": tokens,
        "firstTokenSeconds": first - started,
        "restSeconds": ended - first,
        "cpuSeconds": time.process_time() - cpu_before,
    }


for line in sys.stdin:
    print(json.dumps(generate(**json.loads(line))), flush=True)
