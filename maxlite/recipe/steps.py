"""What a recipe is: its settings, and the steps that they make.

A recipe is a config file with a dataclass of its own and a `get_config()` that returns one:

    @dataclass
    class Mine(Recipe):
        model: str = ""  # a Hugging Face folder
        corpus: str = ""  # files of text

        def plan(self):
            clean, base = f"{self.out}/clean", f"{self.out}/base"
            yield Step.tool(
                "clean",
                "clean_corpus",
                {"config": "korean.py", "config.text": self.corpus, "config.out": clean},
            )
            yield Step.tool("untie", "untie", {"model": self.model, "out": base})
            stage1 = {"model": base, "data.train": f"{clean}/*.zst", "out": f"{self.out}/stage1"}
            yield Step.train("stage1", "eeve/stage1.py", stage1)

Its fields are the keys that the command line sets; `plan` only names commands, and reads nothing of
what earlier steps will have made.
"""

import inspect
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from maxlite import config as config_lib
from maxlite.config import Architecture
from maxlite.errors import InputError

PYTHON = "python"  # in a command: the one that runs the recipe
TRAIN = "maxlite.train"
EXPORT = "tools.export_hf"


@dataclass(frozen=True)
class Step:
    """One command of a recipe.

    Attributes:
      name: of its log, too; letters, digits, and "-", "_", "." within.
      command: its words.
      makes: files and folders that are there, whole, once it is done. What it makes must appear
        under these names only when it is whole, or be a run, which knows whether it is finished.
    """

    name: str
    command: tuple[str, ...]
    makes: tuple[str, ...]

    @classmethod
    def train(cls, name: str, config: str, keys: Mapping[str, Any]) -> "Step":
        """A stage of training.

        Args:
          name: of the step.
          config: its file, found as `maxlite.train` does.
          keys: of the config, dotted; `out` must be among them.
        """
        given = {f"config.{key}": value for key, value in keys.items()}
        makes = [keys[key] for key in ("out", "export") if keys.get(key)]
        words = _flags({"config": config, **given})
        return cls(name, (PYTHON, "-m", TRAIN, *words), tuple(map(str, makes)))

    @classmethod
    def tool(
        cls, name: str, tool: str, flags: Mapping[str, Any], makes: Iterable[Any] = ()
    ) -> "Step":
        """A program of tools/.

        Args:
          name: of the step.
          tool: such as "extend_vocab".
          flags: without their dashes. Several values are joined by commas; True is a bare flag, and
            what is False or None is left out.
          makes: what it makes; empty: what `out` or `config.out` names, and `json`.
        """
        made = [flags[key] for key in ("out", "config.out", "json") if flags.get(key)]
        return cls(
            name,
            (PYTHON, "-m", f"tools.{tool}", *_flags(flags)),
            tuple(map(str, makes)) or tuple(map(str, made)),
        )

    @property
    def module(self) -> str:
        """The program of a command like `python -m maxlite.train`; else empty."""
        words = self.command
        return words[2] if len(words) > 2 and words[:2] == (PYTHON, "-m") else ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """What follows the program."""
        return self.command[3:] if self.module else self.command[1:]

    @property
    def line(self) -> str:
        """The command as one types it."""
        return shlex.join(self.command)

    def reads(self, other: "Step") -> bool:
        """Whether its command names what another step makes, or something in it."""
        return any(
            re.search(rf'(?<![^=,:"]){re.escape(path)}(?![^/,:"])', word)
            for path in other.makes
            for word in self.command
        )


def _flags(values: Mapping[str, Any]) -> list[str]:
    words = []
    for key, value in values.items():
        if value is True:
            words.append(f"--{key}")
        elif value is not None and value is not False:
            several = value if isinstance(value, (tuple, list)) else (value,)
            words.append(f"--{key}={','.join(map(_listed if several is value else str, several))}")
    return words


def _listed(value: Any) -> str:
    """A value as a list of them has it: in quotes if it has a comma."""
    return f'"{value}"' if "," in str(value) else str(value)


@dataclass
class Recipe:
    """The settings that every recipe has; a recipe's own class has more.

    Attributes:
      required: keys that may be empty in a plan, but not when it runs.
    """

    required: ClassVar[tuple[str, ...]] = ("out",)

    out: str = ""  # folder of all that it makes; starting again in it goes on

    def plan(self) -> Iterable[Step]:
        """The steps, in order.

        Raises:
          InputError: settings that cannot work.
        """
        raise NotImplementedError

    def inputs(self) -> dict[str, str]:
        """What its steps read and do not make: keys to the folders or globs that they name."""
        return {}

    def expects(self) -> dict[str, Architecture]:
        """For a plan: what its steps will make, by folder, as far as the settings tell.

        What a stage makes of these is known by itself.
        """
        return {}


def resolve(config: Any) -> Recipe:
    """Checks the settings of a recipe as its file returned it.

    Raises:
      InputError: it is none, or a value is of the wrong type.
    """
    if not isinstance(config, Recipe) or type(config) is Recipe:
        raise InputError(
            "get_config() must return a recipe, a class of its own made from maxlite.recipe.Recipe,"
            f" not {type(config).__name__}"
        )
    config_lib.check_types(config)
    return config


def check_given(recipe: Recipe) -> None:
    """Refuses to run a recipe without what it requires.

    Raises:
      InputError: a required key is empty.
    """
    for key in dict.fromkeys((*Recipe.required, *recipe.required)):
        if not getattr(recipe, key):
            raise InputError(f"config key '{key}' is empty; give --config.{key}=...")


def steps(recipe: Recipe) -> list[Step]:
    """The steps of a recipe, after what can be refused about them.

    Raises:
      InputError: there are none, or one that could not be told from another or kept.
    """
    found = list(recipe.plan())
    if not found:
        raise InputError(f"the recipe {type(recipe).__name__} has no steps")
    names: set[str] = set()
    makers: dict[Path, str] = {}
    for step in found:
        if not isinstance(step, Step):
            where = inspect.getsourcefile(type(recipe))
            raise InputError(f"{where}: plan() gave {step!r}, which is no Step")
        if not re.fullmatch(r"\w[\w.-]*", step.name) or step.name in names:
            wrong = "there twice" if step.name in names else "not made of letters, digits, - _ ."
            raise InputError(f"the name of step '{step.name}' is {wrong}; choose another")
        if not step.makes:
            raise InputError(f"step '{step.name}' does not say what it makes; give it an 'out'")
        names.add(step.name)
        for path in map(Path, step.makes):
            if path in makers:
                raise InputError(f"steps '{makers[path]}' and '{step.name}' both make {path}")
            makers[path] = step.name
    return found
