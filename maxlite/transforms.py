"""What a config's `init` may hold: changes to a model before it trains, applied in order.

    init=(Untie(), ExtendVocab(tokenizer="my-tokenizer"), UpscaleDepth(method="dus", drop=8))

Each is also a tool with the same settings as flags (`ExtendVocab` is `tools.extend_vocab`). They
say what is wanted; `maxlite.state.init` knows how it is done. Empty text and zero mean "not given".
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, cast


class Transform:
    """One change to a model."""

    def described(self) -> dict[str, Any]:
        """Its name and settings, for JSON."""
        return {"transform": type(self).__name__, **dataclasses.asdict(cast(Any, self))}


def transform(described: dict[str, Any]) -> Transform:
    """The transform that `described` wrote."""
    settings = dict(described)
    kinds = {kind.__name__: kind for kind in Transform.__subclasses__()}
    return kinds[settings.pop("transform")](**settings)


@dataclass
class Untie(Transform):
    """A tied model gets an output table of its own: a copy of its input table."""


@dataclass
class ExtendVocab(Transform):
    """Rows for the new pieces of a tokenizer that extends the model's; old rows keep their bytes.

    `input_init` and `output_init` are rules for the new rows of the two tables: mean, first,
    global_mean, normal or gaussian (see `maxlite.surgery.rows`). A tied model has one table, so
    naming an output rule for it is an error unless `untie` comes first.
    """

    tokenizer: str = ""  # folder or file
    input_init: str = "mean"
    output_init: str = ""  # empty: mean, or nothing where the model is tied
    match_norms: bool = False  # scale each new row to the median norm of the old ones
    reuse_padding: bool = False  # let new pieces take rows that the model has beyond its tokenizer
    untie: bool = False
    seed: int = 0  # of normal and gaussian


@dataclass
class CompactVocab(Transform):
    """Only the rows of the ids to keep, in ascending order, in both tables."""

    kept_ids: str = ""  # file with one id a line
    tokenizer: str = ""  # of the compacted vocabulary; a folder or a file


@dataclass
class UpscaleDepth(Transform):
    """Layers of the model (or of several) in a new order, most of them more than once.

    `method` is dus (SOLAR, arXiv 2312.15166, section 2), interlocked (the same layers, `group` at a
    time in turn) or llama_pro (arXiv 2401.02415, section 3.2). `layers` gives the list instead, and
    `mergekit` a passthrough recipe.
    """

    method: str = ""
    drop: int = (
        0  # dus, interlocked: layers left out at the end of the one copy, begin of the other
    )
    group: int = 0  # interlocked: layers from one copy before the other's turn
    add: int = 0  # llama_pro: how many layers to insert
    layers: str = ""  # such as "0-23,8-31", ends included
    mergekit: str = ""  # YAML file
    as_llama: bool = False  # Mistral weights under a Llama config, without the sliding window
