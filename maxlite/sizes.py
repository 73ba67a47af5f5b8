"""Sizes of models: the depth, the width or the expansion that gives a number of parameters.

Expansion is FFN channels over width. Counting is `maxlite.parameters.shapes`'s, so it is exact; a
tied table counts once.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.parameters import EMBEDDING, HEAD, shapes

_MOST = 1 << 24  # layers, heads or FFN units that nothing reaches


def count(arch: Architecture) -> int:
    """The parameters of a shape."""
    return sum(map(math.prod, shapes(arch).values()))


def table_share(arch: Architecture) -> float:
    """The share of the parameters that are in the embedding and the head.

    RethinkTinyLM (arXiv 2402.02791) counts the same as 2 V D over all for its untied models, and
    brings it from 38.19 % to 18.07 % with a compact vocabulary.
    """
    table = shapes(arch)
    return sum(math.prod(table[name]) for name in (EMBEDDING, HEAD) if name in table) / count(arch)


def shaped(
    like: Architecture,
    depth: int,
    width: int,
    expansion: float,
    *,
    queries_per_kv: int = 1,
    ffn_multiple: int = 1,
) -> Architecture:
    """A shape with as many heads as its width has room for.

    Args:
      like: all else: its `vocab_size`, `head_dim`, whether it is tied, and so on.
      depth: layers.
      width: hidden size, a multiple of `head_dim * queries_per_kv`.
      expansion: FFN channels over width; the channels are rounded up to `ffn_multiple`, so 8/3 and
        256 give Llama's own, such as 4864 for a width of 1792.
      queries_per_kv: query heads that share a key-value head.
      ffn_multiple: what the FFN's channels are a multiple of.

    Raises:
      InputError: `like` has no rows or head size, or a number is not one that a shape can have.
    """
    _check(like, queries_per_kv, ffn_multiple)
    unit = like.head_dim * queries_per_kv
    if depth < 1 or width < 1 or not 0 < expansion < math.inf:
        raise InputError(
            f"depth {depth}, width {width} and expansion {expansion:g} must all be above 0"
        )
    if width % unit:
        raise InputError(
            f"width {width} is no multiple of {unit}, which is the head size {like.head_dim} times "
            f"{queries_per_kv} query heads a key-value head; the nearest is "
            f"{max(1, round(width / unit)) * unit}"
        )
    channels = round(expansion * width, 6)  # before it is rounded up: 8/3 of 96 is not quite 256
    return replace(
        like,
        num_hidden_layers=depth,
        hidden_size=width,
        intermediate_size=math.ceil(channels / ffn_multiple) * ffn_multiple,
        num_attention_heads=width // like.head_dim,
        num_key_value_heads=width // unit,
    )


def solve(
    target: int,
    like: Architecture,
    *,
    depth: int = 0,
    width: int = 0,
    expansion: float = 0.0,
    queries_per_kv: int = 1,
    ffn_multiple: int = 1,
    tolerance: float = 0.05,
) -> Architecture:
    """The shape whose parameters are nearest to a number, two of its three sizes being given.

    Args:
      target: parameters.
      like: as for `shaped`.
      depth, width, expansion: as for `shaped`; the one that is 0 is found.
      queries_per_kv, ffn_multiple: as for `shaped`.
      tolerance: how far from the target the nearest may be, as a share of it. A layer or a head is
        a big step in a small model; FFN channels are the finest.

    Raises:
      InputError: the target is not above 0, not exactly one size is 0, two of them cannot be, or no
        third comes near enough.
    """
    _check(like, queries_per_kv, ffn_multiple)
    if target < 1:
        raise InputError(f"the target of {target:,} parameters must be above 0")
    sizes = {"depth": depth, "width": width, "expansion": expansion}
    unknown = [name for name, value in sizes.items() if not value]
    if len(unknown) != 1:
        raise InputError(
            "two of depth, width and expansion must be given, and the third be 0: there are "
            + ", ".join(f"{name} {value:g}" for name, value in sizes.items())
        )
    (wanted,) = unknown
    unit = {"depth": 1, "width": like.head_dim * queries_per_kv, "expansion": ffn_multiple}[wanted]

    def tried(k: int) -> Architecture:
        """The shape with k units of what is wanted."""
        return shaped(
            like,
            depth or k,
            width or k * unit,
            expansion or k * unit / width,
            queries_per_kv=queries_per_kv,
            ffn_multiple=ffn_multiple,
        )

    best = _nearest(lambda k: count(tried(k)), target)
    found = tried(best)
    off = count(found) / target - 1
    if abs(off) > tolerance:
        given = " and ".join(f"{name} {value:.4g}" for name, value in sizes.items() if value)
        raise InputError(
            f"no {wanted} gives {target:,} parameters with {given} and {found.vocab_size:,} rows: "
            f"the nearest is {described(found)}, {count(found):,} parameters, which is {off:+.1%}; "
            f"choose another target or size, or allow more than {tolerance:.1%}"
        )
    return found


def described(arch: Architecture) -> str:
    """A shape in a few words."""
    return (
        f"{arch.num_hidden_layers} layers of width {arch.hidden_size} with"
        f" {arch.intermediate_size} FFN channels"
    )


def _nearest(size: Callable[[int], int], target: int) -> int:
    """The whole number from 1 on whose size, which grows with it, is nearest to a target."""
    above = bisect_left(range(_MOST), target, lo=1, key=size)
    return min((k for k in (above - 1, above) if k >= 1), key=lambda k: (abs(size(k) - target), k))


def _check(like: Architecture, queries_per_kv: int, ffn_multiple: int) -> None:
    for name, value in (
        ("vocab_size", like.vocab_size),
        ("head_dim", like.head_dim),
        ("queries_per_kv", queries_per_kv),
        ("ffn_multiple", ffn_multiple),
    ):
        if value < 1:
            raise InputError(f"{name} is {value}; a size can be found only where it is at least 1")
