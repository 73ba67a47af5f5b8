"""From the config's sources to tokens, sets for evaluation, and an order."""

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from maxlite import config
from maxlite.console import human, say
from maxlite.data import packing, sources
from maxlite.data.cache import tokenize
from maxlite.data.order import Order, OrderSource
from maxlite.data.view import View, split
from maxlite.errors import InputError
from maxlite.tokenizer import Tokenizer


@dataclass
class Corpus:
    """What a run reads.

    Attributes:
      order: which sequence comes when.
      views: the documents of each training source, in the order's order.
      evals: documents for evaluation, by name: those of `data.eval`, then the held-out share of
        each training source.
    """

    order: Order
    views: list[View]
    evals: dict[str, View]

    def summary(self, steps: int) -> str:
        """A table of the sources and of what so many steps read, for people."""
        sequences = steps * self.order.batch_size
        total = sum(source.weight for source in self.order.sources)
        lines = []
        for source, times in zip(self.order.sources, self.order.epochs(sequences), strict=True):
            lines.append(
                f"  {source.name}: {source.weight / total:.2%} of sequences, "
                f"{human(source.documents)} documents, {human(source.tokens)} tokens, "
                f"read {times:.3g} times"
            )
        for name, view in self.evals.items():
            lines.append(
                f"  {name} (evaluation): {human(len(view))} documents, {human(view.tokens)} tokens"
            )
        return "\n".join(["data:", *lines])


def load_corpus(
    settings: config.Data,
    tokenizer: Tokenizer,
    seed: int,
    seq_len: int,
    batch_size: int,
    progress: bool = True,
) -> Corpus:
    """Tokenises all sources, or finds them in the cache, and lays out the order.

    Args:
      settings: the config's `data`.
      tokenizer: encodes the text, and gives BOS and EOS to the sequences.
      seed: of the order.
      seq_len: tokens a sequence.
      batch_size: sequences a step.
      progress: show bars on stderr.

    Raises:
      InputError: a source that can't be read or holds nothing, two sources of one name, an order
        that can't be made.
    """
    train, held = list(settings.train), settings.held_out
    names = source_names(train)
    caches = [tokenize(s, tokenizer, settings, settings.cache, progress) for s in train]
    views, listed, evals = [], [], {}
    for name, source in zip(source_names(settings.eval), settings.eval, strict=True):
        cache = tokenize(source, tokenizer, settings, settings.cache, progress)
        evals[name] = View(cache, tokenizer.bos, tokenizer.eos)
    for name, source, cache in zip(names, train, caches, strict=True):
        view, rest = split(cache, tokenizer.bos, tokenizer.eos, held)
        if not len(view):
            raise InputError(
                f"held_out={held:g} leaves no document of source {name!r} for training: it has "
                f"only {len(cache)}; lower data.held_out"
            )
        if held and not len(rest):
            say(
                f"none of the {len(cache)} documents of {name} fell into its held-out share",
                progress,
            )
        elif held:
            evals[name if name not in evals else f"{name}-held-out"] = rest
        views.append(view)
        listed.append(
            OrderSource(
                name=name,
                content=view.content,
                weight=source.weight,
                windows=packing.windows(view, seq_len),
                documents=len(view),
                tokens=view.tokens,
                bytes=view.bytes,
                epochs=source.epochs,
            )
        )
    return Corpus(Order(listed, seed, seq_len, batch_size), views, evals)


def source_names(named: Sequence[config.Source]) -> list[str]:
    """A name for each source: its own, or one made from its glob.

    A made name is the file's stem, or that of the last folder without glob characters, and gets a
    number if it is taken.

    Raises:
      InputError: two sources are given one name, or a name that can't be part of a key.
    """
    given = [source.name for source in named if source.name]
    for name in given:
        if "/" in name:
            raise InputError(f"the source name {name!r} has a '/'; names become parts of keys")
        if given.count(name) > 1:
            raise InputError(f"two sources are named {name!r}; give each its own name")
    taken = set(given)
    names = []
    for source in named:
        name = source.name
        if not name:
            base = name = _stem(source.glob)
            number = 2
            while name in taken:
                name, number = f"{base}-{number}", number + 1
            taken.add(name)
        names.append(name)
    return names


def _stem(pattern: str) -> str:
    for part in reversed(PurePath(pattern).parts):
        ends = [suffix for suffix in sources.SUFFIXES if part.lower().endswith(suffix)]
        plain = part[: len(part) - max(map(len, ends), default=0)]
        if glob.has_magic(part):
            plain = re.sub(r"\[[^]]*\]|[*?]", "", plain).strip("-_. ")
        if plain.strip("./~"):
            return plain
    return "text"
