"""A model folder, opened: its architecture, its lazy tensors, and the files that travel with it."""

import fnmatch
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf import config_json, json_values, metadata, names
from maxlite.hf.tensors import FileTensor, read_tree

CONFIG = "config.json"
COMPANIONS = (  # carried along byte for byte; a model card speaks of the source, so it is not
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
    "generation_config.json",
    metadata.NAME,
    "LICENSE*",
    "NOTICE*",
    "USE_POLICY*",
)
NEVER = ("*.py", "*.bin", "*.pt", "*.pth", "*.pkl", "*.safetensors", "*.gguf", "*.onnx")


@dataclass
class Folder:
    """A checked model folder; no tensor has been read."""

    path: Path
    config: dict[str, Any]  # config.json as parsed
    architecture: Architecture
    tensors: dict[str, FileTensor]  # in model order, layers apart
    metadata: dict[str, Any]  # maxlite.json, {} if there is none
    files: dict[str, Path]  # the companion files, by name within the folder
    notes: list[str]  # one line on each thing that was accepted and left out

    @property
    def dtypes(self) -> dict[str, str]:
        """The dtype in which each tensor is stored."""
        return {name: str(tensor.dtype) for name, tensor in self.tensors.items()}


def is_folder(path: str | Path) -> bool:
    """Whether this is a folder with a model's `config.json` (readable or not)."""
    file = Path(path) / CONFIG
    if not file.is_file():
        return False
    try:
        return "model_type" in json.loads(file.read_bytes())
    except (ValueError, TypeError):
        return True


def open_folder(path: str | Path) -> Folder:
    """Open a model folder and check that its files, its config and its tensors agree.

    Raises:
        InputError: what is wrong, in one sentence.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"there is no model folder {path}")
    file = path / CONFIG
    if not file.is_file():
        if (path / "adapter_config.json").is_file():
            raise InputError(f"{path} is a PEFT adapter, not a model: give the folder of its base")
        raise InputError(f"{path} is not a model folder: it has no {CONFIG}")
    config = json_values.parse(file.read_bytes(), str(file))
    arch = config_json.architecture(config, str(file))
    tensors, notes = names.check(read_tree(path), arch, str(path))
    if config.get("auto_map"):
        notes.append(f"auto_map in {CONFIG} ignored: no code is run from a model folder")
    note = metadata.read(path)
    arch.base_rows = metadata.base_rows(note, arch.vocab_size, str(path / metadata.NAME))
    return Folder(path, config, arch, tensors, note, companions(path), notes)


def companions(path: str | Path) -> dict[str, Path]:
    """The files that travel with a model, by name within the folder: tokenizer, licence, ..."""
    path = Path(path)
    kept = metadata.read(path).get("kept_ids")
    patterns = (*COMPANIONS, kept) if kept else COMPANIONS
    files = {
        file.relative_to(path).as_posix(): file
        for pattern in patterns
        for file in path.glob(pattern)
        if file.is_file() and not any(fnmatch.fnmatch(file.name, never) for never in NEVER)
    }
    return dict(sorted(files.items()))


def resolve(path_or_id: str | Path) -> Path:
    """The folder itself, or that of a hub id ("organisation/name") after downloading it.

    Raises:
        InputError: there is no such folder and the hub cannot give one.
    """
    path = Path(path_or_id)
    if path.exists():
        return path
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", str(path_or_id)):
        raise InputError(f"there is no folder {path}, nor is it a hub id like organisation/name")
    try:
        import huggingface_hub

        found = huggingface_hub.snapshot_download(
            str(path_or_id),
            allow_patterns=["*.safetensors", "*.json", *COMPANIONS],
            ignore_patterns=["*/*.json", "*/*.safetensors", "consolidated*", "*.py", "*.bin"],
        )
    except Exception as error:  # the hub's errors share no base class
        told = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(
            f"there is no folder {path} here, and downloading it from the hub failed: {told}"
        ) from error
    if not any(Path(found).glob("*.safetensors")):
        raise InputError(
            f"{path_or_id} on the hub has no safetensors weights: convert it with transformers,"
            f" AutoModelForCausalLM.from_pretrained({str(path_or_id)!r}).save_pretrained('FOLDER')"
        )
    return Path(found)
