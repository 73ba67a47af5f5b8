"""A model on the host: its architecture, its lazy tensors, and the files that travel with it."""

import fnmatch
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maxlite import storage
from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf import config_json, hub, json_values, metadata, names
from maxlite.hf.lazy import BFLOAT16, LazyArray, zeros
from maxlite.hf.tensors import read_tree
from maxlite.storage import Place, Url

CONFIG = "config.json"
TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "additional_chat_templates/*",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tekken.json",
    "*.tiktoken",
    "*.model",
)
COMPANIONS = (  # carried along byte for byte; a model card speaks of the source, so it is not
    *TOKENIZER,
    "generation_config.json",
    metadata.NAME,
    "LICENSE*",
    "NOTICE*",
    "USE_POLICY*",
)
FETCHED = ("*.safetensors", "*.json", *COMPANIONS, hub.CARD)
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
NEVER = ("*.py", "*.bin", "*.pt", "*.pth", "*.pkl", "*.safetensors", "*.gguf", "*.onnx")


@dataclass(frozen=True)
class LazyModel:
    """A checked model none of whose tensors has been read; surgery makes others from it.

    Attributes:
        path: The folder it was opened from, which may be an address.
        config: config.json as parsed; `rendered` is what to write.
        architecture: What the model is now.
        tensors: In model order, layers apart.
        metadata: maxlite.json, {} if there is none.
        files: The companion files or their content, by name within the folder; of a folder at an
            address always the content.
        notes: One line on each thing that was accepted, left out or done.
        kinds: Dtypes to write tensors in, by their name or stacked name; {} as they are stored.
        dtype: What config.json shall name as such where all tensors were cast; "" as it was.
        source: What is known of the folder that it was opened from; see `hub.source`.
    """

    path: Place
    config: dict[str, Any]
    architecture: Architecture
    tensors: Mapping[str, LazyArray]
    metadata: dict[str, Any]
    files: Mapping[str, Path | bytes]
    notes: tuple[str, ...]
    kinds: Mapping[str, str] = field(default_factory=dict)
    dtype: str = ""
    source: Mapping[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """The number of parameters; a tied table counts once."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    def rendered(self) -> bytes:
        """The config.json to write: the file's own bytes where nothing in it changed."""
        source = (self.path / CONFIG).read_bytes()
        if json_values.parse(source, str(self.path / CONFIG)) != self.config:
            source = json_values.dump(self.config)
        return config_json.render(source, self.architecture, self.dtype or None)

    @property
    def dtypes(self) -> dict[str, str]:
        """The dtype in which each tensor is to be written to a folder."""
        kinds = dict(self.kinds)
        if names.EMBEDDING in kinds:  # a head that has just been untied from it
            kinds.setdefault(names.HEAD, kinds[names.EMBEDDING])
        return {
            name: kinds.get(name) or kinds.get(names.split(name)[0]) or str(tensor.dtype)
            for name, tensor in self.tensors.items()
        }


def is_folder(path: str | Place) -> bool:
    """Whether this is a folder with a model's `config.json` (readable or not)."""
    file = storage.place(path) / CONFIG
    if not file.is_file():
        return False
    try:
        return "model_type" in json.loads(file.read_bytes())
    except (ValueError, TypeError):
        return True


def open_folder(path: str | Place) -> LazyModel:
    """Open a model folder and check that its files, its config and its tensors agree.

    Raises:
        InputError: what is wrong, in one sentence.
    """
    path = storage.place(path)
    if not path.is_dir():
        raise InputError(f"there is no model folder {path}")
    if not (path / CONFIG).is_file():
        if (path / "adapter_config.json").is_file():
            raise InputError(f"{path} is a PEFT adapter, not a model: give the folder of its base")
        raise InputError(f"{path} is not a model folder: it has no {CONFIG}")
    config, arch, note = _described(path)
    tensors, notes = names.check(read_tree(path), arch, str(path))
    if config.get("auto_map"):
        notes.append(f"auto_map in {CONFIG} ignored: no code is run from a model folder")
    files, source = companions(path), hub.source(path)
    if hub.snapshot(path)[1]:
        notes.append("commit {commit} of {model} on the hub".format(**source))
    return LazyModel(path, config, arch, tensors, note, files, tuple(notes), source=source)


def without_weights(path: str | Place) -> bool:
    """Whether only the description of a model is here, as `open_shape` wants it."""
    folder = storage.place(path)
    return (folder / CONFIG).is_file() and not any(f.suffix in WEIGHTS for f in folder.iterdir())


def open_shape(path: str | Place) -> LazyModel:
    """Open a folder that needs no more of a model than config.json; its weights are zeros.

    They have the dtype that config.json names, else bfloat16.

    Raises:
        InputError: what is wrong, in one sentence.
    """
    path = storage.place(path)
    config, arch, note = _described(path)
    named = str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch.")
    dtype = {str(kind): kind for kind in names.WEIGHT_DTYPES}.get(named, BFLOAT16)
    tensors = {name: zeros(shape, dtype) for name, shape in names.expected(arch).items()}
    told = f"{path} has no weights: sizes are those of its {CONFIG}, in {dtype}"
    files, source = companions(path), hub.source(path)
    return LazyModel(path, config, arch, tensors, note, files, (told,), source=source)


def _described(path: Place) -> tuple[dict[str, Any], Architecture, dict[str, Any]]:
    """config.json, what it and maxlite.json tell of the shape, and maxlite.json."""
    file, noted = path / CONFIG, str(path / metadata.NAME)
    config = json_values.parse(file.read_bytes(), str(file))
    arch = config_json.architecture(config, str(file))
    note = metadata.read(path)
    arch.lora = metadata.lora(note, noted)
    arch.base_rows = metadata.base_rows(note, arch.vocab_size, noted)
    return config, arch, note


def companions(path: str | Place) -> dict[str, Path | bytes]:
    """The files that travel with a model, by name within the folder: tokenizer, licence, ...

    Of a folder at an address it is their content, which is small, so that who reads or copies them
    need not know where they were.
    """
    path = storage.place(path)
    kept = metadata.read(path).get("kept_ids")
    patterns = (*COMPANIONS, kept) if kept else COMPANIONS
    files = {
        storage.relative(file, path): file
        for pattern in patterns
        for file in path.glob(pattern)
        if not any(fnmatch.fnmatch(file.name, never) for never in NEVER) and file.is_file()
    }
    return {name: carried(file) for name, file in sorted(files.items())}


def carried(file: Place) -> Path | bytes:
    """A small file as it travels with a model: a path, or the content of what is elsewhere."""
    return file.read_bytes() if isinstance(file, Url) else file


def without_tokenizer(files: Mapping[str, Path | bytes]) -> dict[str, Path | bytes]:
    """A model's companion files without those of its tokenizer, chat templates among them."""
    return {
        name: file
        for name, file in files.items()
        if not any(fnmatch.fnmatch(name, pattern) for pattern in TOKENIZER)
    }


def resolve(path_or_id: str | Place, revision: str = "") -> Place:
    """The folder or address itself, or that of a hub id ("organisation/name") after downloading it.

    Args:
        path_or_id: A folder that is here, else a hub id.
        revision: Of a hub id: a branch, a tag or a commit; "" for the main branch.

    Raises:
        InputError: there is no such folder and the hub cannot give one.
    """
    path, name = storage.place(path_or_id), str(path_or_id)
    if isinstance(path, Url) or path.exists():
        if revision:
            raise InputError(
                f"revision {revision!r} is of a model on the hub, but {path} is a folder here:"
                " leave it out, or name the model otherwise"
            )
        return path
    if not hub.ID.fullmatch(name):
        raise InputError(f"there is no folder {path}, nor is it a hub id like organisation/name")
    never = [pattern for pattern in NEVER if pattern != "*.safetensors"]
    found = hub.fetch(name, revision, FETCHED, [*never, "consolidated*"])
    if not any(found.glob("*.safetensors")):
        raise InputError(
            f"{name} on the hub has no safetensors weights: convert it with transformers,"
            f" AutoModelForCausalLM.from_pretrained({name!r}).save_pretrained('FOLDER')"
        )
    return found


def present(folder: Place) -> Place:
    """A folder that is here; one of the hub's cache is downloaded again if it is not.

    Raises:
        InputError: the hub cannot give it.
    """
    name, commit = hub.snapshot(folder)
    return folder if folder.exists() or not name else resolve(name, commit)
