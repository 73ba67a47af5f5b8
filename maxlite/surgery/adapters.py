"""Low-rank adapters beside a model's weights: added without effect, or merged into them.

W is a weight [O, I], A [R, I] and B [O, R] its adapter, m [O] DoRA's magnitudes. The input table's
belong to its transpose: A [R, V] and B [D, R] beside W [V, D].
"""

import dataclasses
import math
import zlib
from collections.abc import Container, Mapping, Sequence

import numpy as np

from maxlite.errors import InputError, suggestion
from maxlite.hf import names, peft
from maxlite.hf.folder import LazyModel
from maxlite.hf.lazy import Computed, Concatenated, LazyArray, cast, float32, select, zeros
from maxlite.hf.peft import Adapter
from maxlite.transforms import Lora

PROJECTIONS = tuple(f"{p}_proj" for p in ("q", "k", "v", "o", "gate", "up", "down"))
TABLES = ("embed_tokens", "lm_head")
TARGETS = (*PROJECTIONS, *TABLES)
FLOAT32 = np.dtype(np.float32)
# Names within a module. Those of the input table belong to its transpose, as PEFT has it.
A, B, MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector.weight"
TABLE_A, TABLE_B = "lora_embedding_A.weight", "lora_embedding_B.weight"


def settings(
    rank: int, alpha: float, targets: str, dropout: float, rslora: bool, dora: bool
) -> Lora:
    """The settings of adapters, checked.

    Raises:
        InputError: a rank, alpha or dropout that cannot be, or a target that has no adapters.
    """
    found = [name.strip() for name in targets.split(",") if name.strip()]
    for name in found:
        if name not in TARGETS:
            raise InputError(
                f"AddLora has target {name!r}, beside which no adapter can be; "
                f"{suggestion(name, TARGETS)}"
            )
    if not found:
        raise InputError(f"AddLora has no targets; choose from {', '.join(TARGETS)}")
    if rank < 1:
        raise InputError(f"AddLora has rank {rank}, but it must be at least 1")
    if not alpha > 0:
        raise InputError(f"AddLora has alpha {alpha:g}, but it must be above 0")
    if not 0 <= dropout < 1:
        raise InputError(f"AddLora has dropout {dropout:g}, but it must be at least 0 and below 1")
    if dora and set(found) & set(TABLES):
        raise InputError(
            "AddLora has dora=True for a vocabulary table, whose norms would be computed anew in"
            " every step: leave embed_tokens and lm_head out of targets, or use dora=False"
        )
    ordered = ",".join(name for name in TARGETS if name in found)
    return Lora(rank, float(alpha), ordered, float(dropout), rslora, dora)


def add(model: LazyModel, lora: Lora, seed: int) -> LazyModel:
    """The model with adapters that change nothing yet.

    They begin as PEFT's do: A is uniform within 1/sqrt(I) of 0 (Kaiming's rule with a = sqrt(5))
    and B zero; beside the input table A is zero and B normal; magnitudes are the norms of W's rows.
    All are float32.

    Raises:
        InputError: a tied table is a target.
    """
    arch = dataclasses.replace(model.architecture, lora=lora)
    if arch.tie_word_embeddings and set(lora.targets.split(",")) & set(TABLES):
        raise InputError(
            f"AddLora has a table of {model.path} as its target, whose input and output table are"
            " one: untie the model first, or leave embed_tokens and lm_head out of targets"
        )
    expected = names.expected(arch)
    tensors: dict[str, LazyArray] = {}
    for name, shape in expected.items():
        module = name.partition(".lora_")[0]
        weight = f"{module}.weight"
        if name in model.tensors:
            tensors[name] = model.tensors[name]
        elif name.endswith((A, TABLE_B)):
            tensors[name] = _drawn(name, shape, seed)
        elif name.endswith((B, TABLE_A)):
            tensors[name] = zeros(shape, FLOAT32)
        else:
            tensors[name] = _norms(weight, model.tensors[weight])
    kind = "DoRA" if lora.dora else "rsLoRA" if lora.rslora else "LoRA"
    count = sum(math.prod(expected[name]) for name in expected.keys() - model.tensors.keys())
    note = f"{kind} of rank {lora.rank} beside {lora.targets}: {count:,} parameters"
    return dataclasses.replace(
        model,
        architecture=arch,
        tensors=tensors,
        metadata={**model.metadata, "lora": dataclasses.asdict(lora)},
        notes=(*model.notes, note),
    )


def load(model: LazyModel, adapter: Adapter, seed: int) -> LazyModel:
    """The model with a PEFT adapter beside it, to be trained on; its tables replace its own.

    Modules that the adapter leaves out somewhere begin without effect there.

    Raises:
        InputError: the adapter does not fit the model.
    """
    lora = settings(**dataclasses.asdict(adapter.lora))
    after = add(model, lora, seed)
    peft.check_fits(adapter, after.architecture)
    new = {name: cast(tensor, FLOAT32, name) for name, tensor in adapter.tensors.items()}
    tables = _tables(model, adapter)
    origin = {"adapter": adapter.sha256, "tables": list(tables)}
    return dataclasses.replace(
        after,
        tensors={**after.tensors, **new, **tables},
        metadata={**after.metadata, "lora": after.metadata["lora"] | origin},
        notes=(*after.notes, f"their values, and {len(tables)} tables, from {adapter.path}"),
    )


