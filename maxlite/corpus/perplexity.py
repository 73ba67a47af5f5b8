"""Texts that a language model predicts well enough, and not suspiciously well.

CCNet keeps the text that a model of good text predicts best (arXiv 1911.00359 section 3), RedWhale
cleans a Korean corpus so (arXiv 2408.11294). Everything here is in bits per byte of a whole text,
the perplexity of its bytes being 2 to that power: other than a perplexity by token it means the
same whatever the model's tokenizer. Korean letters have three bytes of UTF-8, so Korean has fewer
bits a byte than English that is predicted as well.
"""

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from maxlite.corpus.step import Corpuswide, Result, Step
from maxlite.errors import InputError
from maxlite.tokenizer import load_tokenizer

Scorer = Callable[[Sequence[str]], np.ndarray]  # texts to bits per byte, float64 [N]

_HIGH, _LOW = "perplexity too high", "perplexity too low"


@dataclass
class Predicted(Step):
    """What steps that ask a language model have in common.

    Attributes:
      model: a run, or a Hugging Face folder.
      kenlm: instead of it, the file of an n-gram model that the package kenlm reads; each line of a
        text is a sentence to it. Its text must have been as the corpus is at this step.
      tokenizer: folder or file, if the n-gram model knows pieces of a tokenizer; empty: words with
        white space between.
      load_scorer: opens a model; set by who runs the steps, because it needs more than this room.
    """

    model: str = ""
    kenlm: str = ""
    tokenizer: str = ""

    load_scorer: ClassVar[Any] = None  # Callable[[str], Scorer]; on a step, not on the class
    _scorer: ClassVar[Any] = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_scorer": None}  # each process opens the model itself

    def check(self) -> None:
        if bool(self.model) == bool(self.kenlm):
            raise self.refuse("model", "give either a model or the file of a kenlm model")
        if self.model and not Path(self.model).expanduser().is_dir():
            raise self.refuse("model", "there is no such folder")
        if self.kenlm and not Path(self.kenlm).expanduser().is_file():
            raise self.refuse("kenlm", "there is no such file")
        if self.tokenizer and not self.kenlm:
            raise self.refuse("tokenizer", "a model has its own; this is for kenlm")

    def bits(self, texts: Sequence[str]) -> np.ndarray:
        """Bits per byte of each text, float64 [N]. The first call opens the model.

        Raises:
          InputError: it cannot be opened, or gives something that is no number.
        """
        if self._scorer is None:
            vars(self)["_scorer"] = self._opened()
        bits = np.asarray(self._scorer(texts), np.float64)
        if not np.isfinite(bits).all():
            text = texts[int(np.flatnonzero(~np.isfinite(bits))[0])]
            name = self.model or self.kenlm
            raise InputError(f"{name} gives no finite probability to {text[:40]!r}")
        return bits

    def _opened(self) -> Scorer:
        if self.kenlm:
            return _NGrams(self.kenlm, self.tokenizer)
        if self.load_scorer is None:
            raise ValueError("load_scorer has not been set")
        return self.load_scorer(self.model)


@dataclass
class Perplexity(Predicted):
    """Drops texts outside a range of bits per byte.

    Attributes:
      min_bits: below it a text is mostly repeated, or was in what the model learnt from.
      max_bits: above it a text is hardly language, or in another one; 0 for no limit.
    """

    min_bits: float = 0.0
    max_bits: float = 0.0

    def check(self) -> None:
        super().check()
        self.within("min_bits", 0, math.inf)
        if self.max_bits and not self.min_bits < self.max_bits:
            raise self.refuse("max_bits", "it must be above min_bits")
        if not self.min_bits and not self.max_bits:
            raise self.refuse("max_bits", "nothing would be dropped; set it, or min_bits")

    def apply(self, texts: Sequence[str]) -> list[Result]:
        most = self.max_bits or math.inf
        return [
            (text, _HIGH if bits > most else _LOW if bits < self.min_bits else "")
            for text, bits in zip(texts, self.bits(texts), strict=True)
        ]


@dataclass
class BestPredicted(Predicted, Corpuswide):
    """Keeps the share of all texts that has the fewest bits per byte.

    Attributes:
      keep: the share, by number of texts; those as good as the last one are kept as well.
    """

    keep: float = 0.9

    def check(self) -> None:
        super().check()
        self.within("keep", 0, 1)
        if not 0 < self.keep < 1:
            raise self.refuse("keep", "it would keep all or nothing")

    def sign(self, texts: Sequence[str]) -> np.ndarray:
        """Bits per byte, float32 [texts]."""
        return self.bits(texts).astype(np.float32)

    def match(self, part: int, parts: int, signatures: Sequence[np.ndarray]) -> np.ndarray:
        """Nothing: a rank is no matter of pairs; float32 [0]."""
        return np.zeros(0, np.float32)

    def resolve(
        self, signatures: Sequence[np.ndarray], matches: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """For each shard which of its texts are kept; bool [texts]."""
        bits = np.concatenate([np.zeros(0, np.float32), *signatures])
        last = math.ceil(self.keep * len(bits) - 1e-6) - 1
        limit = np.partition(bits, last)[last] if len(bits) else 0
        return [shard <= limit for shard in signatures]

    def judge(self, texts: Sequence[str], verdict: np.ndarray, start: int) -> list[Result]:
        kept = verdict[start : start + len(texts)]
        return [(text, "" if keep else _HIGH) for text, keep in zip(texts, kept, strict=True)]


class _NGrams:
    """A scorer by an n-gram model."""

    def __init__(self, file: str, tokenizer: str):
        try:
            kenlm: Any = importlib.import_module("kenlm")
        except ImportError:
            raise InputError(
                f"{file} needs the package kenlm, which is not installed; pip install kenlm, or "
                "give a model"
            ) from None
        try:
            self._model = kenlm.Model(str(Path(file).expanduser()))
        except (OSError, RuntimeError) as error:
            said = " ".join(str(error).split())
            raise InputError(f"{file} is not a model that kenlm can read: {said}") from None
        self._tokenizer = load_tokenizer(tokenizer) if tokenizer else None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        decades = [sum(map(self._model.score, self._sentences(text))) for text in texts]
        sizes = [max(1, len(text.encode())) for text in texts]
        return -np.array(decades, np.float64) * math.log2(10) / np.array(sizes)

    def _sentences(self, text: str) -> list[str]:
        lines = [line for line in text.split("\n") if line.strip()]
        if self._tokenizer is None:
            return lines
        piece = self._tokenizer.piece
        return [" ".join(map(piece, ids.tolist())) for ids in self._tokenizer.encode(lines)]
