"""Experiments: recipes that train a model in several ways, each with several seeds, and compare."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from maxlite.config import Architecture
from maxlite.data.sources import documents, expand
from maxlite.errors import InputError
from maxlite.hf.folder import open_shape
from maxlite.mixture import Source
from maxlite.recipe.steps import TRAIN, Recipe, Step
from maxlite.tokenizer import load_tokenizer

_SAMPLE = 2_000  # documents by which it is told how many tokens a byte becomes


@dataclass
class Experiment(Recipe):
    """A recipe that asks which way of training `model` on `corpus` is better.

    Runs that are compared read as much text, in bytes, whatever their tokenizers make of it. A run
    is called NAME-SEED. The last step writes what all came to into OUT/runs.json and OUT/runs.html.
    """

    required = ("model", "corpus", "keep")

    model: str = ""  # a Hugging Face folder, which knows the text of keep
    extended: str = ""  # the same with rows for new pieces, its tables not tied
    corpus: str = ""  # text to learn from: files, as one glob
    keep: str = ""  # text of what it knows, to judge by: one glob
    seeds: int = 3  # runs of each kind
    megabytes: float = 0.4  # of text that each reads, of 1e6 bytes
    batch_size: int = 4
    seq_len: int = 128
    learning_rate: float = 2e-3  # the same in all, at its highest

    def arms(self) -> Iterator[Step]:
        """The steps that make the runs, those of `trained` among them."""
        raise NotImplementedError

    def plan(self) -> Iterator[Step]:
        runs: list[str] = []
        for step in self.arms():
            runs += step.makes if step.module == TRAIN else ()
            yield step
        told = {"out": self.path("runs.html"), "json": self.path("runs.json"), "spread": True}
        yield Step.tool("compare", "compare_runs", {"runs": tuple(runs), **told})

    def inputs(self) -> dict[str, str]:
        named = ("model", "extended", "corpus", "keep")
        return {key: getattr(self, key) for key in named if getattr(self, key)}

    def path(self, name: str) -> str:
        """Of something that a step makes."""
        return f"{self.out or 'OUT'}/{name}"

    def text(self, kept: float) -> dict[str, Any]:
        """Keys of a run that reads `corpus`, and a share of `keep`."""
        if not kept:
            return {"data.train": f"corpus={self.corpus}", "data.eval": f"keep={self.keep}"}
        both = f"corpus={self.corpus}:{1 - kept:g},keep={self.keep}:{kept:g}"
        return {"data.train": both, "data.eval": ""}

    def shape(self, folder: str) -> Architecture:
        """Of a model that is there before the recipe begins."""
        return open_shape(folder).architecture

    def tokens(self, tokenizer: str) -> float:
        """How many a run reads, BOS and EOS among them, for its share of the text.

        Args:
          tokenizer: a folder or file.

        Raises:
          InputError: the corpus has no text, or cannot be read.
        """
        files = expand(Source(self.corpus))
        texts = list(islice(chain.from_iterable(map(documents, files)), _SAMPLE))
        if not any(texts):
            raise InputError(f"config key 'corpus': there is no text in {self.corpus}; name more")
        ids = sum(len(found) + 2 for found in load_tokenizer(tokenizer).encode(texts))
        return self.megabytes * 1e6 * ids / sum(len(text.encode()) for text in texts)

    def trained(
        self,
        name: str,
        seed: int,
        config: str,
        model: str,
        tokens: float,
        stage: int = 0,
        looks: int = 1,
        kept: float = 0.0,
        **keys: Any,
    ) -> Step:
        """A run, which is compared with the others in the end.

        Args:
          name: of its kind; the step and the run have the seed behind it.
          seed: of what is drawn, the order of the text among it.
          config: the stage's file.
          model: what it begins from, a folder; empty: random weights.
          tokens: that it reads.
          stage: of several with one seed, each of which begins elsewhere in the text.
          looks: how often it is judged, after the beginning; the last time is its end.
          kept: share of `keep` in what it reads.
          keys: of the config that are not as in the file or here, "." written "__".
        """
        steps = max(1, round(tokens / (self.batch_size * self.seq_len)))
        settings = {
            **({"model": model} if model else {}),
            "out": self.path(f"{name}-{seed}"),
            **self.text(kept),
            "data.held_out": 0.05,
            "seed": seed + 100 * stage,
            "steps": steps,
            "batch_size": self.batch_size,
            "seq_len": self.seq_len,
            "remat": "none",
            "optimizer.learning_rate": self.learning_rate,
            "eval.every": max(1, -(-steps // looks)),
            "eval.documents": 50,
            "eval.sample_tokens": 0,
            "checkpoint.every": steps,
            **{key.replace("__", "."): value for key, value in keys.items()},
        }
        return Step.train(f"{name}-{seed}", config, settings)
