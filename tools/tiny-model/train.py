"""Trains the built-in model on the CPU and writes its float weights.

usage: train.py OUT_DIR [--round N] [--steps N]
Reads OUT_DIR/tokenizer.json, writes OUT_DIR/weights.npz and OUT_DIR/training.json. Rounds of
fresh text; `--round N` is one alone, from the weights that OUT_DIR has. Rows of like length share a batch;
the loss is on the last answer of each dialogue. Matrices inside the layers learn by Muon,
embeddings and norms by Adam.
"""

import argparse
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

import model
from data.dialogues import dialogue
from render import render

jax.config.update("jax_default_prng_impl", "rbg")  # the quick generator: dropout draws many

LENGTHS = [32, 40, 48, 64, 96, 128]
TOKENS_PER_STEP = 3072
DROPOUT = 0.05
MUON_RATE, ADAM_RATE = 0.02, 3e-3
MUON_DECAY = 0.02
WARMUP = 0.03
SEED = 7


@dataclass
class Round:
    """A pass with its own text and its own rise and fall of the learning rate."""

    steps: int
    peak: float  # of the rates above
    cooldown: float  # share of the steps in which the rate falls to zero
    seed: int


ROUNDS = [
    Round(1800, 1.0, 0.45, SEED),
    Round(200, 0.7, 0.01, SEED + 10),
    Round(950, 0.7, 0.9, SEED + 20),
    Round(500, 0.5, 1.0, SEED + 30),
]


def batches(tokenizer, seed):
    """Yields (ids, mask) forever; mask marks the positions whose token is to be predicted."""
    source, shuffle = random.Random(seed), random.Random(seed + 1)
    while True:
        waiting = {length: [] for length in LENGTHS}
        ready = []
        pairs = [render(*dialogue(source)) for _ in range(6000)]
        prompts = tokenizer.encode_batch([p for p, _ in pairs])
        answers = tokenizer.encode_batch([a for _, a in pairs])
        for prompt, answer in zip(prompts, answers):
            size = len(prompt.ids) + len(answer.ids)
            length = next((n for n in LENGTHS if size <= n), None)
            if length is None:
                continue
            waiting[length].append((prompt.ids, answer.ids))
            if len(waiting[length]) == TOKENS_PER_STEP // length:
                ready.append(pack(waiting.pop(length), length))
                waiting[length] = []
        shuffle.shuffle(ready)
        yield from ready


def pack(rows, length):
    ids = np.zeros((len(rows), length), np.int32)
    mask = np.zeros((len(rows), length), np.float32)
    for row, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[row, :end] = prompt + answer
        mask[row, len(prompt) : end] = 1
    return ids, mask


def loss_of(params, ids, mask, key):
    hidden = model.forward(model.CONFIG, params, ids, DROPOUT, key)[:, :-1]
    scores = jax.nn.log_softmax(hidden @ params["embed_tokens"].T)
    chosen = jnp.take_along_axis(scores, ids[:, 1:, None], -1)[..., 0]
    return -jnp.sum(chosen * mask[:, 1:]) / jnp.sum(mask)


def orthogonal(g):
    """The nearest orthogonal matrix, roughly, by five Newton-Schulz steps (Muon)."""
    tall = g.shape[0] > g.shape[1]
    x = g.T if tall else g
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if tall else x


def is_matrix(name, w):
    return w.ndim == 2 and name != "embed_tokens"


def update(params, state, grads, step, scale):
    fresh, first, second = {}, {}, {}
    for name, w in params.items():
        g = grads[name]
        if is_matrix(name, w):
            m = 0.95 * state[0][name] + g
            turn = orthogonal(g + 0.95 * m) * max(1.0, w.shape[0] / w.shape[1]) ** 0.5
            fresh[name] = w * (1 - MUON_RATE * MUON_DECAY * scale) - MUON_RATE * scale * turn
            first[name], second[name] = m, state[1][name]
        else:
            m = 0.9 * state[0][name] + 0.1 * g
            v = 0.98 * state[1][name] + 0.02 * g * g
            turn = m / (1 - 0.9**step) / (jnp.sqrt(v / (1 - 0.98**step)) + 1e-8)
            fresh[name] = w - ADAM_RATE * scale * turn
            first[name], second[name] = m, v
    return fresh, (first, second)


@jax.jit
def train_step(params, state, ids, mask, step, scale, key):
    loss, grads = jax.value_and_grad(loss_of)(params, ids, mask, jax.random.fold_in(key, step))
    params, state = update(params, state, grads, step.astype(jnp.float32), scale)
    return params, state, loss


def rate(step, plan):
    """Warm up, hold, then fall straight to zero."""
    done = step / plan.steps
    return plan.peak * min(1.0, done / WARMUP, (1 - done) / plan.cooldown)


def save(out, params):
    np.savez(out / "weights.npz", **{name: np.asarray(w) for name, w in params.items()})


def learn(plan, tokenizer, params, out):
    """One round; the weights are saved now and then, so that an evaluation can look at them."""
    state = (
        {n: jnp.zeros_like(w) for n, w in params.items()},
        {n: jnp.zeros(()) if is_matrix(n, w) else jnp.zeros_like(w) for n, w in params.items()},
    )
    key, start, recent = jax.random.key(plan.seed), time.time(), []
    for step, (ids, mask) in enumerate(batches(tokenizer, plan.seed), 1):
        scale = jnp.float32(rate(step, plan))
        params, state, loss = train_step(params, state, ids, mask, jnp.int32(step), scale, key)
        recent.append(float(loss))
        if step % 25 == 0 or step == plan.steps:
            spent = time.time() - start
            left = spent / step * (plan.steps - step)
            print(
                f"step {step}/{plan.steps}  loss {np.mean(recent):.4f}  "
                f"{step * TOKENS_PER_STEP / spent:.0f} tokens/s  {left / 60:.1f} min left",
                flush=True,
            )
            recent = []
        if step % 200 == 0 or step == plan.steps:
            save(out, params)
        if step == plan.steps:
            return params


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--round", type=int, choices=range(1, len(ROUNDS) + 1), help="only this one"
    )
    parser.add_argument("--steps", type=int, help="instead of each round's own, for a trial")
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(arguments.out / "tokenizer.json"))
    model.CONFIG["vocab_size"] = tokenizer.get_vocab_size()
    params = model.init(model.CONFIG, SEED)
    if (arguments.round or 1) > 1:
        params = {n: jnp.asarray(w) for n, w in np.load(arguments.out / "weights.npz").items()}
    start = time.time()
    for number, plan in enumerate(ROUNDS, 1):
        if arguments.round not in (None, number):
            continue
        plan.steps = arguments.steps or plan.steps
        print(f"round {number}: {plan.steps} steps", flush=True)
        params = learn(plan, tokenizer, params, arguments.out)
    report = {
        "minutes": round((time.time() - start) / 60, 1),
        "parameters": sum(int(w.size) for w in params.values()),
        "tokens": sum(plan.steps for plan in ROUNDS) * TOKENS_PER_STEP,
    }
    (arguments.out / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    print(report)


if __name__ == "__main__":
    main()
