"""Where the documents of packed rows begin and how long they are, in tables of static size.

A kernel for packed documents is compiled for a longest document and a largest number of them, and
takes memory for the product of the two. A row may hold one document of all its tokens or hundreds
of a few, and a table for both at once would be as large as the square of the row. So documents are
dealt out by length: a level takes those of more than an eighth of its length up to all of it. Of
these no more than eight fit into its length, whatever the rows hold, so its table cannot overflow,
and that of every level is eight times the tokens. Only the last one, which also takes what is
shorter still, can; `Levels.fit` tells.

P is a place in all rows laid end to end, C a document of a level's table.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

SHARE = 8  # a level's length over the next one's, and documents for each length of tokens
SHORTEST = 128  # no level is made for less than an eighth of it


@dataclass(frozen=True)
class Level:
    """The documents of some lengths.

    Args:
      length: tokens in the longest that it may hold.
      begins_C: int32, their first places in order; the number of places where there are no more.
      lengths_C: int32, their tokens; 0 where there are no more.
      holds_P: bool, whether a place belongs to one of them.
      row_P: int32, to which, by its place in the table; meaningless for other places.
      inner_P: int32, how many tokens of its document come before a place.
    """

    length: int
    begins_C: jax.Array
    lengths_C: jax.Array
    holds_P: jax.Array
    row_P: jax.Array
    inner_P: jax.Array


@dataclass(frozen=True)
class Levels:
    """All documents of a batch: each is in one level.

    Args:
      levels: the longest first.
      fit: a bool scalar, whether the last level has room for all of its documents.
    """

    levels: list[Level]
    fit: jax.Array


def lengths(row: int) -> list[int]:
    """The levels' lengths, for rows of so many tokens."""
    found = [row]
    while found[-1] > SHORTEST and found[-1] % SHARE == 0:
        found.append(found[-1] // SHARE)
    return found


def levels(segments_BS: jax.Array) -> Levels:
    """Deals out the documents of a batch, within a compiled program.

    Args:
      segments_BS: int32; tokens side by side with one number are a document, and no document goes
        from one row to the next.
    """
    B, S = segments_BS.shape
    new_BS = segments_BS[:, 1:] != segments_BS[:, :-1]
    begins_P = jnp.pad(new_BS, ((0, 0), (1, 0)), constant_values=True).reshape(-1)
    places_P = jnp.arange(B * S, dtype=jnp.int32)
    begin_P = jax.lax.cummax(jnp.where(begins_P, places_P, 0))
    next_P = jnp.append(jnp.where(begins_P, places_P, B * S)[1:], B * S)
    length_P = jax.lax.cummin(next_P, reverse=True) - begin_P
    sizes = lengths(S)
    level_P = jnp.zeros_like(places_P)
    for size in sizes[1:]:
        level_P += length_P <= size
    made = []
    for number, size in enumerate(sizes):
        holds_P = level_P == number
        first_P = holds_P & begins_P
        (begins_C,) = jnp.nonzero(first_P, size=B * S // size * SHARE, fill_value=B * S)
        lengths_C = jnp.append(length_P, 0)[begins_C]
        row_P = jnp.cumsum(first_P, dtype=jnp.int32) - 1
        made.append(
            Level(size, begins_C.astype(jnp.int32), lengths_C, holds_P, row_P, places_P - begin_P)
        )
    room = made[-1].begins_C.size
    return Levels(made, (made[-1].holds_P & begins_P).sum() <= room)
