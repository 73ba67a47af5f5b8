"""`benchmark attention`: every backend that runs here, beside the dense one and beside torch's.

Rows are packed with documents of random lengths, which each side is to keep apart: ours by their
segments, torch's scaled_dot_product_attention by a mask and, on a GPU, its flex_attention by a
block mask. What is timed is attention alone, forward and backward, on inputs that are there.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from maxlite.console import say
from maxlite.errors import InputError
from maxlite.model import attention
from tools.benchmarks.stepping import MIB

SHAPES = {
    "cpu": "4x256x6x6x48,4x1024x8x2x64,1x4096x8x2x64",
    "gpu": "4x4096x32x8x128,4x4096x32x8x64,1x32768x32x8x128",
    "tpu": "4x4096x32x8x128,1x32768x32x8x128",
}
Timed = Callable[[], float]
_say_once = functools.cache(say)


@dataclass
class Side:
    """One way to compute it: takes its seconds each time, and has its results and its memory."""

    run: Timed
    results: list[np.ndarray]
    peak_mib: float


def measure(settings: Any) -> list[dict[str, Any]] | None:
    """Measures each shape and prints a table.

    Args:
      settings: `shapes` (rows x tokens x heads x key-value heads x size of a head, with commas;
        empty: by platform), `mean` (tokens of a document), `runs`, `dry_run` as attributes.

    Returns:
      For each shape, a row for each backend beside the dense one (peer); beside each of torch's,
      one for each of these and for what auto takes: name, ours and peer (seconds, medians), ratio,
      unit, runs, peak_mib (of ours: arguments, results and temporaries), and apart (the largest
      difference of results and gradients, over the largest value).
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch wants memory, too
    platform = jax.default_backend()
    shapes = [_shape(text) for text in (settings.shapes or SHAPES[platform]).split(",")]
    if settings.dry_run:
        say(f"would time {len(shapes)} shapes on a {platform}")
        return None
    rows = []
    print(f"{'':<44}{'ours s':>9}{'peer s':>9}{'ratio':>7}{'MiB':>8}{'apart':>9}")
    for shape in shapes:
        for row in _measured(shape, settings.mean, settings.runs):
            print(
                f"{row['name']:<44}{row['ours']:>9.4f}{row['peer']:>9.4f}{row['ratio']:>7.2f}"
                f"{row['peak_mib']:>8.0f}{row['apart']:>9.1e}"
            )
            rows.append(row)
    return rows


def _shape(text: str) -> tuple[int, ...]:
    sizes = text.split("x")
    if len(sizes) != 5 or not all(s.isdecimal() and int(s) > 0 for s in sizes):
        raise InputError(
            f"--shapes: '{text}' must be five numbers with x between them: rows, tokens, heads, "
            "key-value heads and the size of a head"
        )
    shape = tuple(map(int, sizes))
    if shape[2] % shape[3]:
        raise InputError(f"--shapes: '{text}' has heads that are no multiple of key-value heads")
    return shape


