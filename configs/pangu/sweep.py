"""RethinkTinyLM (arXiv 2402.02791): which shape is best for a number of parameters?

Trains models of random weights that have as many parameters as each other but another depth, width
or expansion (FFN channels over width), all on the same text, and compares them: sweep.html and
sweep.json in `out`. Give two of `depths`, `widths` and `expansions`; every pair is a shape, and the
third is found for it. A width grows by whole heads and a depth by whole layers, so the expansion is
then moved a little until the parameters are equal, too.

What the paper did, as others tell it: 30 shapes of about 1B parameters, depth 9 to 40, width 1280
to 2560, expansion 1.0 to 4.0, 5B tokens each; depth mattered most (rank correlation with the score
0.528), width as much the other way, expansion nearly not. Its model then has 48,000 rows, width
1792 and, by its configuration, 20 layers and 4,864 FFN channels: 951,983,872 parameters. A grid of
ours over that, to plan or to run:
  --config.parameters=951983872 --config.rows=48000 --config.tied=false --config.head_dim=128
  --config.ffn_multiple=64 --config.depths=9,14,20,28,40 --config.expansions=1.5,2.77,4
  --config.batch_size=1024 --config.seq_len=2048 --config.steps=2400 --config.learning_rate=1e-4
  --config.accumulate=16 --config.remat=full
"""

import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.recipe import Recipe, Step
from maxlite.sizes import solve
from maxlite.tokenizer import load_tokenizer


@dataclass
class Sweep(Recipe):
    required = ("text", "tokenizer")

    text: str = ""  # files to train on, as one glob
    tokenizer: str = ""  # a folder, or one tokenizer.model or tokenizer.json; few rows are best
    held_out: float = 0.02  # of the documents, which the runs are compared on
    parameters: int = 2_000_000  # of each model, tables included; default of ours
    depths: str = "3,4,6,9,14"  # default of ours, as all below
    widths: str = ""
    expansions: str = "2.667"
    rows: int = 0  # of the vocabulary; 0: the tokenizer's
    tied: bool = True  # the paper's models have a head of their own
    head_dim: int = 16
    queries_per_kv: int = 1  # query heads that share a key-value head
    ffn_multiple: int = 8  # FFN channels are a multiple of it
    steps: int = 500  # of each run
    batch_size: int = 8
    accumulate: int = 1  # as in a stage
    remat: str = "none"  # as in a stage
    seq_len: int = 256
    learning_rate: float = 1e-3  # the same for all, which favours none on purpose
    seed: int = 0

    def plan(self):
        out, runs = Path(self.out), {}
        for shape in self.shapes():
            depth, width = shape.num_hidden_layers, shape.hidden_size
            name = f"{depth}x{width}x{shape.intermediate_size}"
            runs[name] = out / name
            yield Step.train(
                name,
                "pretrain.py",
                {
                    "out": runs[name],
                    "architecture.num_hidden_layers": depth,
                    "architecture.hidden_size": width,
                    "architecture.intermediate_size": shape.intermediate_size,
                    "architecture.num_attention_heads": shape.num_attention_heads,
                    "architecture.num_key_value_heads": shape.num_key_value_heads,
                    "architecture.head_dim": self.head_dim,
                    "architecture.vocab_size": shape.vocab_size,
                    "architecture.max_position_embeddings": self.seq_len,
                    "architecture.tie_word_embeddings": "true" if self.tied else "false",
                    "data.train": self.text,
                    "data.tokenizer": self.tokenizer,
                    "data.held_out": self.held_out,
                    "steps": self.steps,
                    "batch_size": self.batch_size,
                    "accumulate": self.accumulate,
                    "remat": self.remat,
                    "seq_len": self.seq_len,
                    "optimizer.learning_rate": self.learning_rate,
                    "seed": self.seed,
                    "eval.every": max(1, self.steps // 5),
                    "eval.sample_tokens": 0,
                },
            )
        page, told = out / "sweep.html", out / "sweep.json"
        compared = {"runs": tuple(runs.values()), "out": page, "json": told}
        yield Step.tool("compare", "compare_runs", compared)

    def shapes(self) -> list[Architecture]:
        """A shape for each pair of the two sizes that are given."""
        rows = self.rows or (load_tokenizer(self.tokenizer).rows if self.tokenizer else 0)
        if not rows:
            raise InputError("config keys 'tokenizer' and 'rows' are both empty; give one")
        like = Architecture(vocab_size=rows, head_dim=self.head_dim, tie_word_embeddings=self.tied)
        rules = {"queries_per_kv": self.queries_per_kv, "ffn_multiple": self.ffn_multiple}
        found = []
        for depth, width, expansion in product(*map(self.sizes, ("depth", "width", "expansion"))):
            given = {"depth": int(depth), "width": int(width), "expansion": expansion}
            near = solve(self.parameters, like, **given, **rules, tolerance=0.25)
            depth, width = near.num_hidden_layers, near.hidden_size
            shape = solve(self.parameters, like, depth=depth, width=width, **rules, tolerance=0.02)
            found += [shape] if shape not in found else []  # two expansions may come to the same
        return found

    def sizes(self, name: str) -> list[float]:
        """The values of `depths`, `widths` or `expansions`; (0,) for one to be found."""
        key = f"{name}s"
        try:
            values = [float(word) for word in getattr(self, key).split(",") if word.strip()]
        except ValueError:
            values = [-1.0]
        if any(not 0 < v < math.inf or (name != "expansion" and v != int(v)) for v in values):
            raise InputError(
                f"config key '{key}' is {getattr(self, key)!r}; write numbers above 0 with commas"
                " between them"
            )
        return values or [0.0]


def get_config() -> Sweep:
    return Sweep()
