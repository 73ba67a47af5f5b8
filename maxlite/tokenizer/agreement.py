"""Whether the two forms of a tokenizer segment a text alike: tokenizer.model and tokenizer.json."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import tokenizers

from maxlite.errors import InputError
from maxlite.tokenizer.batching import batched
from maxlite.tokenizer.definition import JSON, Definition
from maxlite.tokenizer.tokenizer import Tokenizer

_BATCH = 4096  # lines that are encoded at once


@dataclass(frozen=True)
class Difference:
    """A line that becomes different pieces: its number from 1, its text, and both segmentations."""

    number: int
    text: str
    model: list[str]
    json: list[str]


@dataclass(frozen=True)
class Agreement:
    """On how many of some lines the two forms differ.

    Attributes:
      lines: how many were compared.
      differing: on how many they differ, where special tokens in a text are read as text.
      differing_special: on how many they differ where tokenizer.json finds special tokens in a
        text, as it does unless `encode_special_tokens` is set.
      first: the first of `differing`, if there is one.
    """

    lines: int
    differing: int
    differing_special: int
    first: Difference | None


def compare(definition: Definition, texts: Iterable[str]) -> Agreement:
    """Encodes lines by both forms, tokenizer.json as the tokenizers library does by itself.

    Args:
      definition: a tokenizer that has both.
      texts: the lines; some thousands of them are in memory at a time.

    Raises:
      InputError: it has only one form.
    """
    if definition.form != "sentencepiece":
        raise InputError(
            f"{definition.where} has no tokenizer.model, so there are no two forms to compare"
        )
    model = definition.tokenizer("model")
    definition.tokenizer("json")  # which refuses if there is none, or it is damaged
    plain = tokenizers.Tokenizer.from_str(definition.read(JSON).decode())
    plain.no_padding()
    plain.no_truncation()
    special = [token.content for token in plain.get_added_tokens_decoder().values()]
    lines = differing = found_special = 0
    first = None
    for batch in batched(texts, _BATCH):
        wanted = model.encode(batch)
        as_text = _different(plain, True, batch, wanted)
        differing += len(as_text)
        if as_text and first is None:
            i = as_text[0]
            first = _difference(lines + i + 1, batch[i], wanted[i], model, plain)
        # Where no such token stands in a line, it makes no difference how they are read.
        literal = {i for i, text in enumerate(batch) if any(token in text for token in special)}
        chosen = sorted(literal)
        found = _different(plain, False, [batch[i] for i in chosen], [wanted[i] for i in chosen])
        found_special += len(found) + len(set(as_text) - literal)
        lines += len(batch)
    return Agreement(lines, differing, found_special, first)


def _different(
    plain: tokenizers.Tokenizer, as_text: bool, texts: Iterable[str], wanted: list[np.ndarray]
) -> list[int]:
    """The places of the texts that do not become the ids that are wanted."""
    plain.encode_special_tokens = as_text
    encoded = plain.encode_batch_fast(list(texts), add_special_tokens=False)
    return [
        i
        for i, (ours, ids) in enumerate(zip(encoded, wanted, strict=True))
        if ours.ids != ids.tolist()
    ]


def _difference(
    number: int, text: str, ids: np.ndarray, model: Tokenizer, plain: tokenizers.Tokenizer
) -> Difference:
    plain.encode_special_tokens = True
    tokens = plain.encode(text, add_special_tokens=False).tokens
    return Difference(number, text, [model.piece(i) for i in ids.tolist()], tokens)
