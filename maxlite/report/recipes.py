"""A recipe's folder as it was left: what its steps have made, wherever the folder is now."""

import fnmatch
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
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
        makes = [os.path.dirname(path) for step in self.steps for path in step.makes]
        self._was = os.path.commonpath(makes) if makes else ""  # out, when it ran
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
        moved = self.path / os.path.relpath(path, self._was) if path and self._was else None
        return str(moved) if moved and moved.exists() else path

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
        known = [path for _, path in self._made(TRAIN, "tools.export_hf", "tools.merge_lora")]
        folders = [path for path in known if (path / CONFIG).is_file()]
        return str(folders[-1]) if folders else ""

    def evaluations(self) -> list[Figures]:
        """What tools.evaluate found each time."""
        orders = [self.runs[name].path / "order" for name in self.chain]
        sources = [one.source for order in orders for one in read_order(order).sources]
        return [
            {"name": step.name, "texts": _texts(_read(path, "files"), path, sources)}
            for step, path in self._made("tools.evaluate")
        ]

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


def _read(path: Path, key: str) -> Any:
    try:
        return json.loads(path.read_bytes())[key]
    except (ValueError, KeyError, TypeError) as e:
        raise InputError(f"{path} is damaged: {e!r}; make it again") from e


def _texts(files: Sequence[Figures], path: Path, sources: Sequence[Source]) -> list[Figures]:
    """What was found of each text: the files of a source are one, others have their own names."""
    texts: dict[str, list[Figures]] = {}
    for file in files:
        own = (one.name for one in sources if fnmatch.fnmatch(file["name"], one.glob))
        texts.setdefault(next(own, os.path.basename(file["name"])), []).append(file)
    try:
        return [{"name": name, **_together(inside)} for name, inside in texts.items()]
    except (KeyError, TypeError) as e:
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
