"""One tokenizer's pieces put behind another's, as in Chinese-LLaMA (arXiv 2304.08177, section 2.2).

A piece that comes from another model may be one that no merges of the base lead to: see
`maxlite.tokenizer.reachability`. New merges learnt on top of the base's own have no such pieces.
"""

from dataclasses import dataclass

from maxlite.errors import InputError
from maxlite.tokenizer.definition import Definition, without_characters
from maxlite.tokenizer.pieces import SPACE, Piece
from maxlite.tokenizer.selection import Keep


@dataclass(frozen=True)
class Merged:
    """A merged tokenizer, and what became of the pieces of the other one.

    Attributes:
      definition: the base with more pieces.
      added: those pieces, in the order of their ids, special tokens not among them.
      foreign: those of them that are special tokens or bytes of the other tokenizer; here they are
        ordinary.
      known: how many the base had already.
      unselected: how many the selection left out.
      impossible: left out because a character in them is no piece, or they are no whole characters.
    """

    definition: Definition
    added: list[str]
    foreign: list[str]
    known: int
    unselected: int
    impossible: list[str]


def merge(
    base: Definition,
    extra: Definition,
    *,
    keep: Keep | None = None,
    scores: str = "ranked",
    special: tuple[str, ...] = (),
) -> Merged:
    """Appends the pieces of another tokenizer that the base does not have, in the other's order.

    As in the published merges only the strings count: special tokens of the other tokenizer that
    the base does not have become ordinary pieces.

    Args:
      base: BPE, a SentencePiece model or a tokenizer.json with pieces of characters.
      extra: a tokenizer of any kind.
      keep: says by its text whether a piece is wanted; None wants all.
      scores: "ranked" or "published", as in `Definition.extended`.
      special: tokens to append behind all.

    Raises:
      InputError: a byte-level base, nothing to append, or what `Definition.extended` refuses.
    """
    if base.form == "byte_level":
        raise InputError(
            f"{base.where} merges bytes by its own list, which other pieces cannot enter; take "
            "--method=continued_bpe"
        )
    pieces, impossible = _written(extra)
    missing = [piece for piece in pieces if piece.text not in base.ids]
    wanted = [p for p in missing if keep is None or keep(p.text.replace(SPACE, " "))]
    lost: set[str] = set()
    if scores == "ranked":
        # Longer pieces may be all that held a character, so one pass tells them all.
        lost = set(without_characters(base, [piece.text for piece in wanted]))
    added = [piece for piece in wanted if piece.text not in lost]
    if not added and not special:
        raise InputError(
            f"{extra.where} has no piece that {base.where} lacks"
            + (" and --keep wants" if missing else "")
        )
    new = [piece.text for piece in added]
    return Merged(
        base.extended(new, scores=scores, special=special),
        new,
        [piece.text for piece in added if piece.kind in ("special", "byte")],
        len(pieces) - len(missing),
        len(missing) - len(wanted),
        [*impossible, *(piece.text for piece in wanted if piece.text in lost)],
    )


def _written(extra: Definition) -> tuple[list[Piece], list[str]]:
    """The pieces as SentencePiece would write them, and those that are no whole characters."""
    if extra.form != "byte_level":
        return list(extra.pieces), []
    tokenizer = extra.tokenizer()
    written: dict[str, Piece] = {}
    broken = []
    for index, piece in enumerate(extra.pieces):
        raw = tokenizer.raw(index)
        try:
            text = piece.text if raw is None else raw.decode().replace(" ", SPACE)
        except UnicodeDecodeError:
            broken.append(piece.text)
            continue
        written.setdefault(text, Piece(text, "normal" if piece.kind == "byte" else piece.kind))
    return list(written.values()), broken
