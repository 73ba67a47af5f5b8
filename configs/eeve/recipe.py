"""EEVE-Korean (arXiv 2402.14714) and KoSOLAR: a vocabulary that the corpus asks for, seven stages.

The text is cleaned; the tokenizer gets the pieces that the text holds often enough (a loop until
nothing changes); the model gets rows for them, the input row of a piece the mean of its old pieces'
and the output row that of the first; then seven stages, from new input rows alone to the body. Each
reads a draw of its own of the documents, in which those with new and rare pieces come more often.

Published: 8,960 pieces, seen at least 6,000 times in 100 GB, in front of SOLAR-10.7B; 2B tokens in
all. How they are divided among the stages, and how documents were preferred, is not known: both
are ours.
"""

from dataclasses import dataclass
from typing import ClassVar

from maxlite.recipe import LAPTOP, Adaptation, Size, Step

# Of all tokens, by stage: to the first a fifth, as a re-implementation tells, the rest evenly.
SHARES = (0.2, *[0.8 / 6] * 6)


@dataclass
class Eeve(Adaptation):
    sizes: ClassVar = {
        "paper": Size(
            2e9, 64, 2048, settings={"candidates": 40_000, "min_count": 6000, "rows": 8960}
        ),
        "laptop": LAPTOP.of(70_000, {"candidates": 2000, "min_count": "auto", "rows": 2000}),
    }

    share: float = 0.5  # of the corpus that a stage draws its documents from
    first: int = 1  # stage to begin with; KoSOLAR is the fifth alone
    last: int = 7

    def plan(self):
        yield from self.begin()
        yield self.refine()
        yield self.extend("tokenizer", "mean", "first")
        before = "extended"
        chosen = range(self.first, self.last + 1)
        for number in chosen:
            config, order = f"eeve/stage{number}.py", self.path(f"order{number}")
            yield Step.tool(
                f"order{number}",
                "select_documents",
                {
                    "config": config,
                    "config.model": self.path("extended"),
                    "config.data.train": self.mixture,
                    "config.data.held_out": self.judged_on,
                    "config.seq_len": self.scale.seq_len,
                    "source": "corpus",
                    "share": self.share,
                    "seed": number,
                    "out": order,
                },
            )
            share = SHARES[number - 1] / sum(SHARES[i - 1] for i in chosen)
            drawn = {"data__train": "", "data__held_out": 0, "data__order": order}
            name = f"stage{number}"
            yield self.stage(name, config, before, number, share, **drawn)
            before = name
        yield from self.end(before)


def get_config() -> Eeve:
    return Eeve()
