"""Makes the built-in model from nothing: tokenizer, training, export, evaluation.

usage: make.py [--run DIR] [--steps N]
Needs the packages of requirements.txt and about half an hour on two CPU cores. The run folder
(default: build/tiny-model of the repository) keeps the float weights; builtin/ gets the model.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SET = ROOT / "bench" / "builtin"


def step(script, *arguments):
    print(f"== {script} {' '.join(map(str, arguments))}", flush=True)
    subprocess.run([sys.executable, HERE / script, *map(str, arguments)], check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, default=ROOT / "build" / "tiny-model")
    parser.add_argument("--steps", type=int, default=None, help="default: that of train.py")
    arguments = parser.parse_args()
    steps = ["--steps", arguments.steps] if arguments.steps else []
    step("tokenizer.py", arguments.run)
    step("train.py", arguments.run, *steps)
    step("export.py", arguments.run, ROOT / "builtin")
    step("heldout.py", SET / "handwritten.json", SET / "heldout.json")
    step("evaluate.py", ROOT / "builtin", SET / "heldout.json", "--wrong")


if __name__ == "__main__":
    main()
