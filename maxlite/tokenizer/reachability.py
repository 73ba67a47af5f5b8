"""Which pieces no text can ever produce.

A merge of BPE joins neighbours inside the piece that comes of it, and the best path of Unigram is
the best on each stretch of it. So what stands around a piece cannot help: a piece is reachable if
and only if its own text, inside a text, becomes that one piece. Merged vocabularies are known for
pieces that fail this (arXiv 2512.03989).
"""

from collections.abc import Sequence

import numpy as np

from maxlite.tokenizer.definition import Definition
from maxlite.tokenizer.tokenizer import Tokenizer


def unreachable(
    of: Tokenizer | Definition, ids: Sequence[int] | np.ndarray | None = None
) -> np.ndarray:
    """The pieces that encoding never gives.

    Special tokens, which text is not meant to give, and the bytes it falls back to are left out.
    Pieces that SentencePiece marks as unused are told: text gives their parts.

    Args:
      of: a tokenizer; of a definition with two forms, tokenizer.model is taken.
      ids: those to look at; None means all.

    Returns:
      Those of them that are unreachable, int64 [N], in the order given.
    """
    if isinstance(of, Definition):
        of = of.tokenizer("model" if of.form == "sentencepiece" else "json")
    asked = np.arange(of.rows) if ids is None else np.asarray(ids, np.int64)
    raw = [_text(of, index) for index in asked.tolist()]
    looked_at = np.array([i for i, part in enumerate(raw) if part is not None], np.int64)
    encoded = of.encode_inside([part for part in raw if part is not None])
    lengths = np.array([len(found) for found in encoded], np.int64)
    first = np.array([found[0] if len(found) else -1 for found in encoded], np.int64)
    wanted = asked[looked_at]
    return wanted[(lengths != 1) | (first != wanted)]


def _text(tokenizer: Tokenizer, index: int) -> bytes | None:
    """What a piece stands for; None for special tokens and byte pieces."""
    return None if tokenizer.falls_back(index) else tokenizer.raw(index)
