"""A folder in which a tiny model can be trained in seconds: its weights, its text and its stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maxlite.config import Architecture
from tools.benchmarks import model

STEPS, SAVED, EVALUATED = 24, 3, 8  # steps in all, between checkpoints, between evaluations

_STAGE = """\
from maxlite.config import Checkpoint, Config, Data, Eval, Log, Optimizer, Source


def get_config():
    return Config(
        model="{here}/model",
        steps={steps},
        batch_size=8,
        seq_len=32,
        seed=3,
        data=Data(
            train=(
                Source("{here}/one.txt", weight=9, name="one"),
                Source("{here}/two.txt", weight=1, name="two"),
            ),
            held_out=0.1,
        ),
        optimizer=Optimizer(learning_rate=3e-3, warmup=0.1),
        checkpoint=Checkpoint(every={saved}, keep=3),
        eval=Eval(every={evaluated}, documents=30, sample_tokens=4),
        log=Log(every=1),
    )
"""


@dataclass(frozen=True)
class Desk:
    """Where runs are made.

    Attributes:
      here: the folder; holds model/, one.txt, two.txt, stage.py, and a folder for each run.
    """

    here: Path

    @property
    def stage(self) -> Path:
        """The config's file."""
        return self.here / "stage.py"

    @property
    def cache(self) -> Path:
        """What all runs share of what is compiled and tokenized."""
        return self.here / "cache"


def lay(here: Path) -> Desk:
    """Makes a model of random weights, text of made-up words and a stage; each the same always.

    Args:
      here: an empty folder.
    """
    arch = Architecture(
        model_type="llama",
        vocab_size=400,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
    )
    model.write(here / "model", arch)
    model.write_tokenizers(here / "model")
    for seed, name in enumerate(("one", "two")):
        (here / f"{name}.txt").write_text(_text(seed, documents=400), encoding="utf-8")
    stage = _STAGE.format(here=here, steps=STEPS, saved=SAVED, evaluated=EVALUATED)
    (here / "stage.py").write_text(stage, encoding="utf-8")
    return Desk(here)


def _text(seed: int, documents: int) -> str:
    """Documents of 3 to 12 words out of 50, one a line."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, rng.integers(2, 8))) for _ in range(50)]
    lines = (" ".join(rng.choice(words, rng.integers(3, 13))) for _ in range(documents))
    return "".join(f"{line}.\n" for line in lines)
