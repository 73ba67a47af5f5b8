"""PEFT's adapter folders: adapter_config.json and adapter_model.safetensors, read and written.

Their tensors have our names here (`model.layers.0.self_attn.q_proj.lora_A.weight`). Tables that
trained beside them are whole (PEFT's `modules_to_save`) or some rows (`trainable_token_indices`).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maxlite import outputs, storage
from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf import json_values, names, writer
from maxlite.hf.json_values import bad
from maxlite.hf.lazy import LazyArray
from maxlite.hf.tensors import listed, read_header
from maxlite.storage import Place
from maxlite.transforms import Lora

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
PARAMETERS = (".lora_magnitude_vector", ".lora_embedding_A", ".lora_embedding_B")  # no ".weight"
ROWS = ".token_adapter.trainable_tokens_delta"
TABLES = {"embed_tokens": names.EMBEDDING, "lm_head": names.HEAD}
MEANT = {"r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "peft_type"}
MEANT |= {"trainable_token_indices"}
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian"),  # others change the base as well
}
INERT = {  # whatever they say, the tensors say what is adapted and replaced
    *("auto_mapping", "base_model_name_or_path", "revision", "peft_version", "task_type"),
    *("inference_mode", "target_modules", "exclude_modules", "modules_to_save"),
    *("layers_to_transform", "layers_pattern", "megatron_core", "qalora_group_size"),
    *("ensure_weight_tying", "runtime_config"),
}


@dataclass(frozen=True)
class Adapter:
    """An adapter folder whose tensors have not been read.

    Attributes:
        path: The folder.
        lora: Its settings; the targets are those of its tensors.
        tensors: The adapters' tensors, by our names.
        tables: Whole tables that replace the model's.
        rows: By the table's name, ids [N] and their rows [N, D], which replace the model's.
        sha256: Of its two files.
    """

    path: Path
    lora: Lora
    tensors: Mapping[str, LazyArray]
    tables: Mapping[str, LazyArray]
    rows: Mapping[str, tuple[list[int], LazyArray]]
    sha256: str


def open_adapter(folder: str | Path) -> Adapter:
    """Opens an adapter folder that PEFT or maxlite has written.

    Raises:
        InputError: it is none, or has settings or tensors that maxlite cannot compute with.
    """
    path = Path(folder).expanduser()
    file, weights = path / CONFIG, path / WEIGHTS
    for needed in (file, weights):
        if not needed.is_file():
            raise InputError(f"{path} is not a PEFT adapter: it has no {needed.name}")
    config = json_values.parse(file.read_bytes(), str(file))
    if config.get("peft_type") != "LORA":
        raise bad(str(file), config, "peft_type", "but only LORA is supported")
    for key, value in config.items():
        neutral = NEUTRAL.get(key, (None, False, 0, "", [], {}))
        if key not in MEANT | INERT and value not in neutral:
            raise bad(str(file), config, key, "which maxlite cannot compute with")
    rank = json_values.whole(config, "r", str(file))
    alpha = json_values.number(config, "lora_alpha", str(file))
    dropout = json_values.number(config, "lora_dropout", str(file), 0.0, low=0.0)
    rslora, dora = (json_values.switch(config, f"use_{k}", str(file)) for k in ("rslora", "dora"))

    tensors: dict[str, LazyArray] = {}
    tables: dict[str, LazyArray] = {}
    rows: dict[str, tuple[list[int], LazyArray]] = {}
    indices, unknown = _indices(config, str(file)), []
    for full, tensor in read_header(weights).items():
        name = full.removeprefix(PREFIX).replace(".base_layer.", ".")
        name += ".weight" if name.endswith(PARAMETERS) else ""
        table = name.removesuffix(ROWS) + ".weight"
        if name in TABLES.values():
            tables[name] = tensor
        elif name.endswith(ROWS) and table in indices:
            rows[table] = indices[table], tensor
        elif ".lora_" in name:
            tensors[name] = tensor
        else:
            unknown.append(full)
    if unknown or not tensors:
        told = f"tensors that maxlite cannot use ({listed(unknown)})" if unknown else "no adapters"
        raise InputError(f"{weights} holds {told}: only projections and tables are supported")
    if indices.keys() != rows.keys():
        raise InputError(f"{weights} lacks the rows that {file.name} names as trained: it is cut")
    targets = dict.fromkeys(name.partition(".lora_")[0].rpartition(".")[2] for name in tensors)
    digest = hashlib.sha256(file.read_bytes())
    with weights.open("rb") as opened:
        digest.update(hashlib.file_digest(opened, "sha256").digest())
    lora = Lora(rank, alpha, ",".join(targets), dropout, rslora, dora)
    return Adapter(path, lora, tensors, tables, rows, digest.hexdigest())


def _indices(config: dict[str, Any], file: str) -> dict[str, list[int]]:
    """The ids whose rows an adapter replaces, by table; a bare list means the input table's."""
    found = config.get("trainable_token_indices") or {}
    found = {"embed_tokens": found} if isinstance(found, list) else found
    for module, ids in found.items() if isinstance(found, dict) else [("", [])]:
        fine = isinstance(ids, list) and all(type(i) is int and i >= 0 for i in ids)
        if module not in TABLES or not fine or len({*ids}) < len(ids):
            raise bad(file, config, "trainable_token_indices", "expected different ids by table")
    return {TABLES[module]: ids for module, ids in found.items()}


