"""A cleaning as passes over the corpus, each of which many tasks do side by side.

Steps that look at one document follow each other in one pass. A corpus-wide step ends a pass: each
task has written its shard and its signatures; a pass matches them, a pass of one task resolves
them, and the next pass over the shards begins with the verdicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datatrove.pipeline.base import PipelineStep

from maxlite.corpus.blocks import (
    Apply,
    Foreign,
    Judge,
    Match,
    Read,
    ReadShard,
    Resolve,
    Sign,
    Write,
)
from maxlite.corpus.cleaning import Cleaning
from maxlite.corpus.described import named
from maxlite.corpus.step import Corpuswide, Step
from maxlite.tokenizer.counting import Part

_ROW = 64  # bytes of text that a row of signatures stands for, about; only divides the work


@dataclass
class Pass:
    """A part of the work that must be done before the next begins.

    Attributes:
      name: for people.
      blocks: what each task runs.
      tasks: how many there are.
      steps: the places in the config's `steps` that the blocks are about; -1 is reading.
      folder: where its shards are, if it writes any; "" if not.
      size: bytes that it reads, if that is known.
    """

    name: str
    blocks: list[PipelineStep]
    tasks: int
    steps: list[int] = field(default_factory=list)
    folder: str = ""
    size: int = 0


def passes(
    config: Cleaning,
    parts: Sequence[Sequence[Part]],
    stamps: Sequence[Sequence[str]],
    work: Path,
) -> list[Pass]:
    """The passes of a cleaning of shards, whose files are in the folder `work`; see `Read`."""
    size = sum(part.size for shard in parts for part in shard)
    rows, shards = size // _ROW, len(parts)
    done: list[Pass] = []
    blocks: list[PipelineStep] = [Read(parts, stamps)]
    about, names = [-1], ["read"]

    def close(folder: str) -> None:
        nonlocal blocks, about, names
        each = [*blocks, Write(work / folder)]
        named = ", ".join(names) if len(names) < 4 else f"{names[0]} … {names[-1]}"
        done.append(Pass(named, each, shards, about, folder, 0 if done else size))
        blocks, about, names = [ReadShard(work / folder)], [-2], []

    for i, step in enumerate(config.steps):
        dropped = dropped_by(config, i, work) if config.keep_dropped else None
        if isinstance(step, Corpuswide):
            signed, matched, judged = (work / f"{i:02d}-{x}" for x in ("signed", "matched", "said"))
            blocks.append(Sign(step, signed))
            about.append(i)
            names.append(f"sign {step.name}")
            close(f"{i:02d}-shards")
            tasks = step.match_parts(rows)
            match = Match(step, signed, shards, matched)
            done.append(Pass(f"match {step.name}", [match], tasks, [i]))
            resolve = Resolve(step, signed, shards, matched, tasks, judged)
            done.append(Pass(f"resolve {step.name}", [resolve], 1, [i]))
            blocks.append(Judge(step, judged, dropped))
        elif isinstance(step, Step):
            blocks.append(Apply(step, dropped))
        else:
            blocks.append(Foreign(step))
        about.append(i)
        names.append(named(step).replace("-", " "))
    close("out")
    return done


def dropped_by(config: Cleaning, i: int, work: Path) -> Path:
    """The folder for what a step drops."""
    return work / "dropped" / f"{i:02d}-{named(config.steps[i])}"
