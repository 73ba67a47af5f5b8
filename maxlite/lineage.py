"""What a model has been through: what maxlite.json tells, and of each stage whose run is here.

No jax here. Nothing is guessed: a run that is gone, or was begun anew since, tells nothing, and
what was not measured is not there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maxlite import storage
from maxlite.model.leaves import leaf
from maxlite.parameters import shapes
from maxlite.state import origin
from maxlite.state.host import run_model
from maxlite.state.run import RunFolder, is_run

BITS = "/bits_per_byte"


@dataclass(frozen=True)
class Scores:
    """Bits per byte of one held-out set in one stage.

    Attributes:
      before: at step 0; None if it was not measured then.
      after: the last that was measured.
      step: when that was.
    """

    before: float | None
    after: float
    step: int


@dataclass(frozen=True)
class Stage:
    """One training.

    Attributes:
      arguments: what maxlite.json says of it: model, step, steps, batch_size, seq_len, train, ...
      name: of its run's folder; "" where that is not here, and then nothing below is known.
      config: its resolved config, as run.json has it.
      trained, parameters: how many of the model's parameters trained, and how many it had.
      read: share of the tokens read by source, as last measured.
      scores: by held-out set.
    """

    arguments: Mapping[str, Any]
    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    trained: int = 0
    parameters: int = 0
    read: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, Scores] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """That its steps had room for."""
        return math.prod(self.arguments[key] for key in ("step", "batch_size", "seq_len"))


def stages(history: Iterable[Mapping[str, Any]], run: RunFolder) -> list[Stage]:
    """The trainings that a model has been through, in order.

    Args:
      history: of its maxlite.json.
      run: the last one, from which the runs before it are found.
    """
    trainings = [entry["arguments"] for entry in history if entry["tool"] == "train"]
    return [
        _stage(of, arguments) if of else Stage(arguments)
        for arguments, of in zip(trainings, runs(trainings, run), strict=True)
    ]


def runs(trainings: Sequence[Mapping[str, Any]], run: RunFolder) -> list[RunFolder | None]:
    """The runs of the trainings that a model has been through, in order.

    Args:
      trainings: what the history of its maxlite.json says of each.
      run: the last one, from which the runs before it are found.

    Returns:
      None for each that is not here any more, and for those before it.
    """
    found: list[RunFolder | None] = []
    last: RunFolder | None = run
    for arguments in reversed(trainings):
        if last and not _made(last, arguments):
            last = None
        found.append(last)
        before = storage.place(arguments["model"])
        last = RunFolder(before) if last and is_run(before) else None
    return found[::-1]


def _made(run: RunFolder, arguments: Mapping[str, Any]) -> bool:
    """Whether it is this run that a line of history tells of."""
    trained = run.description.get("kind") != "import"
    return trained and origin.arguments(run, arguments["step"]) == arguments


def _stage(run: RunFolder, arguments: Mapping[str, Any]) -> Stage:
    whole = shapes(run_model(run).architecture)
    trained = [leaf(name) for name in (run.trained if run.base else whole)]
    entries = [one for one in run.measured() if one["step"] <= arguments["step"]]
    read: dict[str, float] = {}
    scores: dict[str, Scores] = {}
    for entry in entries:
        said = {key.split("/")[0] for key in entry}
        if "data" in said:
            read = {_named(key): entry[key] for key in entry if key.endswith("/share")}
        for key, bits in entry.items():
            if key.startswith("eval/") and key.endswith(BITS) and bits is not None:
                name, step = _named(key), entry["step"]
                known = scores.get(name)
                before = known.before if known else bits if step == 0 else None
                scores[name] = Scores(before, bits, step)
    return Stage(
        arguments=arguments,
        name=run.path.resolve().name,
        config=run.description["config"],
        trained=sum(math.prod(own.shape(whole[own.parameter])) for own in trained),
        parameters=sum(map(math.prod, whole.values())),
        read=read,
        scores=scores,
    )


def _named(key: str) -> str:
    """The set or source of a key of metrics.jsonl, such as eval/NAME/bits_per_byte."""
    return key.split("/", 1)[1].rsplit("/", 1)[0]
