"""Starts training once, up to its first step, and prints what took how long as JSON.

  python -m tools.benchmarks.first_step ours BEGAN CONFIG OUT
  python -m tools.benchmarks.first_step transformers BEGAN MODEL TEXT ROWS TOKENS

Started by `benchmark startup`. BEGAN is when, by the clock that all processes share, so that the
interpreter's own start counts. Ours is `maxlite.train` itself, with a look at the clock around its
parts; the peer is as short a script as does the same.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

_parts: dict[str, float] = {}
_entered: dict[str, float] = {}


@contextmanager
def _part(name: str) -> Iterator[None]:
    _entered[name] = time.monotonic()
    try:
        yield
    finally:
        _parts[name] = time.monotonic() - _entered[name]


def _watch(owner: Any, function: str, name: str) -> None:
    """Counts the time in a function of a module, or in a method of a class, as a part."""
    inner = getattr(owner, function)

    @functools.wraps(inner)
    def watched(*arguments: Any, **settings: Any) -> Any:
        with _part(name):
            return inner(*arguments, **settings)

    setattr(owner, function, watched)


def _tell(began: float) -> NoReturn:
    seconds = time.monotonic() - began
    rest = seconds - sum(_parts.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "parts": _parts | {"rest": rest}}))
    sys.stdout.flush()
    os._exit(0)


def ours(began: float, config: str, out: str) -> None:
    """`maxlite.train`, until the figures of its first step are there."""
    from maxlite import train
    from maxlite.training import job, trainer

    _parts["import"] = time.monotonic() - began
    _watch(job, "load_tokenizer", "tokenizer")
    _watch(job, "load_corpus", "text")
    _watch(trainer, "begin", "model")
    _watch(trainer.Trainer, "_compile", "compile")
    _watch(trainer.Trainer, "_train", "step")

    def look(self: Any, step: int, figures: Any) -> bool:
        float(figures["loss"])
        _parts["step"] = time.monotonic() - _entered["step"]
        _tell(began)

    trainer.Trainer._look = look  # type: ignore[method-assign]
    train.main([f"--config={config}", f"--config.out={out}"])


def transformers(began: float, model: str, text: str, rows: str, tokens: str) -> None:
    """Packed rows, AdamW and one step, without torch.compile, which would take longer."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    _parts["import"] = time.monotonic() - began
    with _part("tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(model)
    with _part("text"):
        lines = Path(text).read_text(encoding="utf-8").splitlines()
        ids = [i for line in tokenizer(lines)["input_ids"] for i in (*line, tokenizer.eos_token_id)]
        batch = torch.tensor(ids[: int(rows) * int(tokens)]).reshape(int(rows), int(tokens))
    where = "cuda" if torch.cuda.is_available() else "cpu"
    with _part("model"):
        llama = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32).to(where).train()
        optimizer = torch.optim.AdamW(llama.parameters(), lr=3e-4)
    with _part("step"):
        batch = batch.to(where)
        loss = llama(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(llama.parameters(), 1.0)
        optimizer.step()
        float(loss)
    _tell(began)


if __name__ == "__main__":
    _, _what, _began, *_arguments = sys.argv
    {"ours": ours, "transformers": transformers}[_what](float(_began), *_arguments)
