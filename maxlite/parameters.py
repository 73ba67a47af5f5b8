"""The parameters of a Llama-family model: their names, which are Hugging Face's, and shapes.

In a folder each layer's tensor has its number in its name. Here, and on devices, they are stacked:
`model.layers.mlp.up_proj.weight` is one array with layers on axis 0.

Shapes: V vocabulary rows, D width, F FFN channels, H heads, K key-value heads, E head size.
"""

from maxlite.config import Architecture

EMBEDDING = "model.embed_tokens.weight"
NORM = "model.norm.weight"
HEAD = "lm_head.weight"
LAYERS = "model.layers."


def matrix(name: str) -> bool:
    """Whether a parameter is a matrix for each layer or for all: no norm, bias or magnitude."""
    return not name.endswith(("norm.weight", ".bias", "magnitude_vector.weight"))


def halved(name: str, what: str, bfloat16: str) -> bool:
    """Whether something of a parameter in the optimizer is held in bfloat16: matrices alone are.

    Args:
      name: of the parameter.
      what: "moments" or "gradients".
      bfloat16: as in the config.
    """
    return what in bfloat16 and matrix(name)


def _layer_shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """The parameters of one decoder layer by their name in it, as a forward pass meets them."""
    D, F = arch.hidden_size, arch.intermediate_size
    HE = arch.num_attention_heads * arch.head_dim
    KE = arch.num_key_value_heads * arch.head_dim
    table: dict[str, tuple[int, ...]] = {"input_layernorm.weight": (D,)}

    def projection(name: str, rows: int, columns: int, bias: bool) -> None:
        table[f"{name}.weight"] = (rows, columns)
        if bias:
            table[f"{name}.bias"] = (rows,)
        table.update(arch.lora.shapes(name, rows, columns))

    projection("self_attn.q_proj", HE, D, arch.attention_bias)
    projection("self_attn.k_proj", KE, D, arch.attention_bias)
    projection("self_attn.v_proj", KE, D, arch.attention_bias)
    projection("self_attn.o_proj", D, HE, arch.attention_bias)
    table["post_attention_layernorm.weight"] = (D,)
    projection("mlp.gate_proj", F, D, arch.mlp_bias)
    projection("mlp.up_proj", F, D, arch.mlp_bias)
    projection("mlp.down_proj", D, F, arch.mlp_bias)
    return table


def shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """Stacked names to shapes, in the order in which a forward pass meets them."""
    V, D, L = arch.vocab_size, arch.hidden_size, arch.num_hidden_layers
    table: dict[str, tuple[int, ...]] = {EMBEDDING: (V, D)}
    table |= arch.lora.shapes(EMBEDDING.removesuffix(".weight"), V, D)
    table |= {LAYERS + name: (L, *shape) for name, shape in _layer_shapes(arch).items()}
    table[NORM] = (D,)
    if not arch.tie_word_embeddings:
        table[HEAD] = (V, D)
        table |= arch.lora.shapes(HEAD.removesuffix(".weight"), V, D)
    return table
