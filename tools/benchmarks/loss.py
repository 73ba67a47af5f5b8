"""`benchmark loss`: the loss in chunks with its gradient, beside the plain one and PyTorch's.

Forward and backward from hidden states and a table, float32, at 40,960 and 128,256 rows: once with
all of the table trained, once with the old rows of an extension frozen. The plain loss is jax's
log-sum-exp over all scores, differentiated by jax; PyTorch's is `cross_entropy` of a product, where
torch is installed.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from maxlite.console import say
from maxlite.model import loss as loss_lib
from maxlite.model.head import Head
from tools.benchmarks.stepping import MIB

TOKENS, WIDTH, OLD = 2048, 768, 32_000
SIZES = {  # rows of each part, and how many of the parts are frozen
    "40,960 rows": ((40_960,), 0),
    "40,960 rows, 32,000 frozen": ((OLD, 40_960 - OLD), 1),
    "128,256 rows": ((128_256,), 0),
}
Run = Callable[[], Any]


class Bare:
    """A model that is its head."""

    def __init__(self, head: Head):
        self._head = head

    def __call__(self, *_: Any, key: Any = None) -> Any:
        return self._head.inputs

    def head(self, hidden: Any, key: Any = None) -> Head:
        """The head, whatever the hidden states are."""
        return self._head


def measure(settings: Any) -> list[dict[str, Any]] | None:
    """Measures each size against each peer; prints a table.

    Args:
      settings: `runs`, `dry_run` as attributes.

    Returns:
      A row for each size and peer: name, ours and peer (seconds, medians), ratio, unit, runs,
      peak_mib and peer_peak_mib (temporaries and results of the compiled program; null for torch)
      and chunks.
    """
    if settings.dry_run:
        say(f"would time the loss at {len(SIZES)} sizes")
        return None
    peers: dict[str, Callable[..., tuple[Run, float | None]]] = {"plain": _plain}
    if importlib.util.find_spec("torch"):
        peers["torch"] = _torch
    else:
        say("torch is not installed, so it is no peer: pip install -e '.[test]'")
    rows = []
    for name, (sizes, frozen) in SIZES.items():
        rows += _compared(name, sizes, frozen, peers, settings.runs)
    print(f"{'':<36}{'ours s':>9}{'peer s':>9}{'ratio':>7}{'MiB':>8}{'peer MiB':>10}{'chunks':>8}")
    for row in rows:
        theirs = row["peer_peak_mib"]
        print(
            f"{row['name']:<36}{row['ours']:>9.3f}{row['peer']:>9.3f}{row['ratio']:>7.2f}"
            f"{row['peak_mib']:>8.0f}{'-' if theirs is None else format(theirs, '.0f'):>10}"
            f"{row['chunks']:>8}"
        )
    return rows


def _compared(
    name: str, sizes: tuple[int, ...], frozen: int, peers: dict[str, Any], runs: int
) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, TOKENS, WIDTH), np.float32)
    tables = [0.05 * rng.standard_normal((n, WIDTH), np.float32) for n in sizes]
    targets = rng.integers(0, sum(sizes), (1, TOKENS)).astype(np.int32)
    ours, peak = _compiled(_ours, x, tables, targets, frozen)
    several = {peer: make(x, tables, targets, frozen) for peer, make in peers.items()}
    times: dict[str, list[float]] = {}
    for _ in tqdm(range(runs + 1), desc=name, leave=False):  # the first is not counted
        for kind, run in [("ours", ours), *((peer, run) for peer, (run, _) in several.items())]:
            began = time.monotonic()
            run()
            times.setdefault(kind, []).append(time.monotonic() - began)
    seconds = {kind: statistics.median(found[1:]) for kind, found in times.items()}
    return [
        {
            "name": f"{name}, {peer}",
            "ours": seconds["ours"],
            "peer": seconds[peer],
            "ratio": seconds["ours"] / seconds[peer],
            "unit": "seconds",
            "runs": runs,
            "peak_mib": peak,
            "peer_peak_mib": theirs,
            "chunks": -(-TOKENS // loss_lib.chunk_tokens(sum(sizes))),
        }
        for peer, (_, theirs) in several.items()
    ]


def _ours(x_BSD: jax.Array, tables: list[jax.Array], targets_BS: jax.Array) -> jax.Array:
    model = Bare(Head((x_BSD,), tuple((w_VD,) for w_VD in tables)))
    names = ("targets", "tokens", "positions", "segments")
    batch = dict.fromkeys(names, targets_BS) | {"weights": jnp.ones(targets_BS.shape)}
    return loss_lib.summed_loss(model, batch)[0]  # type: ignore[arg-type]


def _scores(x_BSD: jax.Array, tables: list[jax.Array], targets_BS: jax.Array) -> jax.Array:
    scores = jnp.concatenate([jnp.einsum("bsd,vd->bsv", x_BSD, w_VD) for w_VD in tables], -1)
    chosen_BS = jnp.take_along_axis(scores, targets_BS[..., None], -1)[..., 0]
    return jnp.sum(jax.nn.logsumexp(scores, -1) - chosen_BS)


def _plain(*arguments: Any) -> tuple[Run, float]:
    return _compiled(_scores, *arguments)


def _compiled(
    loss: Any, x_BSD: Any, tables: list[Any], targets_BS: Any, frozen: int
) -> tuple[Run, float]:
    """A function that takes the loss and its gradients once, and its memory in MiB."""

    def split(x: Any, trained: Any, rest: Any, targets: Any) -> jax.Array:
        return loss(x, [*rest, *trained], targets)

    gradients = jax.jit(jax.value_and_grad(split, (0, 1)))
    arrays = jax.device_put((x_BSD, tables[frozen:], tables[:frozen], targets_BS))
    compiled = gradients.lower(*arrays).compile()
    memory: Any = compiled.memory_analysis()
    taken = (memory.temp_size_in_bytes + memory.output_size_in_bytes) / MIB
    return lambda: jax.block_until_ready(compiled(*arrays)), taken


def _torch(x_BSD: Any, tables: list[Any], targets_BS: Any, frozen: int) -> tuple[Run, None]:
    import torch

    x = torch.from_numpy(x_BSD[0].copy()).requires_grad_()
    own = [torch.from_numpy(w).requires_grad_(i >= frozen) for i, w in enumerate(tables)]
    targets = torch.from_numpy(targets_BS[0].astype(np.int64))

    def run() -> None:
        scores = torch.cat([x @ w.T for w in own], -1) if len(own) > 1 else x @ own[0].T
        loss = torch.nn.functional.cross_entropy(scores, targets, reduction="sum")
        torch.autograd.grad(loss, [x, *own[frozen:]])

    return run, None
