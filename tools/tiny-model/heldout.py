"""Writes the evaluation set and proves that none of its questions is in the training text.

usage: heldout.py HANDWRITTEN.json OUT.json
Takes the held-out wordings of the grammars and the questions written by hand. A question that
equals, letters and digits compared, any question of the training dialogues is dropped.
"""

import json
import random
import re
import sys
from pathlib import Path

from data.dialogues import SYSTEM, dialogue, held_out

TRAINING_SEEDS = [7, 17, 27, 37]  # of the rounds in train.py

DIALOGUES = 130_000  # of each round, more than it takes
SEED = 29


def normal(text):
    return re.sub(r"[^a-z0-9*/+-]+", " ", text.lower()).strip()


def main(handwritten, out):
    source = random.Random(SEED)
    questions = [{"source": "hand", **q} for q in json.loads(Path(handwritten).read_text())]
    for q in held_out(source):
        questions.append(
            {"source": "grammar", "category": q.category, "question": q.text, "accept": q.marks}
        )
    for q in questions:
        if "before" not in q and source.random() < 0.12:
            q["before"] = [{"role": "system", "content": source.choice(SYSTEM)}]
    seen, unique = set(), []
    for q in questions:
        key = normal(q["question"])
        if key not in seen:
            seen.add(key)
            unique.append(q)
    leaked = set()
    for seed in TRAINING_SEEDS:
        training = random.Random(seed)
        for _ in range(DIALOGUES):
            messages, _ = dialogue(training)
            leaked |= {normal(m["content"]) for m in messages if m["role"] == "user"} & seen
    lines = ",\n".join(json.dumps(q) for q in unique if normal(q["question"]) not in leaked)
    Path(out).write_text(f"[\n{lines}\n]\n")
    kept = len(unique) - len(leaked)
    print(f"{kept} questions, {len(leaked)} dropped because training has them:", sorted(leaked))


if __name__ == "__main__":
    main(*sys.argv[1:])
