"""Chinese-LLaMA-Alpaca (arXiv 2304.08177): a merged tokenizer, two stages, then instructions.

A tokenizer is trained on the cleaned text, and its pieces of the script put behind the model's own;
new rows are drawn at random (normal, 0.02) in both tables; stage 1 trains the input table alone,
stage 2 adapters on the attention and both tables. With `chat`, what comes out is tuned on
conversations.

Published: 20,000 pieces, 2,047 of them LLaMA's already: 49,953 rows; 20 GB of text, sequences of
512 tokens, batches of 1,024. Their pieces are of all scripts and of a Unigram model, of which some
can never be produced; ours are of the script and BPE, unless as_published=true.
"""

from dataclasses import dataclass
from typing import ClassVar

from maxlite.recipe import LAPTOP, Adaptation, Size


@dataclass
class ChineseLlama(Adaptation):
    sizes: ClassVar = {
        # 20 GB are about 6.7e9 characters, at 0.48 of LLaMA's 1.3 tokens each
        "paper": Size(4.2e9, 1024, 512, settings={"pieces": 20_000, "rows": 17_953}),
        "laptop": LAPTOP.of(40_000, {"pieces": 2000, "rows": 2000}),
    }

    cleaning: str = "chinese.py"
    script: str = "Han"
    tune: str = "chinese_llama/sft.py"  # with Alpaca's template, adapters and both tables
    as_published: bool = False  # Unigram pieces of every script, all with the score 0
    rows_init: str = "normal"  # of new rows in both tables; mean begins at a lower loss
    first_share: float = 0.2  # of the tokens that stage 1 gets; not published

    def plan(self):
        yield from self.begin()
        yield from self.merge(self.as_published)
        yield self.extend("tokenizer", self.rows_init, self.rows_init)
        first = self.first_share
        yield self.stage("stage1", "chinese_llama/pretrain1.py", "extended", 1, first)
        yield self.stage("stage2", "chinese_llama/pretrain2.py", "stage1", 2, 1 - first)
        yield from self.end("stage2")


def get_config() -> ChineseLlama:
    return ChineseLlama()
