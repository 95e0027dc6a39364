#!/usr/bin/env python3
"""Records how GGUF's own library decodes its block formats, and how SentencePiece cuts texts. Writes
test/goldens/gguf.json.

usage: make_gguf.py [--out FILE]
"""

import argparse
import base64
import io
import json
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np
import sentencepiece

HERE = Path(__file__).resolve().parent
TYPES = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K".split()
# Where the float16 numbers of a block are: of random bits they could be infinite.
HALVES = {
    **{"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0]},
    **{"Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]},
}
NUMBERS = 512

TEXT = """\
The quick brown fox jumps over the lazy dog. A model is a folder of weights and words.
In the beginning there was the tensor, and the tensor was with the thread, and it was good.
Quantized models take less room; they answer nearly as well. How many models are in the cache?
Zwei Wölfe heulen über grüne Hügel. Ça va très bien, merci. 東京 は 大きい 都市 です。
"""
SENTENCES = [
    "The quick brown fox",
    " leading and  double spaces ",
    "Hügel über Wölfe",
    "unseen: ☃ and 🦊 and кот",
    "line\nbreaks\n\nand\ttabs",
    "",
    "a",
    "quantized models answer",
]


def blocks(name, rng):
    kind = gguf.GGMLQuantizationType[name]
    numbers, size = gguf.GGML_QUANT_SIZES[kind]
    data = rng.integers(0, 256, (NUMBERS // numbers, size), dtype=np.uint8)
    for at in HALVES[name]:
        halves = rng.normal(0, 0.05, len(data)).astype(np.float16)
        data[:, at : at + 2] = halves.view(np.uint8).reshape(-1, 2)
    decoded = gguf.dequantize(data.reshape(1, -1), kind).astype(np.float32)
    return {
        "encoding": name,
        "type": int(kind),
        "blocks": base64.b64encode(data.tobytes()).decode(),
        "numbers": base64.b64encode(decoded.tobytes()).decode(),
    }


def pieces(prefix):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter((TEXT * 4).splitlines()),
        model_writer=model,
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(processor.vocab_size())

    def type_of(i):
        if processor.is_unknown(i):
            return 2
        return 3 if processor.is_control(i) else 6 if processor.is_byte(i) else 1

    return {
        "add_space_prefix": prefix,
        "tokens": [processor.id_to_piece(i) for i in ids],
        "scores": [processor.get_score(i) for i in ids],
        "token_type": [type_of(i) for i in ids],
        "texts": [{"text": text, "ids": processor.encode(text)} for text in SENTENCES],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tests = HERE.parents[1] / "test" / "goldens"
    parser.add_argument("--out", type=Path, default=tests / "gguf.json")
    arguments = parser.parse_args()
    rng = np.random.default_rng(20_240_607)
    golden = {
        "oracle": f"gguf {version('gguf')}, sentencepiece {version('sentencepiece')}",
        "blocks": [blocks(name, rng) for name in TYPES],
        "sentencepiece": [pieces(True), pieces(False)],
    }
    arguments.out.write_text(json.dumps(golden, ensure_ascii=False) + "\n")


main()
