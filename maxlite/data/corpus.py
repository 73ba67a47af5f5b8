"""From the config's sources to tokens, sets for evaluation, and an order."""

import contextlib
import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from maxlite import config
from maxlite.console import human, say
from maxlite.data import packing, sources
from maxlite.data.cache import TokenCache, tokenize
from maxlite.data.order import Order, OrderSource
from maxlite.data.orders import FILE, Listed, OrderFile, read_order
from maxlite.data.view import View, split
from maxlite.errors import InputError
from maxlite.mixture import is_read
from maxlite.storage import is_url
from maxlite.tokenizer import Tokenizer


@dataclass
class Corpus:
    """What a run reads.

    Attributes:
      order: which sequence comes when.
      views: the documents of each training source, in the order's order.
      evals: documents for evaluation, by name: those of `data.eval`, then the held-out share of
        each training source.
      file: what the order was made from, for `orders.write_order`.
      template: the name of the chat template that conversations among them have; "" without any.
    """

    order: Order
    views: list[View]
    evals: dict[str, View]
    file: OrderFile
    template: str = ""

    def summary(self, steps: int) -> str:
        """A table of the sources and of what so many steps read, for people."""
        read = self.order.read(steps)
        lines = []
        for source in self.order.sources:
            asked, share, epochs = read[source.name]
            lines.append(
                f"  {source.name}: {share:.2%} of tokens ({asked:.2%} asked for), "
                f"{human(source.documents)} documents, {human(source.tokens)} tokens, "
                f"read {epochs:.3g} times"
            )
        for source, view in zip(self.order.sources, self.views, strict=True):
            if view.cache.learnt is not None:
                lines.append(f"  {source.name} holds conversations: {self._left_out(view)}")
        for step, weights in self.order.phases:
            if 0 < step < steps:
                shares = zip(self.order.sources, weights, strict=True)
                mixed = ", ".join(f"{source.name} {w / sum(weights):.2%}" for source, w in shares)
                lines.append(f"  from step {step}: {mixed}")
        for name, view in self.evals.items():
            lines.append(
                f"  {name} (evaluation): {human(len(view))} documents, {human(view.tokens)} tokens"
            )
        return "\n".join(["data:", *lines])

    def _left_out(self, view: View) -> str:
        """Which conversations of a source are not read, for people."""
        other = view.cache.left_out
        parts = [f"{view.left_out:,} longer than {self.file.seq_len} tokens"]
        parts += [f"{other:,} with the name of a special token in their text"] * (other > 0)
        return f"only responses are learnt; left out are {' and '.join(parts)}"

    def chosen(
        self, documents: Mapping[str, np.ndarray], notes: Mapping[str, Any] | None = None
    ) -> OrderFile:
        """The same order, made of chosen documents alone; `orders.write_order` writes it.

        Args:
          documents: by the name of a source (`order.sources[k].name`), which documents of its token
            cache (`views[k].cache`) to read: int64 [D], ascending. What is held out may not be
            among them; `views[k].index` has all the others (None: all). A source that is not named
            stays as it is.
          notes: what to say of the choice, for people; plain JSON.

        Raises:
          InputError: no such source, a choice that can't be read, or an order that keeps chosen
            sequences, which would be others.
        """
        if self.file.kept:
            raise InputError(
                "documents can't be chosen from an order that keeps chosen sequences: choose them "
                "from the order that it was made from"
            )
        names = [source.name for source in self.order.sources]
        if unknown := documents.keys() - set(names):
            raise InputError(
                f"there is no source {min(unknown)!r} to choose from, only "
                f"{', '.join(map(repr, names))}"
            )
        sources = tuple(
            replace(old, documents=documents.get(old.source.name, old.documents))
            for old in self.file.sources
        )
        made = replace(
            self.file, sources=sources, base=self.file.fingerprint, notes=dict(notes or {})
        )
        for listed, view in zip(sources, self.views, strict=True):
            _training_side(listed, view.cache, made)
        return made


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
      settings: the config's `data`; its `order`, if there is one, says what is read instead of
        `train`.
      tokenizer: encodes the text, and gives BOS and EOS to the sequences.
      seed: of the order; one that `settings.order` names has its own.
      seq_len: tokens a sequence; that of the order, if there is one.
      batch_size: sequences a step.
      progress: show bars on stderr.

    Raises:
      InputError: a source that can't be read or holds nothing, two sources of one name, an order
        that can't be made, or one of another text, tokenizer or sequence length.
    """
    file = read_order(settings.order) if settings.order else None
    if file:
        file.check(settings, tokenizer, seq_len)
        train, held = [listed.source for listed in file.sources], file.held_out
        cut = replace(settings, txt=file.txt)
    else:
        train, held, cut = read_at_all(settings.train, progress), settings.held_out, settings
    caches, chats = [], _template(train)
    for source in train:
        with _said_of_order(source, settings.order):
            caches.append(tokenize(source, tokenizer, cut, progress))
    evals = {}
    for name, source in zip(source_names(settings.eval), settings.eval, strict=True):
        cache = tokenize(source, tokenizer, settings, progress)
        evals[name] = View(cache, tokenizer.bos, tokenizer.eos)
    if file:
        for listed, cache in zip(file.sources, caches, strict=True):
            if cache.content != listed.content:
                raise InputError(
                    f"the text of source {listed.source.name!r} ({listed.source.glob}) is not what "
                    f"the order in {settings.order} was made of; restore the files, or make an "
                    "order anew"
                )
    else:
        file = OrderFile(
            tuple(Listed(s, cache.content) for s, cache in zip(train, caches, strict=True)),
            tokenizer.fingerprint,
            tokenizer.bos,
            tokenizer.eos,
            seed,
            seq_len,
            held,
            settings.txt,
        )
    views, known = [], []
    for listed, cache in zip(file.sources, caches, strict=True):
        view, rest = _training_side(listed, cache, file)
        name = listed.source.name
        if held and not len(rest):
            say(
                f"none of the {len(cache)} documents of {name} fell into its held-out share",
                progress,
            )
        elif held:
            evals[name if name not in evals else f"{name}-held-out"] = rest
        views.append(view)
        known.append(
            OrderSource(
                name=name,
                content=view.content,
                weight=listed.source.weight,
                windows=packing.windows(view, seq_len),
                documents=len(view),
                tokens=view.tokens,
                bytes=view.bytes,
                epochs=listed.source.epochs,
                later=listed.source.later,
                inputs=max(0, view.length - 1),
            )
        )
    return Corpus(file.order(known, batch_size), views, evals, file, chats)


def _template(sources: Sequence[config.Source]) -> str:
    """The template of a run's conversations; "" if it has none.

    Raises:
      InputError: they have several, of which a model's folder could hold only one.
    """
    found = sorted({source.template for source in sources if source.template})
    if len(found) > 1:
        raise InputError(
            f"the sources have several chat templates ({', '.join(found)}), but the model is "
            "exported with one; give them the same"
        )
    return found[0] if found else ""


@contextlib.contextmanager
def _said_of_order(source: config.Source, order: str) -> Iterator[None]:
    """Adds to what is wrong with a source that an order names it, if one does."""
    try:
        yield
    except InputError as error:
        if not order:
            raise
        place = Path(source.glob).expanduser()
        here = "" if is_url(source.glob) or place.is_absolute() else f" from {Path.cwd()}"
        raise InputError(
            f"source {source.name!r} of the order in {order}: {error}; it was looked for{here} as "
            f"{FILE} there says, where you may change its glob"
        ) from None


def read_at_all(train: Sequence[config.Source], progress: bool = False) -> list[config.Source]:
    """The sources that have a weight at some step, under their names; says which have none."""
    named = [replace(s, name=n) for s, n in zip(train, source_names(train), strict=True)]
    for source in named:
        say(f"source {source.name} has weight 0: not read", progress and not is_read(source))
    return [source for source in named if is_read(source)]


def _training_side(listed: Listed, cache: TokenCache, file: OrderFile) -> tuple[View, View]:
    """The documents of a source that are trained on, and those that are held out."""
    name, held = listed.source.name, file.held_out
    try:
        view, rest = split(cache, file.bos, file.eos, held, listed.documents)
        view = view.fitting(file.seq_len)
    except InputError as error:
        raise InputError(f"source {name!r}: {error}") from None
    if not len(view) and view.left_out:
        raise InputError(
            f"none of the {view.left_out} conversations of source {name!r} has at most "
            f"seq_len={file.seq_len} tokens, and none is ever cut; raise seq_len"
        )
    if not len(view):
        raise InputError(
            f"no document of source {name!r} is chosen; leave it out, or choose some"
            if listed.documents is not None
            else f"held_out={held:g} leaves no document of source {name!r} for training: it has "
            f"only {len(cache)}; lower data.held_out"
        )
    return view, rest


def source_names(named: Sequence[config.Source]) -> list[str]:
    """A name for each source: its own, or one made from its glob.

    A made name is the stem of the file or of the folder of tokens, or that of the last folder
    without glob characters, and gets a number if it is taken.

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
        ends = [
            end
            for end in (*sources.SUFFIXES, *sources.CHAT_SUFFIXES, ".tokens")
            if part.lower().endswith(end)
        ]
        plain = part[: len(part) - max(map(len, ends), default=0)]
        if glob.has_magic(part):
            plain = re.sub(r"\[[^]]*\]|[*?]", "", plain).strip("-_. ")
        if plain.strip("./~"):
            return plain
    return "text"
