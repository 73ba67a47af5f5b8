"""The whole story on a small scale, and the file to copy a recipe of your own from.

Text is cleaned; the tokenizer gets the pieces that it holds often, the model rows for them; a first
stage trains these rows alone, a second adapters on every projection and both tables; the adapters
are merged into a Hugging Face folder, which is judged beside the model before and writes samples.

Each step is a command that is printed before it runs. In a copy, `plan` is the place to leave steps
out or put others in; docs/recipes/README.md tells of what the class brings.
"""

from dataclasses import dataclass
from typing import ClassVar

from maxlite.recipe import LAPTOP, Adaptation, Size


@dataclass
class Demo(Adaptation):
    sizes: ClassVar = {
        "laptop": Size(
            tokens=1_000_000,
            batch_size=8,
            seq_len=256,
            held_out=0.03,
            documents=100,
            stage={**LAPTOP.stage, "optimizer.learning_rate": 4e-3, "log.every": 20},
            settings={"candidates": 1200, "min_count": 60, "rows": 900},
        ),
        "paper": Size(
            2e9, 64, 2048, settings={"candidates": 40_000, "min_count": 6000, "rows": 8960}
        ),
    }

    size: str = "laptop"
    first_share: float = 0.3  # of the tokens that stage 1 gets

    def plan(self):
        yield from self.begin()  # clean, before
        yield self.refine()
        yield self.extend("tokenizer", input_init="mean", output_init="mean")
        first = self.first_share
        yield self.stage("stage1", "stage1.py", "extended", number=1, share=first)
        yield self.stage("stage2", "stage2.py", "stage1", number=2, share=1 - first)
        yield from self.end("stage2")  # model, after, samples


def get_config() -> Demo:
    return Demo()
