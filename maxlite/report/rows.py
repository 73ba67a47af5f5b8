"""New rows of the vocabulary beside old ones: how long they are, and where they lie.

Of each table, the embedding ("input") and a head of its own ("output"):

counts          {set: rows}; the sets are "old", "begun" (new rows before they trained, where that
                is known) and "new"
norms           {set: {"mean", "median", "low", "high"}}: Euclidean norms; low and high are the
                5th and the 95th of a hundred
bins            edges of a histogram of the norms, [bins + 1]; what lies outside is in the end bins
histogram       {set: share of its rows in each bin}
plane           {set: [[x, y], ...]}: some rows on the two principal axes of old and new ones
explained       share of the variance of these rows along each of the two axes
neighbours      mean cosine of a new row and the nearest old one, of those drawn
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from maxlite.console import bytes_bar
from maxlite.hf.folder import LazyModel
from maxlite.hf.lazy import LazyArray
from maxlite.parameters import EMBEDDING, HEAD

Figures = dict[str, Any]
Sets = dict[str, np.ndarray]

DRAWN = 600  # rows of a set, at most, evenly over it
_BINS = 32
_BLOCK = 1 << 25  # bytes of float32 that are read at once


def figures(model: LazyModel, begun: LazyModel | None) -> dict[str, Figures]:
    """The figures of each table of a model that has old and new rows.

    Args:
      model: after the training.
      begun: the same before it; None where that is not known.

    Returns:
      {"input": ..., "output": ...}; {} if all rows are of one kind.
    """
    old, rows = model.architecture.base_rows, model.architecture.vocab_size
    if not 0 < old < rows:
        return {}
    same = begun and begun.architecture.vocab_size == rows
    tables = {"input": EMBEDDING, "output": HEAD}
    found = {}
    for table, name in tables.items():
        if name in model.tensors:
            before = begun.tensors.get(name) if begun and same else None
            found[table] = _table(model.tensors[name], before, old, f"{table} rows")
    return found


def _table(array: LazyArray, begun: LazyArray | None, old: int, what: str) -> Figures:
    rows = array.shape[0]
    spans = {"old": (array, 0, old), "new": (array, old, rows)}
    if begun is not None:
        spans = {"old": spans["old"], "begun": (begun, old, rows), "new": spans["new"]}
    norms: Sets = {}
    drawn: Sets = {}
    size = 4 * array.shape[1]
    with bytes_bar(what) as progress:
        total = sum(stop - start for _, start, stop in spans.values()) * size
        done = 0
        for name, (source, start, stop) in spans.items():
            chosen = np.linspace(start, stop - 1, min(DRAWN, stop - start)).round().astype(int)
            lengths, picked = [], []
            step = max(1, _BLOCK // size)
            for first in range(start, stop, step):
                last = min(stop, first + step)
                block = np.asarray(source.rows(first, last).read(), np.float32)
                lengths.append(np.linalg.norm(block, axis=1))
                picked.append(block[chosen[(chosen >= first) & (chosen < last)] - first])
                done += (last - first) * size
                progress(done, total)
            norms[name], drawn[name] = np.concatenate(lengths), np.concatenate(picked)
    return {**_lengths(norms), **_plane(drawn)}


def _lengths(norms: Sets) -> Figures:
    ends = np.concatenate([np.quantile(each, [0.005, 0.995]) for each in norms.values()])
    low, high = float(ends.min()), float(ends.max())
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    told = {}
    for name, each in norms.items():
        low, middle, high = np.quantile(each, [0.05, 0.5, 0.95])
        told[name] = {"mean": each.mean(), "median": middle, "low": low, "high": high}
    return {
        "counts": {name: len(each) for name, each in norms.items()},
        "norms": {name: _plain(of) for name, of in told.items()},
        "bins": [_short(edge) for edge in edges],
        "histogram": {
            name: [
                _short(share)
                for share in np.histogram(np.clip(each, edges[0], edges[-1]), edges)[0] / len(each)
            ]
            for name, each in norms.items()
        },
    }


def _plane(drawn: Sets) -> Figures:
    both = np.concatenate([drawn["old"], drawn["new"]])
    middle = both.mean(axis=0)
    _, values, axes = np.linalg.svd(both - middle, full_matrices=False)
    axes = axes[:2] * np.where(axes[:2].sum(axis=1, keepdims=True) < 0, -1, 1)  # of either sign
    shares = values**2 / max(float((values**2).sum()), 1e-30)
    old, new = (_unit(drawn[name]) for name in ("old", "new"))
    return {
        "plane": {
            name: [[_short(x), _short(y)] for x, y in (each - middle) @ axes.T]
            for name, each in drawn.items()
        },
        "explained": [_short(share) for share in shares[:2]],
        "neighbours": _short((new @ old.T).max(axis=1).mean()),
    }


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def _plain(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: _short(value) for key, value in values.items()}


def _short(value: Any) -> float:
    """Four digits, which is all that a picture or a table shows."""
    return float(f"{float(value):.4g}")
