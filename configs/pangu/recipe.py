"""PanGu-pi Pro, RethinkTinyLM (arXiv 2402.02791): a small model out of a large one.

The tokenizer is cut to the pieces that the cleaned text needs; small shapes are compared on it (a
sweep, which is to be looked at: it chooses nothing); the layers, heads and channels of the large
model that matter most become the small one; it is trained for a round, its losses choose the half
of the text that the second round reads, hard parts more often.

Published: 48,000 of 100,883 pieces; width 1792, by the configuration 20 layers, 4,864 FFN channels:
951,983,872 parameters, 18.07 % of them in the tables; 50 % in the second round; batches of 2M
tokens, 1.6T tokens in all, which is what size=paper has.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from maxlite.config import Architecture
from maxlite.recipe import LAPTOP, Adaptation, Size, Step
from maxlite.recipe.steps import PYTHON


@dataclass
class PanGu(Adaptation):
    sizes: ClassVar = {
        "paper": Size(
            1.6e12,
            1024,
            2048,
            stage={"optimizer.learning_rate": 2e-4, "remat": "full", "accumulate": 16},
            settings={
                "pieces": 48_000,
                "sweep": {"parameters": 951_983_872, "steps": 2400, "head_dim": 128},
            },
        ),
        "laptop": LAPTOP.of(
            40_000, {"pieces": 0, "sweep": {"parameters": 300_000, "steps": 5, "depths": "2,4"}}
        ),
    }

    pieces: int = 0  # that the tokenizer keeps; 0: by size, on a laptop three quarters of all
    hidden_size: int = 0  # of the small model; 0: the paper's, or on a laptop the model's
    num_hidden_layers: int = 0  # 0: 20, or on a laptop all but one
    intermediate_size: int = 0  # 0: 4,864, or on a laptop half
    num_attention_heads: int = 0  # 0: 14, or on a laptop all
    criterion: str = "activation"  # what matters most; learned is the paper's, and takes longer
    sequences: int = 64  # that it is measured on
    fraction: float = 0.5  # of the first round's sequences that the second reads
    sweep: bool = True  # compare shapes first

    def plan(self):
        tokenizer = self.path("tokenizer")
        yield from self.begin()
        counts = {"tokenizer": self.named, "text": self.clean, "out": self.path("counts.json")}
        yield Step.tool("counts", "count_tokens", counts)
        yield Step.tool(
            "tokenizer",
            "compact_tokenizer",
            {
                "tokenizer": self.named,
                "counts": self.path("counts.json"),
                "size": self.rows,
                "out": tokenizer,
            },
        )
        yield Step.tool(
            "compact",
            "compact_vocab",
            {
                "model": self.named,
                "kept_ids": f"{tokenizer}/kept_ids.txt",
                "tokenizer": tokenizer,
                "out": self.path("compact"),
            },
        )
        if self.sweep:
            yield self.swept(tokenizer)
        yield Step.tool(
            "inherited",
            "inherit",
            {
                "model": self.path("compact"),
                **self.shape,
                "criterion": self.criterion,
                "text": self.clean,
                "sequences": self.sequences,
                "seq_len": self.scale.seq_len,
                "out": self.path("inherited"),
            },
        )
        yield self.judge("untrained", self.path("inherited"))
        rounds = 1 + self.fraction
        yield self.stage("round1", "continue.py", "inherited", 1, 1 / rounds)
        scores, order = self.path("scores"), self.path("order2")
        one = self.path("round1")
        yield Step.tool("scores", "score_batches", {"model": one, "order": one, "out": scores})
        drawn = {"scores": scores, "order": one, "fraction": self.fraction, "out": order}
        yield Step.tool("order2", "resample", drawn)
        again = {"data__train": "", "data__held_out": 0, "data__order": order}
        yield self.stage("round2", "continue.py", "round1", 2, self.fraction / rounds, **again)
        yield from self.end("round2")

    @property
    def rows(self) -> int:
        """Of the small model."""
        known = self.base.vocab_size if self.base else 100_883
        return self.pieces or self.scale.settings["pieces"] or known * 3 // 4

    @property
    def shape(self) -> dict[str, int]:
        """Sizes of the small model, under config.json's names."""
        base = self.base
        if self.size == "laptop" and base:
            chosen = {
                "num_hidden_layers": max(1, base.num_hidden_layers - 1),
                "intermediate_size": base.intermediate_size // 2,
            }
        else:
            chosen = {
                "hidden_size": 1792,
                "num_hidden_layers": 20,
                "intermediate_size": 4864,
                "num_attention_heads": 14,
            }
        sizes = ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads")
        return chosen | {name: getattr(self, name) for name in sizes if getattr(self, name)}

    def swept(self, tokenizer: str) -> Step:
        """The sweep, a recipe of its own."""
        keys = {
            "text": self.clean,
            "tokenizer": tokenizer,
            "seq_len": self.scale.seq_len,
            "out": self.path("sweep"),
            **self.scale.settings["sweep"],
        }
        words = [f"--config.{key}={value}" for key, value in keys.items()]
        command = (PYTHON, "-m", "maxlite.recipe", "--config=pangu/sweep.py", *words)
        return Step("sweep", command, (self.path("sweep/sweep.json"),))

    def expects(self):
        base = self.base or Architecture(head_dim=128, num_attention_heads=32)
        heads = self.shape.get("num_attention_heads", base.num_attention_heads)
        shared = base.num_attention_heads // base.num_key_value_heads
        small = {
            **self.shape,
            "vocab_size": self.rows,
            "num_key_value_heads": heads // shared,
            "base_rows": 0,
        }
        return {self.path("inherited"): dataclasses.replace(base, **small)}


def get_config() -> PanGu:
    return PanGu()
