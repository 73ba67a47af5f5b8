"""What a config's `init` may hold: changes to a model before it trains, applied in order.

    init=(Untie(), ExtendVocab(tokenizer="my-tokenizer"), UpscaleDepth(method="dus", drop=8))

Each is also a tool with the same settings as flags (`ExtendVocab` is `tools.extend_vocab`). They
say what is wanted; `maxlite.state.init` knows how it is done. Empty text and zero mean "not given".
"""

import dataclasses
import math
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
    drop: int = 0  # dus, interlocked: layers left out at one copy's end, the other's beginning
    group: int = 0  # interlocked: layers from one copy before the other's turn
    add: int = 0  # llama_pro: how many layers to insert
    layers: str = ""  # such as "0-23,8-31", ends included
    mergekit: str = ""  # YAML file
    as_llama: bool = False  # Mistral weights under a Llama config, without the sliding window


@dataclass
class Inherit(Transform):
    """The weights of a smaller model, taken from this one: the layers, groups and channels that
    matter most (RethinkTinyLM, arXiv 2402.02791).

    Its sizes are those of `target`, or the numbers; those left out stay. A criterion that needs a
    running model is computed before, by `tools.importance`, and read from its file.
    """

    target: str = ""  # config.json, or a folder with one
    hidden_size: int = 0
    intermediate_size: int = 0
    num_hidden_layers: int = 0
    num_attention_heads: int = 0  # whole groups: key-value heads shrink with them
    layers: str = ""  # ends (the default), importance, or a list such as "0-3,7"
    criterion: str = ""  # random, first, l1 or l2; empty: l2, or nothing beside `scores`
    scores: str = ""  # files, with commas between them; the criterion is for what they lack
    seed: int = 0  # of random


@dataclass
class Lora:
    """Low-rank adapters beside weights: W x + scale * B A x (arXiv 2106.09685, section 4.1).

    Rank 0 means none. They are what `AddLora` or the model's maxlite.json says; a config that sets
    them beside a model has no effect.
    """

    rank: int = 0
    alpha: float = 0.0
    targets: str = ""  # modules, with commas between them
    dropout: float = 0.0  # of the adapters' inputs, in training
    rslora: bool = False  # scale by alpha / sqrt(rank) (arXiv 2312.03732)
    dora: bool = False  # with a magnitude a row (arXiv 2402.09353)

    @property
    def scale(self) -> float:
        """The factor of B A."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def shapes(self, module: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
        """The tensors beside a module's weight [rows, columns], by their full names.

        The input table's are those of its transpose, as PEFT has them: W becomes W + scale * Aᵀ Bᵀ.
        """
        own = module.rpartition(".")[2]
        if not self.rank or own not in self.targets.split(","):
            return {}
        if own == "embed_tokens":
            return {
                f"{module}.lora_embedding_A.weight": (self.rank, rows),
                f"{module}.lora_embedding_B.weight": (columns, self.rank),
            }
        found: dict[str, tuple[int, ...]] = {
            f"{module}.lora_A.weight": (self.rank, columns),
            f"{module}.lora_B.weight": (rows, self.rank),
        }
        return found | ({f"{module}.lora_magnitude_vector.weight": (rows,)} if self.dora else {})


@dataclass
class AddLora(Transform):
    """Adapters beside projections of every layer, or tables; must be the last change to a model.

    They begin without effect. `train="lora"` trains them and nothing else; what else is named (as
    in "lora, vocabulary") trains beside them, and "everything" means their projections too. A rule
    such as Rule("lora", layers="0-7") trains those of some layers, the others stay without effect.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: str = "q_proj,k_proj,v_proj,o_proj"
    # and gate_proj, up_proj, down_proj, embed_tokens, lm_head
    rslora: bool = False  # scale by alpha / sqrt(rank) (arXiv 2312.03732)
    dora: bool = False  # with a magnitude a row (arXiv 2402.09353)
    dropout: float = 0.0  # share of the adapters' inputs that a training step leaves out
    adapter: str = ""  # PEFT folder to go on from, which says all of the above
    seed: int = 0


@dataclass
class MergeLora(Transform):
    """PEFT adapters added to the weights that they stand beside, in order."""

    adapter: str = ""  # folders, with commas between them