def _measured(shape: tuple[int, ...], mean: int, runs: int) -> list[dict[str, Any]]:
    B, S, H, K, E = shape
    rng = np.random.default_rng(0)
    made = [rng.standard_normal((B, S, heads, E), np.float32) for heads in (H, K, K, H)]
    segments = np.cumsum(rng.random((B, S)) < 1 / mean, axis=1).astype(np.int32)
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    sides = {
        name: _ours(name, made, segments, dtype)
        for name in attention.BACKENDS
        if _runs_here(name, E, dtype)
    }
    sides |= {name: side(made, segments) for name, side in _torch().items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in tqdm(range(runs), desc="x".join(map(str, shape)), leave=False):
        for name, side in sides.items():  # in turn, so that a slow minute hits all alike
            times[name].append(side.run())
    median = {name: statistics.median(several) for name, several in times.items()}
    auto = attention.choose("auto", S, E, dtype)
    mine = [name for name in sides if name in attention.BACKENDS and name != "dense"]
    theirs = [name for name in sides if name not in attention.BACKENDS]
    pairs = [(name, "dense") for name in mine]
    pairs += [(name, peer) for peer in theirs for name in dict.fromkeys((auto, *mine))]
    return [
        {
            "name": f"{ours} to {peer} {'x'.join(map(str, shape))}",
            "ours": median[ours],
            "peer": median[peer],
            "ratio": median[ours] / median[peer],
            "unit": "seconds",
            "runs": runs,
            "peak_mib": sides[ours].peak_mib,
            "apart": _apart(sides[ours].results, sides[peer].results),
        }
        for ours, peer in pairs
    ]


def _runs_here(name: str, head: int, dtype: Any) -> bool:
    try:
        attention.check(name, head, dtype)
    except InputError as e:
        _say_once(f"left out: {e}")
        return False
    return True


def _ours(name: str, made: list[np.ndarray], segments: np.ndarray, dtype: Any) -> Side:
    documents = jnp.asarray(segments)

    def both(q: jax.Array, k: jax.Array, v: jax.Array, do: jax.Array) -> tuple[jax.Array, ...]:
        function = functools.partial(
            attention.attention, segments=(documents, documents), backend=name
        )
        o, pull = jax.vjp(function, q, k, v)
        return o, *pull(do)

    inputs = [jnp.asarray(x, dtype) for x in made]
    compiled = jax.jit(both).lower(*inputs).compile()
    memory = compiled.memory_analysis()
    peak = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes

    def run() -> float:
        began = time.monotonic()
        jax.block_until_ready(compiled(*inputs))
        return time.monotonic() - began

    results = [np.asarray(x.astype(jnp.float32)) for x in compiled(*inputs)]
    return Side(run, results, peak / MIB)


def _torch() -> dict[str, Callable[[list[np.ndarray], np.ndarray], Side]]:
    """What torch has for this; nothing without it."""
    if not importlib.util.find_spec("torch"):
        return {}
    import torch

    gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    if jax.default_backend() != "cpu" and not gpu:
        return {}
    found: dict[str, Any] = {"torch sdpa": _sdpa}
    if gpu:  # on a CPU it has no backward pass
        found["torch flex"] = _flex
    return {name: functools.partial(_theirs, make) for name, make in found.items()}


def _theirs(make: Callable[[Any], Any], made: list[np.ndarray], segments: np.ndarray) -> Side:
    import torch

    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    *inputs, do = (torch.from_numpy(x).to(device, dtype).transpose(1, 2).contiguous() for x in made)
    for x in inputs:
        x.requires_grad_()
    attend = make(torch.from_numpy(segments).to(device))

    def both() -> list[Any]:
        o = attend(*inputs)
        return [o, *torch.autograd.grad(o, inputs, do)]

    def run() -> float:
        began = time.monotonic()
        both()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.monotonic() - began

    results = [x.detach().transpose(1, 2).float().cpu().numpy() for x in both()]
    return Side(run, results, 0.0)


def _sdpa(segments: Any) -> Any:
    import torch

    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool).tril()
    seen = causal.to(segments.device) & (segments[:, :, None] == segments[:, None, :])
    function = torch.nn.functional.scaled_dot_product_attention
    return functools.partial(function, attn_mask=seen[:, None], enable_gqa=True)


def _flex(segments: Any) -> Any:
    import torch
    from torch.nn.attention import flex_attention as flex

    def seen(b: Any, h: Any, q: Any, k: Any) -> Any:
        return (q >= k) & (segments[b, q] == segments[b, k])

    rows, length = segments.shape
    mask = flex.create_block_mask(seen, rows, None, length, length, device=segments.device)
    function = torch.compile(flex.flex_attention)
    return functools.partial(function, block_mask=mask, enable_gqa=True)


def _apart(ours: list[np.ndarray], peer: list[np.ndarray]) -> float:
    pairs = zip(ours, peer, strict=True)
    return float(max(np.abs(a - b).max() / np.abs(b).max() for a, b in pairs))
