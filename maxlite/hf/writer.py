"""Writing a model folder: each tensor streamed once into sharded safetensors, all or nothing.

Bytes that do not change go from file to file inside the kernel; anything else is in memory one
tensor at a time. The folder appears under its name only when it is complete.
"""

import json
import math
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maxlite import outputs, storage, uploads
from maxlite.errors import InputError
from maxlite.hf import json_values, metadata
from maxlite.hf.folder import CONFIG, LazyModel, is_folder
from maxlite.hf.lazy import LazyArray
from maxlite.hf.stream import Stream
from maxlite.hf.tensors import DTYPES, INDEX, SINGLE
from maxlite.storage import Place, Url

MAX_SHARD_SIZE = 5 * 10**9  # bytes
PAGE = 4096  # bytes; where the data of a file begins is a multiple of it
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}

Specs = Mapping[str, tuple[Any, tuple[int, ...]]]  # name -> (dtype or its name, shape)
Read = Callable[[str], np.ndarray | LazyArray]
Progress = Callable[[int, int], None]  # bytes written, bytes in all


def parse_size(text: str | int) -> int:
    """Bytes of a size such as "5GB", "200MB", "1.5 GiB" or 4096; KB, MB and GB are decimal.

    Raises:
        InputError: it is not written like one, or is 0.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]I?)?B?\s*", str(text).upper())
    size = int(float(match[1]) * UNITS[match[2] or ""]) if match else 0
    if size <= 0:
        raise InputError(f"{text!r} is not a size: write it like 5GB, 200MB or 1GiB")
    return size


def write_folder(
    out: str | Place,
    *,
    config: bytes,
    specs: Specs,
    read: Read,
    files: Mapping[str, Path | bytes] | None = None,
    notes: dict[str, Any] | None = None,
    max_shard_size: str | int = MAX_SHARD_SIZE,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Place:
    """Write a whole model folder.

    Args:
        out: The folder to make.
        config: The bytes of config.json, from `config_json.render`, or `json_values.dump`.
        specs: dtype and shape of each tensor, in the order in which they are written.
        read: Gives each tensor when its turn comes; it is cast where its dtype is another.
        files: Companion files to copy, or their content, by name within the folder.
        notes: The content of maxlite.json; None leaves that to `files`.
        max_shard_size: Bytes in one weight file, or a text such as "5GB".
        overwrite: Replace a model folder that is there, once the new one is complete.
        progress: Called as bytes are written.

    Raises:
        InputError: `out` exists, or the disk has no room; nothing is left behind.
    """
    refuse_existing(out, overwrite)
    check_room(out, specs, files)
    with outputs.new_folder(storage.place(out), overwrite, CONFIG) as folder:
        outputs.fill(folder, {CONFIG: config, **(files or {})})
        if notes is not None and notes != metadata.read(folder):
            metadata.write(folder, notes)
        write_weights(folder, specs, read, parse_size(max_shard_size), progress=progress)
    return storage.place(out)


def write_model(
    out: str | Place,
    model: LazyModel,
    *,
    max_shard_size: str | int = MAX_SHARD_SIZE,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Place:
    """Write a model as a folder, each tensor in its `dtypes`; raises as `write_folder`."""
    dtypes = model.dtypes
    return write_folder(
        out,
        config=model.rendered(),
        specs={name: (dtypes[name], tensor.shape) for name, tensor in model.tensors.items()},
        read=model.tensors.__getitem__,
        files=model.files,
        notes=model.metadata or None,
        max_shard_size=max_shard_size,
        overwrite=overwrite,
        progress=progress,
    )


def check_room(
    out: str | Place, specs: Specs, files: Mapping[str, Path | bytes] | None = None
) -> None:
    """Refuses a new folder for which its disk has too little space free.

    Raises:
        InputError: with both sizes.
    """
    need = sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in specs.values())
    need += sum(_size(file) for file in (files or {}).values())
    there, place = storage.place(out), "its disk"
    if isinstance(there, Url):
        parent = Path(tempfile.gettempdir())
        place = f"{parent}, where it is made before it is copied ($TMPDIR),"
    else:
        parent = Path(os.path.realpath(there)).parent
    while not parent.exists():
        parent = parent.parent
    free = shutil.disk_usage(parent).free
    if need > free:
        raise InputError(
            f"{out} needs {_told(need)} and {place} has {_told(free)} free: make room, or choose a"
            " place on another disk"
        )


def _told(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.2f} MB"


def _size(file: Path | bytes) -> int:
    return len(file) if isinstance(file, bytes) else file.stat().st_size


def refuse_existing(out: str | Place, overwrite: bool = False) -> None:
    """Refuses a name that a new folder cannot take; cheap, for before the work.

    Raises:
        InputError: something is there that may not be replaced.
    """
    path = storage.place(out)
    if isinstance(path, Url):
        path.check_bucket()
        if uploads.taken(path):
            raise InputError(f"{path} exists already: remove it, or choose another name")
        return
    if os.path.lexists(path) and not overwrite:
        raise InputError(f"{path} exists already: choose another name, or pass --overwrite")
    if path.exists() and not is_folder(path) and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} is not a model folder, so it is not overwritten: remove it first")


def write_weights(
    folder: str | Path,
    specs: Specs,
    read: Read,
    max_shard_size: int = MAX_SHARD_SIZE,
    header: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write tensors as `model.safetensors`, or as shards and their index if they exceed one file.

    The split depends on `specs` and `max_shard_size` alone.

    Returns:
        The weight files.

    Raises:
        ValueError: an array has another shape than was announced.
    """
    folder = Path(folder)
    header = {"format": "pt"} if header is None else header
    layout = {name: (np.dtype(dtype), tuple(shape)) for name, (dtype, shape) in specs.items()}
    sizes = {name: math.prod(shape) * dtype.itemsize for name, (dtype, shape) in layout.items()}
    shards = _shards(sizes, max_shard_size)
    for shard in shards:
        # wide types first, so that every tensor is aligned to its own item size
        shard.sort(key=lambda name: -layout[name][0].itemsize)
    starts = [_header({name: layout[name] for name in shard}, header) for shard in shards]
    files = [
        folder / (SINGLE if len(shards) == 1 else f"model-{i:05}-of-{len(shards):05}.safetensors")
        for i in range(1, len(shards) + 1)
    ]
    done, total = -sum(len(start) for start in starts), sum(sizes.values())

    def wrote(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(max(done, 0), total)

    for path, shard, start in zip(files, shards, starts, strict=True):
        with Stream(path, wrote) as stream:
            stream.write(start)
            for name in shard:
                array, (dtype, shape) = read(name), layout[name]
                if tuple(array.shape) != shape:
                    raise ValueError(f"{name} has shape {array.shape}, announced was {shape}")
                stream.append(name, array, dtype)
    if len(files) > 1:
        pairs = zip(files, shards, strict=True)
        places = {name: path.name for path, shard in pairs for name in shard}
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (folder / INDEX).write_bytes(json_values.dump(index))
    return files


def write_file(path: Path, arrays: Mapping[str, np.ndarray], header: Mapping[str, str]) -> None:
    """Write arrays as one safetensors file, whole or not at all; what is there is replaced.

    Args:
        path: The file.
        arrays: Of any shape and of dtypes that safetensors knows, in the order of writing.
        header: Texts to store beside them. The file's bytes depend on these three alone.

    Raises:
        OSError: It cannot be written.
    """
    names = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    start = _header({name: (arrays[name].dtype, arrays[name].shape) for name in names}, header)
    with outputs.new_file(path) as temporary, Stream(temporary, lambda count: None) as stream:
        stream.write(start)
        for name in names:
            stream.append(name, arrays[name], arrays[name].dtype)


def _shards(sizes: Mapping[str, int], max_shard_size: int) -> list[list[str]]:
    """Names in order, a new shard wherever the next tensor would not fit."""
    shards: list[list[str]] = [[]]
    room = max_shard_size
    for name, size in sizes.items():
        if size > room and shards[-1]:
            shards.append([])
            room = max_shard_size
        shards[-1].append(name)
        room -= size
    return shards


def _header(
    layout: Mapping[str, tuple[np.dtype, tuple[int, ...]]], header: Mapping[str, str]
) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(header)} if header else {}
    end = 0
    for name, (dtype, shape) in layout.items():
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        entries[name] = {
            "dtype": DTYPE_NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % PAGE)  # whole pages are copied and mapped faster
    return struct.pack("<Q", len(text)) + text
