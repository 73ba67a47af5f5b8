"""What a model is judged on: sets of documents with names, from files or as a run has them.

A set is a LANGUAGE, or a LANGUAGE/DOMAIN; files without such a name are a set each.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from maxlite.config import Data, Source
from maxlite.data.cache import tokenize
from maxlite.data.corpus import source_names
from maxlite.data.orders import read_order
from maxlite.data.sources import expand
from maxlite.data.tokens import names_cache
from maxlite.data.view import View, split
from maxlite.errors import InputError
from maxlite.mixture import listed
from maxlite.storage import Place
from maxlite.tokenizer import Tokenizer


@dataclass(frozen=True)
class Part:
    """The documents that a set has of one source.

    Attributes:
      set: the name of the set.
      source: the file, its `name` for people.
      txt: what a document of a .txt file is; see `config.Data`.
      held_out: only what training with this `data.held_out` leaves out; 0: all.
    """

    set: str
    source: Source
    txt: str = "line"
    held_out: float = 0.0

    def view(self, tokenizer: Tokenizer, progress: bool = True) -> View:
        """The documents as a tokenizer writes them, without EOS.

        Raises:
          InputError: as `tokenize`.
        """
        cache = tokenize(self.source, tokenizer, Data(txt=self.txt), progress)
        if self.held_out:
            return split(cache, tokenizer.bos, None, self.held_out)[1]
        return View(cache, tokenizer.bos, None)


def named_parts(
    text: str, field: str = "text", txt: str = "line", held_out: float = 0.0
) -> list[Part]:
    """The parts that a command line names: [NAME=]GLOB, with commas between them.

    Several globs may have one name, and a file that globs without one share counts once.

    Args:
      text: such as "ko=korean/*.txt,en/news=news.jsonl". A glob may be a folder of tokens.
      field: the text field of .jsonl and .parquet files.
      txt, held_out: of the parts.

    Raises:
      InputError: no such file, a weight, a file in two sets, or a language that is a set and has
        domains as well.
    """
    found: dict[str, Part] = {}
    for asked in listed(text, domains=True):
        if asked.weight != 1:
            raise InputError(
                f"--text gives {asked.glob!r} the weight {asked.weight:g}, but what is judged has "
                "none; leave it out"
            )
        paths = [asked.glob] if names_cache(asked.glob) else map(str, expand(asked))
        for path in paths:
            part = Part(asked.name or path, Source(path, name=path, field=field), txt, held_out)
            if found.setdefault(path, part).set != part.set:
                raise InputError(
                    f"{path} is in the sets {found[path].set!r} and {part.set!r}; name it in one"
                )
    parts = list(found.values())
    names = {part.set for part in parts if part.set != part.source.name}
    if both := {_language(name) for name in names if "/" in name} & names:
        raise InputError(
            f"--text has the set {min(both)!r} and domains of it; give that one a domain, too"
        )
    return parts


def run_parts(run: Place) -> list[Part]:
    """The parts of the sets that a run evaluates itself: `data.eval`, and what it holds out.

    Raises:
      InputError: it evaluates nothing, or its folder is damaged.
    """
    try:
        said = json.loads((run / "run.json").read_bytes())
        parts = [] if said.get("kind") == "import" else _evaluated(run, said["config"]["data"])
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise InputError(f"{run / 'run.json'} is damaged: {e!r}; restore it from a copy") from None
    if not parts:
        raise InputError(
            f"the run in {run} evaluates nothing: it has neither data.eval nor data.held_out; name "
            "text to judge it on with --text"
        )
    return parts


def _evaluated(run: Place, data: dict[str, Any]) -> list[Part]:
    order, sources = read_order(run), [Source(**entry) for entry in data["eval"]]
    names = source_names(sources)
    parts = [
        Part(name, replace(source, name=name), data["txt"])
        for name, source in zip(names, sources, strict=True)
    ]
    for source in (one.source for one in order.sources) if order.held_out else ():
        name = f"{source.name}-held-out" if source.name in names else source.name
        parts.append(Part(name, replace(source, name=name), order.txt, order.held_out))
    return parts


def rows(parts: Sequence[Part]) -> dict[str, list[str]]:
    """What is reported, by name: each set, and before the several domains of a language them all.

    Returns:
      The sets of each row.
    """
    together: dict[str, list[str]] = {}
    for part in parts:
        tongue = part.set if part.set == part.source.name else _language(part.set)
        sets = together.setdefault(tongue, [])
        if part.set not in sets:
            sets.append(part.set)
    found: dict[str, list[str]] = {}
    for tongue, sets in together.items():
        found |= {tongue: sets} if len(sets) > 1 else {}
        found |= {name: [name] for name in sets}
    return found


def _language(name: str) -> str:
    return name.partition("/")[0]
