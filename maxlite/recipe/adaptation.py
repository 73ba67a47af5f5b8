"""What the recipes share that teach a model a language: their settings, sizes and common steps.

Text is cleaned first. What each step makes lies in `out` under the step's name; the adapted model
is OUT/model. OUT/before.json, OUT/after.json and OUT/samples.jsonl show what it has learned: bits
per byte of held-out documents of the cleaned text (and of `keep`), and texts that it writes.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf.folder import open_folder, open_shape, without_weights
from maxlite.recipe.steps import Recipe, Step
from maxlite.storage import place


@dataclass(frozen=True)
class Size:
    """How large a recipe is done.

    Attributes:
      tokens: of all its stages together.
      batch_size, seq_len: of each.
      held_out: share of the documents that it is judged on.
      documents: of each held-out set, at most; 0: all.
      tuning: steps on conversations; 0: as the config has.
      stage: other keys of a stage's config.
      settings: what the recipe itself scales, by names of its own.
    """

    tokens: float
    batch_size: int
    seq_len: int
    held_out: float = 0.005
    documents: int = 1000
    tuning: int = 0
    stage: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def of(self, tokens: float, settings: Mapping[str, Any] | None = None) -> "Size":
        """The same for another number of tokens, with settings of a recipe."""
        return dataclasses.replace(self, tokens=tokens, settings=settings or {})


# Minutes on two cores with a very small model, which few steps must move.
LAPTOP = Size(
    50_000,
    batch_size=4,
    seq_len=128,
    held_out=0.03,
    documents=200,
    tuning=40,
    stage={"optimizer.learning_rate": 1e-3, "remat": "none", "eval.documents": 100, "log.every": 5},
)


@dataclass
class Adaptation(Recipe):
    """A recipe that adapts `model` to `corpus`."""

    required = ("model", "corpus")
    sizes: ClassVar[Mapping[str, Size]] = {}

    model: str = ""  # a Hugging Face folder
    corpus: str = ""  # text to learn from: files, as globs with commas between them
    keep: str = ""  # text of what shall not be forgotten, read beside it: globs; empty: none
    chat: str = ""  # conversations to tune on in the end, see docs/chat.md; empty: no tuning
    tune: str = "sft.py"  # the config of that, which says their template: the model's own
    cleaning: str = "korean.py"  # a config of tools.clean_corpus
    script: str = "Hangul"  # of the language: what new pieces are made of
    size: str = "paper"  # or laptop, for minutes on two cores
    tokens: float = 0.0  # to train on in all stages together; 0: by size
    held_out: float = 0.0  # share of the documents to judge by; 0: by size
    prompt: str = ""  # that the samples begin with

    @property
    def scale(self) -> Size:
        """What `size` means.

        Raises:
          InputError: there is no such size.
        """
        if self.size not in self.sizes:
            there = ", ".join(self.sizes)
            raise InputError(f"config key 'size' is {self.size!r}; there are {there}")
        return self.sizes[self.size]

    @property
    def judged_on(self) -> float:
        """The share of the documents that is held out."""
        return self.held_out or self.scale.held_out

    @property
    def base(self) -> Architecture | None:
        """The shape of `model`; None where it is not on this machine."""
        if not self.model or not place(self.model).exists():
            return None
        folder = place(self.model)
        return (open_shape if without_weights(folder) else open_folder)(folder).architecture

    @property
    def named(self) -> str:
        """`model`, or in a plan without one a word for it."""
        return self.model or "MODEL"

    def path(self, name: str) -> str:
        """Of something that a step makes."""
        return f"{self.out or 'OUT'}/{name}"

    @property
    def clean(self) -> str:
        """The cleaned text, as a glob."""
        return self.path("clean/*.jsonl.zst")

    def begin(self) -> Iterator[Step]:
        """The text is cleaned, and the model judged as it is."""
        given = {"config": self.cleaning, "config.text": self.corpus or "TEXT"}
        yield Step.tool("clean", "clean_corpus", {**given, "config.out": self.path("clean")})
        yield self.judge("before", self.named)

    def refine(self) -> Step:
        """The model's tokenizer with pieces that the text holds often, as EEVE found them."""
        known = self.scale.settings
        flags = {
            "base": self.named,
            "text": self.clean,
            "script": self.script,
            "candidates": known["candidates"],
            "min_count": known["min_count"],
            "out": self.path("tokenizer"),
        }
        return Step.tool("tokenizer", "refine_vocab", flags)

    def merge(self, as_published: bool = False) -> Iterator[Step]:
        """A tokenizer is trained on the text, and its pieces put behind the model's own.

        Args:
          as_published: as Chinese-LLaMA did it: a Unigram model, its pieces of every script taken,
            all with the score 0. Otherwise pieces are like the model's own, and of the script.
        """
        pieces = {"text": self.clean, "size": self.scale.settings["pieces"]}
        kind = {"kind": "sentencepiece_unigram"} if as_published else {"base": self.named}
        yield Step.tool("pieces", "train_tokenizer", {**pieces, **kind, "out": self.path("pieces")})
        which = {"scores": "published"} if as_published else {"keep": f"script:{self.script}"}
        both = {"base": self.named, "extra": self.path("pieces")}
        out = {"out": self.path("tokenizer")}
        yield Step.tool("tokenizer", "merge_tokenizer", {**both, **which, **out})

    def extend(self, tokenizer: str, input_init: str, output_init: str) -> Step:
        """The model with rows for the new pieces of a tokenizer, as OUT/extended.

        Args:
          tokenizer: its name in `out`.
          input_init, output_init: the rules of tools.extend_vocab.
        """
        tied = self.base.tie_word_embeddings if self.base else False
        flags = {
            "model": self.named,
            "tokenizer": self.path(tokenizer),
            "input_init": input_init,
            "output_init": output_init,
            "untie": tied,
            "out": self.path("extended"),
        }
        return Step.tool("extended", "extend_vocab", flags)

    def expects(self) -> dict[str, Architecture]:
        rows = self.scale.settings.get("rows", 0)
        if not self.base or not rows:
            return {}
        known = self.base.vocab_size
        arch = dataclasses.replace(
            self.base, vocab_size=known + rows, base_rows=known, tie_word_embeddings=False
        )
        return {self.path("extended"): arch}

    def stage(
        self, name: str, config: str, model: str, number: int, share: float, **keys: Any
    ) -> Step:
        """A stage of continued training.

        Args:
          name: of the step, and of its run in `out`.
          config: its file, such as "eeve/stage1.py".
          model: what it begins from: a name in `out`, or `named`.
          number: its seed; if all had the same, all would read the same text first.
          share: of the recipe's tokens.
          keys: of the config that are not as in the file, "." written "__".
        """
        scale = self.scale
        room = scale.batch_size * scale.seq_len
        settings = {
            "model": model if model == self.named else self.path(model),
            "out": self.path(name),
            "data.train": self.mixture,
            "data.held_out": self.judged_on,
            "steps": max(1, round((self.tokens or scale.tokens) * share / room)),
            "batch_size": scale.batch_size,
            "seq_len": scale.seq_len,
            "seed": number,
            **scale.stage,
            **{key.replace("__", "."): value for key, value in keys.items()},
        }
        return Step.train(name, config, settings)

    @property
    def mixture(self) -> str:
        """What a stage reads, as `data.train` has it: nine parts of the corpus to one of `keep`."""
        beside = [f"{glob}:{1 / len(self.kept):g}" for glob in self.kept]
        return ",".join((f"corpus={self.clean}:9", *beside))

    @property
    def kept(self) -> list[str]:
        """The globs of `keep`."""
        return [glob for glob in self.keep.split(",") if glob]

    def end(self, last: str) -> Iterator[Step]:
        """The conversations, if there are any; then the model is judged again and writes samples.

        Args:
          last: the stage whose result is exported, as OUT/adapted if it is to be tuned.
        """
        if self.chat:  # not from the run itself, which may have adapters
            yield self._export(last, "adapted")
            yield self._tuning("adapted")
            last = "tuned"
        yield self._export(last, "model")
        yield self.judge("after", self.path("model"))
        yield Step.tool(
            "samples",
            "generate",
            {
                "model": self.path("model"),
                "prompt": self.prompt or None,
                "count": 8,
                "max_new_tokens": min(200, self.scale.seq_len // 2),
                "temperature": 0.7,
                "out": self.path("samples.jsonl"),
            },
        )

    def _export(self, run: str, name: str) -> Step:
        flags = {"run": self.path(run), "out": self.path(name), "card": True}
        return Step.tool(name, "export_hf", flags)

    def _tuning(self, model: str) -> Step:
        keys: dict[str, Any] = {
            "model": self.path(model),
            "out": self.path("tuned"),
            "data.train": self.chat,
        }
        scale = self.scale
        if scale.tuning:
            room = min(512, self.base.max_position_embeddings) if self.base else 512
            keys |= {"steps": scale.tuning, "batch_size": scale.batch_size, "seq_len": room}
            keys |= scale.stage
        return Step.train("tuned", self.tune, keys)

    def judge(self, name: str, model: str) -> Step:
        """Scores a model on what is held out, beside what `before` found, as OUT/NAME.json."""
        flags = {
            "model": model,
            "text": (self.clean, *self.kept),
            "held_out": self.judged_on,
            "documents": self.scale.documents,
            "before": None if name == "before" else self.path("before.json"),
            "json": self.path(f"{name}.json"),
        }
        return Step.tool(name, "evaluate", flags)

    def inputs(self) -> dict[str, str]:
        named = {"corpus": self.corpus, "keep": self.keep, "chat": self.chat}
        if place(self.model).exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", self.model):
            named["model"] = self.model  # and no name on the hub
        return {key: text for key, text in named.items() if text}
