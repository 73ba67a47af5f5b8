"""RedWhale (arXiv 2408.11294): cleaned text, 20,000 pieces, rows by decomposition, four stages.

A tokenizer is trained on the cleaned text and its pieces of the script put behind the model's own;
a new row is the mean of the rows of its old pieces, in both tables; then the tables train, the odd
layers, the even layers, and the whole through adapters. With `chat`, what comes out is tuned on
conversations.

From summaries of the paper: 20,000 pieces of which 2,928 were there already (49,072 rows), 9.7B
tokens. How they are divided among the stages is not known: in equal parts is ours, as are the
filters that configs/corpus/korean.py lists.
"""

from dataclasses import dataclass
from typing import ClassVar

from maxlite.recipe import LAPTOP, Adaptation, Size

STAGES = ("tables", "odd", "even", "lora")


@dataclass
class RedWhale(Adaptation):
    sizes: ClassVar = {
        "paper": Size(9.7e9, 64, 2048, settings={"pieces": 20_000, "rows": 17_072}),
        "laptop": LAPTOP.of(40_000, {"pieces": 2000, "rows": 2000}),
    }

    def plan(self):
        yield from self.begin()
        yield from self.merge()
        yield self.extend("tokenizer", "mean", "mean")
        before = "extended"
        for number, stage in enumerate(STAGES, 1):
            config = f"redwhale/{stage}.py"
            yield self.stage(stage, config, before, number, 1 / len(STAGES))
            before = stage
        yield from self.end(before)


def get_config() -> RedWhale:
    return RedWhale()