def _tables(model: LazyModel, adapter: Adapter) -> dict[str, LazyArray]:
    """The tables that an adapter replaces, whole or in some rows, in the model's dtypes."""
    found = dict(adapter.tables)
    for name, (ids, rows) in adapter.rows.items():
        table = model.tensors[name]
        order = np.arange(table.shape[0])
        order[ids] = table.shape[0] + np.arange(len(ids))
        found[name] = select(Concatenated((table, cast(rows, table.dtype, name))), order)
    return {name: cast(table, model.tensors[name].dtype, name) for name, table in found.items()}


def merge_all(model: LazyModel, given: Sequence[Adapter]) -> LazyModel:
    """The model with PEFT adapters merged into its weights, in order.

    All is computed in float32 and cast once, to the dtype that each weight had. Whole tables in an
    adapter replace the model's.

    Raises:
        InputError: an adapter does not fit the model, or is in it already.
    """
    merged_before = list(model.metadata.get("adapters", ()))
    tensors, notes = dict(model.tensors), list(model.notes)
    for adapter in given:
        if any(entry["sha256"] == adapter.sha256 for entry in merged_before):
            raise InputError(f"{adapter.path} is merged into this model already: leave it out")
        lora = settings(**dataclasses.asdict(adapter.lora))
        peft.check_fits(adapter, dataclasses.replace(model.architecture, lora=lora))
        tables = _tables(dataclasses.replace(model, tensors=tensors), adapter)
        tensors |= tables
        modules = [name for name in tensors if beside(name, adapter.tensors)]
        for name in modules:
            parts = {own: adapter.tensors[full] for own, full in beside(name, adapter.tensors)}
            tensors[name] = merged(tensors[name], parts, lora.scale)
        merged_before.append({"path": str(adapter.path), "sha256": adapter.sha256})
        told = f", {len(tables)} tables replaced" if tables else ""
        notes.append(f"{adapter.path}: merged into {len(modules)} weights{told}")
    changed = {n: cast(t, model.tensors[n].dtype, n) for n, t in tensors.items()}
    same = {n: t for n, t in model.tensors.items() if tensors[n] is t}
    return dataclasses.replace(
        model,
        tensors=changed | same,
        metadata={**model.metadata, "adapters": merged_before},
        notes=tuple(notes),
    )


def _drawn(name: str, shape: tuple[int, ...], seed: int) -> Computed:
    def compute(start: int, stop: int) -> np.ndarray:  # drawn whole: it is small
        rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
        if name.endswith(TABLE_B):
            return rng.standard_normal(shape, np.float32)[start:stop]
        bound = shape[1] ** -0.5
        return (bound * (2 * rng.random(shape, np.float32) - 1))[start:stop]

    return Computed(shape, FLOAT32, compute)


def _norms(name: str, weight: LazyArray) -> Computed:
    def compute(start: int, stop: int) -> np.ndarray:
        norms = np.linalg.norm(float32(weight.read(slice(start, stop))), axis=1)
        if not norms.all():
            row = start + int(np.argmin(norms))
            raise InputError(
                f"row {row} of {name} is zero, so DoRA finds no direction in it: leave its"
                " projection out of targets, or use dora=False"
            )
        return norms

    return Computed(weight.shape[:1], FLOAT32, compute)


def beside(name: str, known: Container[str]) -> list[tuple[str, str]]:
    """The adapter of a weight: the names of its tensors in the module and in full.

    Args:
        name: of the weight; any other has no adapter.
        known: full names, those of adapters among them.
    """
    module, _, own = name.rpartition(".")
    every = (A, B, MAGNITUDE, TABLE_A, TABLE_B)
    return [(p, f"{module}.{p}") for p in every if own == "weight" and f"{module}.{p}" in known]


def merge(w: np.ndarray, parts: Mapping[str, np.ndarray], scale: float) -> np.ndarray:
    """W + scale B A, its rows brought to the norms m if there are such; in float32.

    Args:
        w: Rows of W, [N, I].
        parts: By their names in the module; what has a row for each of W's has only these N.
        scale: The factor.

    Returns:
        float32 [N, I].
    """
    if TABLE_A in parts:
        b, a = parts[TABLE_A].T, parts[TABLE_B].T
    else:
        b, a = parts[B], parts[A]
    merged = float32(w) + np.float32(scale) * (float32(b) @ float32(a))
    if MAGNITUDE not in parts:
        return merged
    return merged * (float32(parts[MAGNITUDE]) / np.linalg.norm(merged, axis=1))[:, None]


def merged(weight: LazyArray, parts: Mapping[str, LazyArray], scale: float) -> Computed:
    """A weight with its adapter merged into it, in float32; see `merge`."""

    def compute(start: int, stop: int) -> np.ndarray:
        rows = slice(start, stop)
        mine = {B: rows, MAGNITUDE: rows, TABLE_A: (slice(None), rows)}
        read = {name: part.read(mine.get(name, slice(None))) for name, part in parts.items()}
        return merge(weight.read(rows), read, scale)

    return Computed(weight.shape, FLOAT32, compute)


def refuse(model: LazyModel, what: str) -> None:
    """Refuses a model that has adapters beside its weights for what knows nothing of them.

    Raises:
        InputError: it has adapters.
    """
    if model.architecture.lora.rank:
        raise InputError(
            f"{model.path} has adapters, which {what} would lose or misplace: merge them first"
            " (tools.export_hf --run does), or do it before AddLora"
        )
