"""What tools share that read an order: --tokenizer, and what a run says where it is a run's."""

import json
from dataclasses import asdict
from typing import Any

from absl import flags

from maxlite.config import Config
from maxlite.errors import InputError
from maxlite.storage import Place
from maxlite.tokenizer import Tokenizer, load_tokenizer

FLAGS = flags.FLAGS

flags.DEFINE_string("tokenizer", "", "A folder, or a .model or .json file; empty: the run's own.")


def is_run(path: Place) -> bool:
    """Whether a folder with an order is a run's, which says more than the order."""
    return (path / "run.json").is_file()


def config(path: Place) -> dict[str, Any]:
    """The config of a run; the default one for an order that stands alone."""
    if not is_run(path):
        return asdict(Config())
    return json.loads((path / "run.json").read_bytes())["config"]


def tokenizer(path: Place) -> Tokenizer:
    """What --tokenizer names, or the run's own.

    Raises:
      InputError: neither is there, or it cannot be read.
    """
    if not FLAGS.tokenizer and not (path / "model").is_dir():
        raise InputError(
            f"--tokenizer must be given: the order in {path} knows its tokenizer by its fingerprint"
        )
    return load_tokenizer(FLAGS.tokenizer or path / "model")
