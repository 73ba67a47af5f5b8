"""A user's folder in which a stage would train if all were well, and programs that must refuse."""

import os
import shutil
from pathlib import Path

import commands

STAGE = """
from maxlite.config import Checkpoint, Config, Data, Eval, Log, Optimizer, Source


def get_config():
    return Config(
        model="model",
        out="run",
        export="better",
        steps=4,
        batch_size=8,
        seq_len=32,
        data=Data(train=(Source("text.txt"),)),
        optimizer=Optimizer(learning_rate=1e-3),
        checkpoint=Checkpoint(every=1),
        eval=Eval(every=0),
        log=Log(every=1),
    )
"""


def lay(here: Path, make_folder, tiny_text: Path) -> Path:
    """Makes model/, text.txt and stage.py in a folder."""
    make_folder(here / "model", shards=2)
    shutil.copy(tiny_text / "en.txt", here / "text.txt")
    (here / "stage.py").write_text(STAGE)
    return here


def refused(desk: Path, module: str, *arguments) -> str:
    """The sentence of a program that must refuse, and must leave everything as it was."""
    sentence = commands.refused(desk, module, *arguments)
    assert not list(Path(os.environ["MAXLITE_CACHE"]).rglob("*.tmp*"))
    return sentence


def train_refused(desk: Path, **settings) -> str:
    """The same of training by stage.py with other settings, in which a dot is written `__`."""
    keys = [f"--config.{key.replace('__', '.')}={value}" for key, value in settings.items()]
    return refused(desk, "maxlite.train", f"--config={desk}/stage.py", *keys)
