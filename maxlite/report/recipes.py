"""A recipe's folder as it was left: what its steps have made, wherever the folder is now."""

import fnmatch
import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from maxlite.data.orders import read_order
from maxlite.errors import InputError
from maxlite.hf.folder import CONFIG
from maxlite.mixture import Source
from maxlite.recipe.state import State
from maxlite.recipe.steps import TRAIN, Step
from maxlite.state.run import RunFolder, is_run

Figures = dict[str, Any]


class RecipeFolder:
    """A recipe's folder, wherever it is now.

    Attributes:
      path: of the folder.
      content: of recipe.json.
      records: of its steps, by name.
      steps: those that were begun.
      runs: those of them that have trained, by name.
      chain: names of the runs that led to the last one, which is its end.
    """

    def __init__(self, name: str):
        self.path = Path(name).expanduser()
        file = self.path / "recipe.json"
        if not file.is_file():
            raise InputError(f"{self.path} is not a recipe's folder: it has no recipe.json")
        self.records = State(self.path).records
        self.content = json.loads(file.read_bytes())
        self.steps = [
            Step(name, tuple(record["command"]), tuple(record["makes"]))
            for name, record in self.records.items()
        ]
        makes = Counter(os.path.dirname(path) for step in self.steps for path in step.makes)
        self._was = makes.most_common(1)[0][0] if makes else ""  # out, when it ran
        self.runs = {
            step.name: RunFolder(Path(path))
            for step in self.steps
            if step.module == TRAIN
            for path in map(self.located, step.makes)
            if is_run(Path(path)) and has_trained(RunFolder(Path(path)))
        }
        if not self.runs:
            raise InputError(
                f"no stage of the recipe in {self.path} has logged a step yet: report it when one"
                " has"
            )
        led = self._led_to(list(self.runs)[-1])
        self.chain = [name for name in self.runs if name in led]

    def located(self, path: str) -> str:
        """Where something that a step names is now, also if the folder has been moved."""
        inside = self._was and PurePath(path).is_relative_to(self._was)
        return str(self.path / PurePath(path).relative_to(self._was)) if inside else path

    def _led_to(self, name: str) -> set[str]:
        before = self.records[name]["sources"]
        return {name}.union(*(self._led_to(one) for one in before if one in self.records))

    def _made(self, *modules: str) -> list[tuple[Step, Path]]:
        """What steps of some programs have made and is there."""
        found = [
            (step, Path(self.located(path)))
            for step in self.steps
            if step.module in modules
            for path in step.makes
        ]
        return [(step, path) for step, path in found if path.exists()]

    @property
    def model(self) -> str:
        """The folder that the last stage, or a step after it, has exported; "" if none has."""
        names = list(self.records)
        since = names[names.index(self.chain[-1]) :]
        made = self._made(TRAIN, "tools.export_hf", "tools.merge_lora")
        folders = [
            str(path) for step, path in made if step.name in since if (path / CONFIG).is_file()
        ]
        return folders[-1] if folders else ""

    def evaluations(self) -> list[Figures]:
        """What tools.evaluate found each time."""
        orders = (self.runs[name].path / "order" for name in self.chain)
        known = (read_order(order) for order in orders if order.is_dir())
        sources = [one.source for order in known for one in order.sources]
        found = []
        for step, path in self._made("tools.evaluate"):
            told = _read(path)
            texts = _texts(told, path, sources)
            found.append({"name": step.name, "texts": texts, "samples": told.get("samples", [])})
        return found

    def funnels(self) -> list[Figures]:
        """What tools.clean_corpus left each time."""
        made = ((step, path / "funnel.json") for step, path in self._made("tools.clean_corpus"))
        return [
            {"name": step.name, "figures": json.loads(file.read_bytes())}
            for step, file in made
            if file.is_file()
        ]

    def texts(self) -> list[Figures]:
        """What tools.generate wrote each time."""
        found = []
        for step, path in self._made("tools.generate"):
            given = dict(word.removeprefix("--").split("=", 1) for word in step.arguments
                         if "=" in word)  # fmt: skip
            written = [json.loads(line)["text"] for line in path.read_bytes().splitlines()]
            found.append({"name": step.name, "prompt": given.get("prompt", ""), "texts": written})
        return found


def has_trained(run: RunFolder) -> bool:
    """Whether a run has logged a step."""
    return any("loss" in entry for entry in run.measured())


def _read(path: Path) -> Figures:
    try:
        return json.loads(path.read_bytes())
    except ValueError as e:
        raise InputError(f"{path} is damaged: {e}; make it again") from e


def _texts(told: Figures, path: Path, sources: Sequence[Source]) -> list[Figures]:
    """What was found of each text: a set that was named, the files of a source, or a file."""
    texts: dict[str, list[Figures]] = {}
    try:
        for file in told["files"]:
            name = file["name"]
            own = (one.name for one in sources if fnmatch.fnmatch(name, one.glob))
            called = file.get("set", name)
            called = called if called != name else next(own, os.path.basename(name))
            texts.setdefault(called, []).append(file)
        return [{"name": name, **_together(inside)} for name, inside in texts.items()]
    except (AttributeError, KeyError, TypeError) as e:
        raise InputError(f"{path} is not what evaluate writes with --json: {e!r}") from e


def _together(files: Sequence[Figures]) -> Figures:
    size = sum(file["bytes"] for file in files)
    letters = sum(file["tokens"] / file["tokens_per_char"] for file in files if file["tokens"])
    bits = math.fsum(file["bits_per_byte"] * file["bytes"] for file in files)
    return {
        "bits_per_byte": bits / max(1, size),
        "tokens_per_char": sum(file["tokens"] for file in files) / max(1.0, letters),
        "bytes": size,
    }
