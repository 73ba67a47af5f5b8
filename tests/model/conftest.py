"""Tiny models of this room, and their peers in transformers with the same random weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from maxlite.config import Architecture
from maxlite.model.llama import initialize, shapes

TINY = Architecture(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    rms_norm_eps=1e-6,
    initializer_range=0.3,  # far from the identity: attention and norms matter
)


@pytest.fixture(scope="session")
def tiny():
    """tiny(**changes): an architecture that runs in a moment."""

    def make(**changes: Any) -> Architecture:
        if "num_attention_heads" in changes or "hidden_size" in changes:
            changes.setdefault("head_dim", 0)
        return dataclasses.replace(TINY, **changes)

    return make


@pytest.fixture(scope="session")
def random_params():
    """random_params(arch): float32 parameters by stacked name; norms and biases are random too."""

    def make(arch: Architecture, seed: int = 0) -> dict[str, jax.Array]:
        key = jax.random.key(seed)
        params = {}
        for at, (name, shape) in enumerate(shapes(arch).items()):
            x = initialize(arch, name, shape, key, np.float32)
            noise = 0.1 * jax.random.normal(jax.random.fold_in(key, at), shape)
            params[name] = x + noise if "norm" in name or name.endswith("bias") else x
        return params

    return make


@pytest.fixture(scope="session")
def tokens():
    """tokens(arch, rows, length): random ids [rows, length], int32."""

    def make(arch: Architecture, rows: int = 2, length: int = 24, seed: int = 1) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return rng.integers(0, arch.vocab_size, (rows, length), dtype=np.int32)

    return make


@pytest.fixture(scope="session")
def packed():
    """packed(lengths, ids): a batch in which every row holds documents of these lengths.

    `ids` has one more column than the rows; what the lengths leave is padding (segment 0).
    """

    def make(lengths: list[int], ids: np.ndarray) -> dict[str, np.ndarray]:
        rows, length = ids.shape[0], ids.shape[1] - 1
        rest = length - sum(lengths)
        segments = np.repeat([*range(1, len(lengths) + 1), 0], [*lengths, rest])
        positions = np.concatenate([np.arange(n) for n in [*lengths, rest]])
        last = np.cumsum(lengths) - 1 if len(lengths) > 1 or rest else []
        weights = (segments > 0).astype(np.float32)
        weights[last] = 0  # their targets belong to the next document
        one_row = {"segments": segments, "positions": positions, "weights": weights}
        batch = {key: np.tile(x, (rows, 1)) for key, x in one_row.items()}
        batch |= {"tokens": ids[:, :-1], "targets": ids[:, 1:]}
        return {k: x if x.dtype == np.float32 else x.astype(np.int32) for k, x in batch.items()}

    return make


@pytest.fixture(scope="session")
def peer():
    """peer(arch): a random transformers model in float32 and its parameters, layers stacked."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

    def make(arch: Architecture, seed: int = 0) -> tuple[Any, dict[str, np.ndarray]]:
        scaling: dict[str, Any] = {"rope_type": arch.rope_type, "rope_theta": arch.rope_theta}
        if arch.rope_type != "default":
            scaling["factor"] = arch.rope_factor
        if arch.rope_type == "llama3":
            scaling["low_freq_factor"] = arch.rope_low_freq_factor
            scaling["high_freq_factor"] = arch.rope_high_freq_factor
            scaling["original_max_position_embeddings"] = arch.original_max_position_embeddings
        same = (
            "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
            "num_key_value_heads head_dim max_position_embeddings rms_norm_eps tie_word_embeddings"
        ).split()
        fields = {name: getattr(arch, name) for name in same} | {"rope_parameters": scaling}
        if arch.model_type == "mistral":
            config = transformers.MistralConfig(
                **fields, sliding_window=arch.sliding_window or None
            )
        else:
            biases = {"attention_bias": arch.attention_bias, "mlp_bias": arch.mlp_bias}
            config = transformers.LlamaConfig(**fields, **biases)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        model.eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                one = 1.0 if "norm" in name else 0.0
                scale = arch.initializer_range if tensor.ndim == 2 else 0.1
                tensor.copy_(one + scale * torch.randn(tensor.shape, generator=generator))
        return model, stack({k: v.detach().numpy() for k, v in model.named_parameters()})

    return make


def stack(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Hugging Face's names, one entry a layer, to ours with the layers on axis 0."""
    stacked: dict[str, Any] = {}
    for name, array in tensors.items():
        _, _, rest = name.partition("model.layers.")
        if not rest:
            stacked[name] = array
            continue
        layer, _, leaf = rest.partition(".")
        stacked.setdefault(f"model.layers.{leaf}", {})[int(layer)] = array
    return {
        name: np.stack([x[i] for i in range(len(x))]) if isinstance(x, dict) else x
        for name, x in stacked.items()
    }


@pytest.fixture(scope="session")
def stacked():
    """stacked(tensors): see `stack`."""
    return stack
