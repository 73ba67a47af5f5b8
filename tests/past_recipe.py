"""A recipe that has run: its commands were called in this process, and noted as a recipe does."""

import os
import time
from pathlib import Path

import extended
from commands import call, done

from maxlite.recipe.state import State
from maxlite.recipe.steps import Step

STAGE = {
    "data.held_out": 0.1,
    "steps": 6,
    "batch_size": 8,
    "seq_len": 32,
    "optimizer.learning_rate": 3e-2,
    "log.every": 2,
    "eval.every": 3,
    "eval.documents": 20,
    "eval.sample_tokens": 8,
}


def steps(here: Path) -> list[Step]:
    """Text is cleaned, a model extended; its new rows train, then adapters and both tables."""
    out = here / "out"
    clean, english = f"{out}/clean/*.jsonl.zst", here / "english.txt"
    judged = {"text": (clean, english), "held_out": 0.1, "documents": 20}
    stage = STAGE | {"data.train": f"corpus={clean}:3,{english}:1"}
    first = {"model": f"{out}/extended", "out": f"{out}/first", "train": "new_rows", "seed": 1}
    second = {"model": f"{out}/first", "out": f"{out}/second", "seed": 2}
    cleaned = {"config.text": here / "korean.txt", "config.out": f"{out}/clean"}
    rows = {"tokenizer": here / "tokenizer", "input_init": "mean", "output_init": "mean"}
    wrote = {"count": 2, "max_new_tokens": 8, "temperature": 0.7, "prompt": "The cat"}
    return [
        Step.tool("clean", "clean_corpus", {"config": "korean.py", **cleaned, "config.workers": 1}),
        Step.tool("before", "evaluate",
                  {"model": here / "model", **judged, "json": f"{out}/before.json"}),
        Step.tool("extended", "extend_vocab",
                  {"model": here / "model", **rows, "out": f"{out}/extended"}),
        Step.train("first", "continue.py", stage | first),
        Step.train("second", "stage2.py", stage | second),
        Step.tool("model", "export_hf", {"run": f"{out}/second", "out": f"{out}/model"}),
        Step.tool("after", "evaluate",
                  {"model": f"{out}/model", **judged, "json": f"{out}/after.json"}),
        Step.tool("samples", "generate",
                  {"model": f"{out}/model", **wrote, "out": f"{out}/samples.jsonl"}),
    ]  # fmt: skip


def lay(here: Path, make_folder, tiny_text: Path, tiny_tokenizer: Path) -> Path:
    """Makes model/, a tokenizer of 57 pieces more, and texts, in which the steps can run."""
    make_folder(here / "model")
    extended.extend(tiny_tokenizer, here / "tokenizer", 57)
    text = (tiny_text / "xx.txt").read_text("utf-8").splitlines()
    long = [f"{a} {b} {c}" for a, b, c in zip(text, text[1:], text[2:], strict=False)]
    (here / "korean.txt").write_text("\n".join(long) + "\n", "utf-8")
    (here / "english.txt").write_text((tiny_text / "en.txt").read_text("utf-8"), "utf-8")
    return here


def run(here: Path) -> Path:
    """Runs the steps as far as they are not done.

    Returns:
      The recipe's folder.
    """
    listed, state = steps(here), State(here / "out")
    lock = state.open()
    try:
        for step, stand in zip(listed, state.stands(listed), strict=True):
            state.begin(listed, stand)
            began = time.monotonic()
            done(call(step.module, *step.arguments))
            state.end(step, 0, time.monotonic() - began)
        state.write("finished")
    finally:
        os.close(lock)
    return here / "out"
