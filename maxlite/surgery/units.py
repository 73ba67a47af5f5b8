"""The units of a model that can be left out, and where in its tensors each of them lies.

A group is a key-value head with the query heads that read it, so that grouped attention stays what
it is and every pair of RoPE stays whole; a channel is a row of the gate and of the up projection
and a column of the down projection; a channel of the residual stream runs through every tensor but
the biases of what lies inside a block.
"""

from maxlite.config import Architecture
from maxlite.hf import names

# What lies along the rows of a projection, and along its columns.
AXES = {
    "q_proj": ("queries", "residual"),
    "k_proj": ("keys", "residual"),
    "v_proj": ("keys", "residual"),
    "o_proj": ("residual", "queries"),
    "gate_proj": ("channels", "residual"),
    "up_proj": ("channels", "residual"),
    "down_proj": ("residual", "channels"),
}
TABLES = (names.EMBEDDING, names.HEAD)

Axis = tuple[str, int]  # kind of unit ("" for none that can be left out), its extent


def axes(name: str, arch: Architecture) -> tuple[Axis, ...]:
    """What lies along each axis of a tensor of a folder."""
    extents = {
        "queries": ("groups", arch.num_attention_heads // arch.num_key_value_heads * arch.head_dim),
        "keys": ("groups", arch.head_dim),
    }
    if name in TABLES:
        return ("", 1), ("residual", 1)
    module, part = name.split(".")[-2:]
    if module not in AXES:  # a norm
        return (("residual", 1),)
    along = AXES[module] if part == "weight" else AXES[module][:1]
    return tuple(extents.get(what, (what, 1)) for what in along)


def counts(arch: Architecture) -> dict[str, int]:
    """How many units of each kind there are, in a layer where a layer has its own."""
    return {
        "layers": arch.num_hidden_layers,
        "groups": arch.num_key_value_heads,
        "channels": arch.intermediate_size,
        "residual": arch.hidden_size,
    }
