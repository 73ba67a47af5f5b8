"""The safetensors files of a model folder, read as a tree of lazy arrays."""

import json
import struct
from pathlib import PurePosixPath
from typing import Any

import ml_dtypes
import numpy as np

from maxlite import storage
from maxlite.errors import InputError
from maxlite.hf.lazy import BFLOAT16, FileTensor, RemoteTensor, StoredTensor
from maxlite.storage import Place, Url

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
LARGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors library
DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": BFLOAT16,
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


def read_tree(folder: Place) -> dict[str, StoredTensor]:
    """All tensors of a model folder by name, in the order of its files; opens no tensor's data.

    Raises:
        InputError: no safetensors weights, a missing, damaged or truncated file, or an index that
            disagrees with its shards.
    """
    folder = storage.place(folder)
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    files = storage.found(folder, "*.safetensors")
    if (folder / SINGLE).is_file():
        return read_header(folder / SINGLE)
    if len(files) == 1 and files[0].name != "adapter_model.safetensors":
        return read_header(files[0])
    if (folder / "adapter_config.json").is_file():
        raise InputError(f"{folder} holds a PEFT adapter, not a model: give the folder of its base")
    if files:
        raise InputError(
            f"{folder} has {len(files)} .safetensors files but no {INDEX} that says which tensor"
            " is where: fetch the index too"
        )
    pickled = [p for end in ("bin", "pt", "pth") for p in storage.found(folder, f"*.{end}")]
    if pickled:
        raise InputError(
            f"{folder} holds pickled weights ({pickled[0].name}), which could run code when opened:"
            " convert them with transformers,"
            f" AutoModelForCausalLM.from_pretrained({str(folder)!r}).save_pretrained('NEW_FOLDER')"
        )
    raise InputError(f"{folder} holds no weights: there is no {SINGLE} and no {INDEX} in it")


def read_header(path: Place) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file, in the order in which their data lies.

    Raises:
        InputError: the file is not safetensors, is damaged, or has another size than its header
            promises.
    """
    path = storage.place(path)
    actual = path.stat().st_size
    (start,) = storage.read_ranges(path, [0], [min(8, actual)])
    if start == b"version ":
        raise InputError(f"{path} is a git-lfs pointer, not the weights: run `git lfs pull`")
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else actual
    if 8 + length > actual and length <= LARGEST_HEADER:
        raise InputError(
            f"{path} is {actual:,} bytes long where its header alone takes {8 + length:,}:"
            " it is truncated, fetch it again"
        )
    if length > LARGEST_HEADER:
        raise InputError(f"{path} is no safetensors file: its header would be {length:,} bytes")
    (text,) = storage.read_ranges(path, [8], [8 + length])
    try:
        header = json.loads(text.decode(), object_pairs_hook=_unique)
        header.pop("__metadata__", None)
        tensors = {name: _tensor(path, 8 + length, entry) for name, entry in header.items()}
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} has a damaged header ({error}): fetch it again") from error
    tensors = dict(sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes)))
    end = 8 + length
    for name, tensor in tensors.items():
        if tensor.offset != end:
            raise InputError(
                f"{path} has a damaged header: tensor {name} starts at byte"
                f" {tensor.offset:,} of the file where the tensor before it ends at {end:,}"
            )
        end += tensor.nbytes
    if end != actual:
        why = "it is truncated" if actual < end else "it has bytes too many"
        raise InputError(
            f"{path} is {actual:,} bytes long but its header promises {end:,}: {why},"
            " fetch it again"
        )
    return tensors


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name appears twice")
    return dict(pairs)


def _tensor(path: Place, data: int, entry: dict[str, Any]) -> StoredTensor:
    if entry["dtype"] not in DTYPES:
        raise InputError(f"{path} stores tensors as {entry['dtype']!r}, which maxlite cannot read")
    begin, end = entry["data_offsets"]
    sizes = [*entry["shape"], begin, end]
    if any(type(size) is not int or size < 0 for size in sizes):
        raise ValueError(f"sizes {sizes}")
    where = data + begin, tuple(entry["shape"]), DTYPES[entry["dtype"]]
    tensor = RemoteTensor(path, *where) if isinstance(path, Url) else FileTensor(path, *where)
    if end - begin != tensor.nbytes:
        raise ValueError(f"{end - begin} bytes for {entry['dtype']} of shape {entry['shape']}")
    return tensor


def _read_shards(folder: Place) -> dict[str, StoredTensor]:
    index = folder / INDEX
    try:
        weight_map = json.loads(index.read_text())["weight_map"]
        shards = dict.fromkeys(weight_map.values())
        if not all(isinstance(shard, str) and shard for shard in shards):
            raise ValueError("a shard name is not a text")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{index} is damaged ({error!r}): fetch it again") from error
    for shard in shards:
        inside = PurePosixPath(shard)
        if inside.is_absolute() or ".." in inside.parts or "\\" in shard or ":" in shard:
            raise InputError(f"{index} names a shard outside the folder, {shard!r}: refused")
    if SINGLE not in shards and (folder / SINGLE).is_file():
        raise InputError(
            f"{folder} has both {SINGLE} and {INDEX}, two sets of weights: remove the one not meant"
        )
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} of {len(shards)} shards that {INDEX} names:"
            f" {listed(missing)}; fetch them"
        )
    tensors: dict[str, StoredTensor] = {}
    for shard in shards:
        found = read_header(folder / shard)
        for name in found:
            if weight_map.get(name, shard) != shard or name in tensors:
                raise InputError(
                    f"{folder / shard} holds tensor {name}, which {INDEX} places in another shard:"
                    " fetch the folder again"
                )
        tensors |= found
    absent = [name for name in weight_map if name not in tensors]
    if absent:
        raise InputError(
            f"{index} names tensors that their shards do not hold: {listed(absent)};"
            " fetch the folder again"
        )
    return tensors


def listed(names: list[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
