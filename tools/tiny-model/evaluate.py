"""Measures the exported model on questions whose wording training never saw.

usage: evaluate.py MODEL_DIR HELDOUT.json [--wrong] [--thinking] [--json OUT]
Greedy, with the weights as quantized. Also checks that chat_template.jinja and `render` agree.
"""

import argparse
import json
import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

import export
from data.dialogues import dialogue
from network import Network
from render import END, render


def check_template(model_dir):
    source = (Path(model_dir) / "chat_template.jinja").read_text()
    template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(
        source
    )
    random_ = random.Random(3)
    for _ in range(200):
        messages, thought = dialogue(random_)
        text = template.render(
            messages=messages[:-1], add_generation_prompt=True, enable_thinking=bool(thought)
        )
        assert text == render(messages, thought)[0], text


def generate(model_dir, prompts, limit=80):
    """Greedy answers to many prompts; those of one length run together."""
    tokenizer = Tokenizer.from_file(str(Path(model_dir) / "tokenizer.json"))
    network = Network(
        json.loads((Path(model_dir) / "config.json").read_text()), export.load(model_dir)
    )
    end = tokenizer.token_to_id(END)
    groups = defaultdict(list)
    for index, prompt in enumerate(prompts):
        ids = tokenizer.encode(prompt).ids
        groups[len(ids)].append((index, ids))
    answers = [""] * len(prompts)
    for group in groups.values():
        cache, made = network.cache(), []
        token = np.array([ids for _, ids in group])
        done = np.zeros(len(group), bool)
        while len(made) < limit and not done.all():
            token = network.step(token, cache).argmax(-1)[:, None]
            made.append(token[:, 0])
            done |= token[:, 0] == end
        for row, (index, _) in zip(np.array(made).T.tolist(), group):
            row = row[: row.index(end)] if end in row else row
            answers[index] = tokenizer.decode(row)
    return answers


def prompt_of(question, thinking):
    asked = {"role": "user", "content": question["question"]}
    messages = [*question.get("before", []), asked, {"content": ""}]
    return render(messages, "any" if thinking else "")[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model_dir")
    parser.add_argument("heldout")
    parser.add_argument("--wrong", action="store_true", help="print the wrong answers")
    parser.add_argument("--thinking", action="store_true", help="let the model think first")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    check_template(arguments.model_dir)
    questions = json.loads(Path(arguments.heldout).read_text())
    answers = generate(arguments.model_dir, [prompt_of(q, arguments.thinking) for q in questions])
    right, total = Counter(), Counter()
    for q, answer in zip(questions, answers):
        answer = answer.split("</think>")[-1]
        good = any(mark in answer for mark in q["accept"])
        for key in (q["category"], "source: " + q["source"], "all"):
            total[key] += 1
            right[key] += good
        if arguments.wrong and not good:
            print(f"  {q['source']:8}{q['category']:11}{q['question']!r} -> {answer!r}")
    for key in sorted(total, key=lambda k: (k == "all", k.startswith("source"), k)):
        print(f"{key:18}{right[key]:5} of {total[key]:5}  {100 * right[key] / total[key]:5.1f} %")
    if arguments.json:
        export.write_json(arguments.json, {k: [right[k], total[k]] for k in sorted(total)})


if __name__ == "__main__":
    main()
