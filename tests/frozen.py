"""What a run may move, and what it has moved: bytes of exported folders, row by row."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from commands import call

from maxlite.hf.folder import open_folder
from maxlite.hf.peft import open_adapter
from maxlite.surgery import adapters

Allowed = Callable[[str], Iterable[int] | None]  # a tensor's name to its rows that may move


def weights(folder: Path) -> dict[str, np.ndarray]:
    """In float32, which holds bfloat16 without loss."""
    return {name: t.read().astype(np.float32) for name, t in open_folder(folder).tensors.items()}


def moved(before: Path, after: Path) -> dict[str, list[int]]:
    """Which rows of which tensors differ in any bit."""
    return differing(weights(before), weights(after))


def differing(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, list[int]]:
    assert a.keys() == b.keys()
    rows = {n: (a[n].view(np.uint32) != b[n].view(np.uint32)).reshape(len(a[n]), -1) for n in a}
    return {n: np.flatnonzero(x.any(1)).tolist() for n, x in rows.items() if x.any()}


def check_moved(before: Path, after: Path, allowed: Allowed, run: Path | None = None) -> None:
    """Everything that may move has moved, and nothing else, in any bit.

    Args:
      before: the model folder that a run began with.
      after: its export in float32.
      allowed: what may move; an adapter's weights may not.
      run: of a run with adapters: the weights that they were merged into, taken out again.
    """
    a, b = weights(before), weights(after)
    if run:
        folder = after.with_name(f"{after.name}-adapter")
        outcome = call("tools.export_hf", f"--run={run}", f"--out={folder}", "--adapter")
        assert outcome.status == 0, outcome.err
        adapter = open_adapter(folder)
        for name in a:
            parts = adapters.beside(name, adapter.tensors)
            if not parts:
                continue
            read = {own: adapter.tensors[full].read() for own, full in parts}
            merged = adapters.merge(a[name], read, adapter.lora.scale)
            assert merged.tobytes() == b[name].tobytes() != a[name].tobytes(), name
            b[name] = a[name]
    found = differing(a, b)
    may = {name: list(rows) for name in a if (rows := allowed(name)) is not None}
    assert found.keys() == may.keys()
    for name, rows in found.items():
        assert set(rows) <= set(may[name]), name
