"""Low-rank adapters beside a model's projections: added without effect, or merged into them.

W is a weight [O, I], A [R, I] and B [O, R] its adapter, m [O] DoRA's magnitudes.
"""

import dataclasses
import difflib
import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from maxlite.errors import InputError
from maxlite.hf import names, peft
from maxlite.hf.folder import LazyModel
from maxlite.hf.lazy import Computed, LazyArray, cast, float32, zeros
from maxlite.hf.peft import Adapter
from maxlite.transforms import Lora

PROJECTIONS = tuple(f"{p}_proj" for p in ("q", "k", "v", "o", "gate", "up", "down"))
WEIGHT, A, B, MAGNITUDE = (
    f"{name}weight" for name in ("", "lora_A.", "lora_B.", "lora_magnitude_vector.")
)
FLOAT32 = np.dtype(np.float32)


def settings(rank: int, alpha: float, targets: str, rslora: bool, dora: bool) -> Lora:
    """The settings of adapters, checked.

    Raises:
        InputError: a rank or alpha that cannot be, or a target that is no projection.
    """
    found = [name.strip() for name in targets.split(",") if name.strip()]
    for name in found:
        if name not in PROJECTIONS:
            near = difflib.get_close_matches(name, PROJECTIONS, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(PROJECTIONS)}"
            raise InputError(f"AddLora has target {name!r}, beside which no adapter can be; {hint}")
    if not found:
        raise InputError(f"AddLora has no targets; choose from {', '.join(PROJECTIONS)}")
    if rank < 1:
        raise InputError(f"AddLora has rank {rank}, but it must be at least 1")
    if not alpha > 0:
        raise InputError(f"AddLora has alpha {alpha:g}, but it must be above 0")
    ordered = ",".join(name for name in PROJECTIONS if name in found)
    return Lora(rank, float(alpha), ordered, rslora, dora)


def add(model: LazyModel, lora: Lora, seed: int) -> LazyModel:
    """The model with adapters that change nothing yet.

    A is uniform within 1/sqrt(I) of 0 (Kaiming's rule with a = sqrt(5)) and B zero, as PEFT begins;
    the magnitudes are the norms of W's rows. All are float32.

    Raises:
        InputError: the rank is more than a projection's smaller side.
    """
    arch = dataclasses.replace(model.architecture, lora=lora)
    expected = names.expected(arch)
    tensors: dict[str, LazyArray] = {}
    for name, shape in expected.items():
        if name in model.tensors:
            tensors[name] = model.tensors[name]
        elif name.endswith(A):
            tensors[name] = _uniform(name, shape, seed)
            rows, columns = expected[name.removesuffix(A) + WEIGHT]
            if lora.rank > min(rows, columns):
                raise InputError(
                    f"AddLora has rank {lora.rank}, more than {name.removesuffix('.' + A)} of"
                    f" {rows} x {columns} can have; lower it"
                )
        elif name.endswith(B):
            tensors[name] = zeros(shape, FLOAT32)
        else:
            weight = name.removesuffix(MAGNITUDE) + WEIGHT
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
    new |= {n: cast(tensor, model.tensors[n].dtype, n) for n, tensor in adapter.tables.items()}
    origin = {"adapter": adapter.sha256, "tables": list(adapter.tables)}
    return dataclasses.replace(
        after,
        tensors={**after.tensors, **new},
        metadata={**after.metadata, "lora": after.metadata["lora"] | origin},
        notes=(
            *after.notes,
            f"their values, and {len(adapter.tables)} tables, from {adapter.path}",
        ),
    )


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
        modules: dict[str, dict[str, LazyArray]] = {}
        for name, tensor in adapter.tensors.items():
            module, _, part = name.partition(".lora_")
            modules.setdefault(f"{module}.{WEIGHT}", {})[f"lora_{part}"] = tensor
        for name, parts in modules.items():
            tensors[name] = merged(tensors[name], parts, lora.scale)
        tensors |= adapter.tables
        merged_before.append({"path": str(adapter.path), "sha256": adapter.sha256})
        tables = f", {len(adapter.tables)} tables replaced" if adapter.tables else ""
        notes.append(f"{adapter.path}: merged into {len(modules)} weights{tables}")
    changed = {n: cast(t, model.tensors[n].dtype, n) for n, t in tensors.items()}
    same = {n: t for n, t in model.tensors.items() if tensors[n] is t}
    return dataclasses.replace(
        model,
        tensors=changed | same,
        metadata={**model.metadata, "adapters": merged_before},
        notes=tuple(notes),
    )


def _uniform(name: str, shape: tuple[int, ...], seed: int) -> Computed:
    key, bound = (seed, zlib.crc32(name.encode())), shape[1] ** -0.5

    def compute(start: int, stop: int) -> np.ndarray:  # drawn whole: it is small
        drawn = np.random.default_rng(key).random(shape, np.float32)
        return (bound * (2 * drawn - 1))[start:stop]

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


def merge(
    w: np.ndarray, a: np.ndarray, b: np.ndarray, m: np.ndarray | None, scale: float
) -> np.ndarray:
    """W + scale B A, with the rows brought to the norms m if they are given; in float32.

    Args:
        w: Rows of W; b and m have the same.
    """
    merged = float32(w) + np.float32(scale) * (float32(b) @ float32(a))
    if m is None:
        return merged
    return merged * (float32(m) / np.linalg.norm(merged, axis=1))[:, None]


def merged(weight: LazyArray, parts: Mapping[str, LazyArray], scale: float) -> Computed:
    """A weight with its adapter merged into it, in float32.

    Args:
        weight: W.
        parts: The adapter, by the names of its tensors in the module.
    """
    m = parts.get(MAGNITUDE)

    def compute(start: int, stop: int) -> np.ndarray:
        rows = slice(start, stop)
        own = None if m is None else m.read(rows)
        return merge(weight.read(rows), parts[A].read(), parts[B].read(rows), own, scale)

    return Computed(weight.shape, FLOAT32, compute)


def refuse(model: LazyModel, what: str) -> None:
    """Refuses a model that has adapters beside its weights for what knows nothing of them."""
    if model.architecture.lora.rank:
        raise InputError(
            f"{model.path} has adapters, which {what} would lose or misplace: merge them first"
            " (tools.export_hf --run does), or do it before AddLora"
        )
