"""Trains the byte-level BPE tokenizer on generated dialogues and writes tokenizer.json.

usage: tokenizer.py OUT_DIR
Every byte is in the vocabulary, so any text can be encoded; digits always stand alone.
"""

import random
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from data.dialogues import dialogue
from model import CONFIG
from render import SPECIAL, render

SAMPLE = 60_000
SEED = 11


def texts():
    source = random.Random(SEED)
    for _ in range(SAMPLE):
        yield "".join(render(*dialogue(source)))


def main(out):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        special_tokens=SPECIAL,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=8,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    Path(out).mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(Path(out) / "tokenizer.json"), pretty=False)
    print(f"tokenizer: {tokenizer.get_vocab_size()} entries")


if __name__ == "__main__":
    main(sys.argv[1])