def check_fits(adapter: Adapter, arch: Architecture) -> None:
    """Refuses an adapter whose tensors do not fit a model.

    Args:
        adapter: The adapter.
        arch: The model's, with the adapter's settings as its `lora`.

    Raises:
        InputError: a tensor is of another shape, of no module of the model or without its partner.
    """
    expected = names.expected(arch)
    found = {**adapter.tensors, **adapter.tables}
    for name, tensor in found.items():
        if name not in expected:
            why = " (the model is tied)" if name == names.HEAD else ""
            raise InputError(f"{adapter.path} has {name}, for which the model has no place{why}")
        if tuple(tensor.shape) != expected[name]:
            raise InputError(
                f"{adapter.path} does not fit the model: {name} is {list(tensor.shape)} where"
                f" {list(expected[name])} is needed"
            )
    modules = {name.partition(".lora_")[0] for name in adapter.tensors}
    lacking = [
        name
        for name in expected
        if name not in found and ".lora_" in name and name.partition(".lora_")[0] in modules
    ]
    if lacking:
        raise InputError(f"{adapter.path} lacks {listed(lacking)}: it is not whole")
    for name, (ids, rows) in adapter.rows.items():
        shape = expected.get(name, (0, 0))
        if tuple(rows.shape) != (len(ids), shape[1]) or max(ids, default=0) >= shape[0]:
            raise InputError(
                f"{adapter.path} does not fit the model: it has {list(rows.shape)} for"
                f" {len(ids)} rows of {name} up to {max(ids, default=0)}, which is {list(shape)}"
            )
    module = names.EMBEDDING.removesuffix("weight")
    if arch.tie_word_embeddings and any(name.startswith(module) for name in found):
        raise InputError(
            f"{adapter.path} changes the input table of a tied model, and the output table with"
            " it only where PEFT was told so: untie the model and train both"
        )


def write_adapter(
    out: str | Place,
    lora: Lora,
    base: str,
    specs: writer.Specs,
    read: Callable[[str], np.ndarray],
    rows: Mapping[str, Sequence[int]],
    revision: str = "",
) -> None:
    """Writes an adapter folder as PEFT does, all or nothing.

    Args:
        out: The folder to make.
        lora: The settings.
        base: What the adapter belongs to: a folder or a hub id; "" if it is neither.
        specs: dtype and shape of each adapter tensor and table, by our names.
        read: Gives each of them when its turn comes.
        rows: Ids [N] of a table of which specs and `read` have only these rows, by its name.
        revision: The commit of a hub id.

    Raises:
        InputError: `out` exists, or the disk has no room.
    """
    tables = [module for module, name in TABLES.items() if name in specs and name not in rows]
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base or None,
        **({"revision": revision} if revision else {}),
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha,
        "target_modules": lora.targets.split(","),
        "modules_to_save": tables or None,
        "use_rslora": lora.rslora,
        "use_dora": lora.dora,
        "lora_dropout": lora.dropout,
        "bias": "none",
        "fan_in_fan_out": False,
    }
    if rows:
        named = {module: name for module, name in TABLES.items() if name in rows}
        config["trainable_token_indices"] = {m: [*rows[name]] for m, name in named.items()}

    def theirs(name: str) -> str:
        module = name.removesuffix(".weight")
        if name in rows:
            return PREFIX + module + ROWS
        return PREFIX + (module if module.endswith(PARAMETERS) else name)

    ours = {theirs(name): name for name in specs}
    writer.refuse_existing(out)
    with outputs.new_folder(storage.place(out), last=CONFIG) as folder:
        (folder / CONFIG).write_bytes(json_values.dump(config))
        spelled = {theirs(name): spec for name, spec in specs.items()}
        (file,) = writer.write_weights(folder, spelled, lambda n: read(ours[n]), 1 << 62)
        file.rename(folder / WEIGHTS)
