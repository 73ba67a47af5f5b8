"""What the experiments begin from: text, a small model that knows one language, and its extension.

With `model`, `corpus` and `keep` they are about a model and text of one's own. What is not given is
made: stories in Korean and in English, and a model of 0.4M parameters that has read English ones,
with one in a hundred of Korean.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from maxlite.hf.folder import open_shape
from maxlite.recipe import Recipe, Step
from maxlite.recipe.steps import PYTHON


@dataclass
class Base(Recipe):
    model: str = ""  # a Hugging Face folder; empty: one is made
    corpus: str = ""  # text to learn from, as one glob; empty: made
    keep: str = ""  # text of what the model knows; empty: made
    script: str = "Hangul"  # of the language: what new pieces are made of
    candidates: int = 1200  # pieces to choose from
    min_count: str = "60"  # times that a piece is in the text, to be taken
    steps: int = 600  # of the model's own training, 2,048 tokens each

    def inputs(self):
        named = ("model", "corpus", "keep")
        return {key: getattr(self, key) for key in named if getattr(self, key)}

    def path(self, name: str) -> str:
        return f"{self.out or 'OUT'}/{name}"

    def plan(self):
        corpus, keep = self.corpus, self.keep
        if not corpus:
            corpus = self.path("corpus.txt")
            yield self.stories("corpus", "ko", 6000)
        if not keep:
            keep = self.path("keep.txt")
            yield self.stories("keep", "en", 300)
        if not self.model:
            yield from self.made()
        model, tokenizer = self.model or self.path("model"), self.path("tokenizer")
        yield Step.tool(
            "tokenizer",
            "refine_vocab",
            {
                "base": model,
                "text": corpus,
                "script": self.script,
                "candidates": self.candidates,
                "min_count": self.min_count,
                "out": tokenizer,
            },
        )
        tied = open_shape(model).architecture.tie_word_embeddings if self.model else True
        both = {"input_init": "mean", "output_init": "first", "untie": tied}
        yield Step.tool(
            "extended",
            "extend_vocab",
            {"model": model, "tokenizer": tokenizer, **both, "out": self.path("extended")},
        )

    def made(self) -> Iterator[Step]:
        """The model, of text that the experiments do not read."""
        read, beside, pieces = (self.path(name) for name in ("read.txt", "beside.txt", "pieces"))
        yield self.stories("read", "en", 8000, seed=1)
        yield self.stories("beside", "ko", 80, seed=1)
        command = (PYTHON, "launch/demo/make_tokenizer.py", f"--text={read}", f"--out={pieces}")
        yield Step("pieces", command, (pieces,))
        shape = {
            "hidden_size": 64,
            "intermediate_size": 176,
            "num_hidden_layers": 8,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 512,
        }
        yield Step.train(
            "model",
            "pretrain.py",
            {
                **{f"architecture.{key}": value for key, value in shape.items()},
                "data.train": f"{read}:99,{beside}:1",
                "data.tokenizer": pieces,
                "steps": self.steps,
                "batch_size": 16,
                "seq_len": 128,
                "optimizer.learning_rate": 4e-3,
                "eval.every": self.steps,
                "out": self.path("run"),
                "export": self.path("model"),
            },
        )

    def stories(self, name: str, language: str, count: int, seed: int = 0) -> Step:
        """Text that is made."""
        path = self.path(f"{name}.txt")
        told = (f"--language={language}", f"--stories={count}", f"--seed={seed}", f"--out={path}")
        return Step(name, (PYTHON, "launch/demo/make_text.py", *told), (path,))


def get_config() -> Base:
    return Base()
