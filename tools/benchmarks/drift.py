"""`benchmark drift`: how far old rows move that a gradient hook holds, beside rows that are frozen.

The hook is KoSOLAR's: it empties the gradients of the old rows, and AdamW, which does not know,
decays them at each step all the same, by learning rate x weight decay (arXiv 1711.05101). A part
that is frozen here has no update to be moved by.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from maxlite.config import Architecture, Config, Optimizer
from maxlite.console import say
from maxlite.errors import InputError
from maxlite.model import llama
from maxlite.model.leaves import leaf
from maxlite.parameters import EMBEDDING, HEAD
from maxlite.state.claims import claim
from maxlite.training import optim
from maxlite.training import step as step_lib
from tools.benchmarks.batches import random_batch

STEPS, RATE, DECAYS = 300, 2e-4, (0.0, 0.01, 0.1)
BATCH, LENGTH = 2, 16
ARCH = Architecture(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    base_rows=64,
)


def measure(settings: Any) -> list[dict[str, Any]] | None:
    """Trains the new rows of both tables in both ways, from the same weights; prints a table.

    Args:
      settings: `runs`, each with a seed of its own, and `dry_run` as attributes.

    Returns:
      A row each decay and seed: name, decay, seed, ours and peer (how far the old rows of both
      tables are from where they were, over their norm; percent), ratio, unit, runs, moved (how far
      new rows went, in the same way) and arithmetic (what the decay alone must come to).

    Raises:
      InputError: there is no torch, or no transformers.
    """
    if settings.dry_run:
        say(f"would train {2 * len(DECAYS) * settings.runs} times, {STEPS} steps each")
        return None
    rows = []
    for decay in DECAYS:
        for seed in tqdm(range(settings.runs), desc=f"weight decay {decay:g}"):
            begun = _weights(seed)
            ours, moved = _changes(begun, _ours(begun, decay, seed))
            peer, _ = _changes(begun, _hooked(begun, decay, seed))
            rows.append(
                {
                    "name": f"weight decay {decay:g}, seed {seed}",
                    "decay": decay,
                    "seed": seed,
                    "ours": ours,
                    "peer": peer,
                    "ratio": ours / peer if peer else None,
                    "unit": "percent",
                    "runs": 1,
                    "moved": moved,
                    "arithmetic": 100 * (1 - (1 - RATE * decay) ** STEPS),
                }
            )
    _print(rows)
    return rows


def _weights(seed: int) -> dict[str, np.ndarray]:
    """Of the model, float32, by HF's names with layers stacked."""
    key = jax.random.key(seed)
    whole = claim("new_rows", ARCH).whole
    return {n: np.asarray(llama.initialize(ARCH, n, s, key, np.float32)) for n, s in whole.items()}


def _batch(seed: int, step: int) -> dict[str, np.ndarray]:
    shape = (1, BATCH, LENGTH)
    return random_batch(shape, range(ARCH.vocab_size), seed=seed * STEPS + step)


def _ours(begun: dict[str, np.ndarray], decay: float, seed: int) -> dict[str, np.ndarray]:
    """Both tables after training, old rows and new ones joined."""
    claims = claim("new_rows", ARCH)

    def part(name: str) -> jax.Array:
        own = leaf(name)
        x = begun[own.parameter]
        return jax.numpy.array(x if own.rows is None else x[np.array(own.rows)])

    adamw = Optimizer(learning_rate=RATE, weight_decay=decay, schedule="constant", warmup=0)
    optimizer = optim.make_optimizer(Config(steps=STEPS, optimizer=adamw))
    params = {n: part(n) for n in claims.trained}
    frozen = {n: part(n) for n in claims.frozen}
    state = step_lib.State(params, optimizer.init(params), step_lib.new_counters())
    bind = functools.partial(llama.bind, ARCH, remat="none")
    step = jax.jit(step_lib.make_step(bind, optimizer), donate_argnums=0)
    for number in range(STEPS):
        state, _ = step(state, frozen, _batch(seed, number), np.zeros(1, np.int32))
    after = {name: begun[name].copy() for name in (EMBEDDING, HEAD)}
    for name, values in (*state.params.items(), *frozen.items()):
        own = leaf(name)
        if own.parameter in after:
            rows = slice(None) if own.rows is None else np.array(own.rows)
            after[own.parameter][rows] = np.asarray(values)
    return after


def _hooked(begun: dict[str, np.ndarray], decay: float, seed: int) -> dict[str, np.ndarray]:
    """The same by transformers and torch's AdamW, with a hook on each table."""
    try:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError as e:
        raise InputError(
            "the peer is torch with transformers: pip install torch, then start again"
        ) from e
    torch.set_num_threads(1)  # for matrices this small, more only wait for each other
    keys = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    keys += ("num_attention_heads", "num_key_value_heads", "rms_norm_eps")
    model = LlamaForCausalLM(LlamaConfig(**{key: getattr(ARCH, key) for key in keys}))
    with torch.no_grad():
        for name, values in model.named_parameters():
            words = name.split(".")
            number = next((int(word) for word in words if word.isdigit()), None)
            stacked = begun[".".join(word for word in words if not word.isdigit())]
            values.copy_(torch.tensor(stacked if number is None else stacked[number]))
    model.requires_grad_(False)
    tables = {EMBEDDING: model.get_input_embeddings(), HEAD: model.get_output_embeddings()}
    old = ARCH.base_rows

    def emptied(gradient: Any) -> Any:
        return torch.cat([torch.zeros_like(gradient[:old]), gradient[old:]])

    weights = [table.weight.requires_grad_(True) for table in tables.values()]
    for weight in weights:
        weight.register_hook(emptied)
    adamw = torch.optim.AdamW(weights, lr=RATE, weight_decay=decay, betas=(0.9, 0.95))
    for number in range(STEPS):
        batch = _batch(seed, number)
        tokens, targets = (torch.tensor(batch[key][0]).long() for key in ("tokens", "targets"))
        logits = model(input_ids=tokens).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        adamw.step()
        adamw.zero_grad()
    return {name: table.weight.detach().numpy() for name, table in tables.items()}


def _changes(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> tuple[float, float]:
    """How far the old rows of both tables went, and the new ones, in percent of their norm."""

    def change(rows: slice) -> float:
        was, now = (
            np.concatenate([np.asarray(of[name], np.float64)[rows] for name in (EMBEDDING, HEAD)])
            for of in (before, after)
        )
        return 100 * float(np.linalg.norm(now - was) / np.linalg.norm(was))

    return change(slice(None, ARCH.base_rows)), change(slice(ARCH.base_rows, None))


def _print(rows: list[dict[str, Any]]) -> None:
    print(f"{'':<28}{'ours %':>10}{'hook %':>10}{'by arithmetic %':>17}{'new rows %':>12}")
    for row in rows:
        print(
            f"{row['name']:<28}{row['ours']:>10.4f}{row['peer']:>10.4f}"
            f"{row['arithmetic']:>17.4f}{row['moved']:>12.1f}"
        )
