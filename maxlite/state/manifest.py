"""Manifests: what a checkpoint's files must be, and which checkpoint can be trusted; without jax.

After orbax has committed `checkpoints/STEP`, each process writes `manifest-I-of-N.json`, the size
and SHA-256 of its share of the files. Orbax alone restores a flipped byte without a word, so
nothing is read whose manifests are missing or do not match.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from maxlite import outputs, storage
from maxlite.console import say
from maxlite.errors import InputError
from maxlite.storage import Place

_MANIFEST = re.compile(r"manifest-(\d+)-of-(\d+)\.json")
_NOT_LISTED = re.compile(r"manifest-\d+-of-\d+\.json(\.tmp)?")  # others may just be writing theirs


def steps_in(folder: Place) -> list[int]:
    """The committed steps in a checkpoint folder, newest first, verified or not."""
    if not folder.is_dir():
        return []
    return sorted((int(p.name) for p in folder.iterdir() if p.name.isdecimal()), reverse=True)


def _files(step_folder: Place) -> list[Place]:
    return [p for p in storage.files(step_folder) if not _NOT_LISTED.fullmatch(p.name)]


def _digest(path: Place) -> list[Any]:
    return [path.stat().st_size, storage.sha256(path)]


def write_manifest(step_folder: Place, index: int, count: int) -> None:
    """Writes this process's share (every `count`-th file from `index`) of a step's manifest."""
    share = _files(step_folder)[index::count]
    content = {storage.relative(p, step_folder): _digest(p) for p in share}
    target = step_folder / f"manifest-{index}-of-{count}.json"
    outputs.write_text(target, json.dumps(content, indent=1))


def problem(step_folder: Place, index: int = 0, count: int = 1) -> str:
    """What is wrong with a checkpoint, or nothing.

    Args:
      step_folder: a committed step.
      index: this process; it reads every `count`-th file.
      count: how many processes share the reading.

    Returns:
      "" when verified, "incomplete" when its manifests were never all written, otherwise a phrase
      that names the first damaged file.
    """
    manifests = [m for p in step_folder.iterdir() if (m := _MANIFEST.fullmatch(p.name))]
    whole = {m[2] for m in manifests if len([n for n in manifests if n[2] == m[2]]) == int(m[2])}
    if not whole:
        return "incomplete"
    expected: dict[str, list[Any]] = {}
    for m in manifests:
        if m[2] in whole:
            try:
                expected |= json.loads((step_folder / m[0]).read_text())
            except (ValueError, TypeError):
                return f"{m[0]} is damaged"
    for name in sorted(expected)[index::count]:
        path = step_folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _digest(path) != expected[name]:
            return f"{name} differs from its manifest"
    return ""


def find_verified(
    folder: Place,
    step: int = -1,
    share: tuple[int, int] = (0, 1),
    agree: Callable[[bool], bool] = bool,
) -> tuple[int, dict[int, str]]:
    """The newest checkpoint that verifies, reading every byte of it.

    Args:
      folder: the `checkpoints` folder of a run.
      step: look at this step only; -1 for all.
      share: this process and how many there are; each reads its share.
      agree: makes one answer of those of all processes.

    Returns:
      The step (-1 if none) and what was wrong with the newer ones.
    """
    problems: dict[int, str] = {}
    for candidate in steps_in(folder):
        if step not in (-1, candidate):
            continue
        wrong = problem(folder / str(candidate), *share)
        if agree(not wrong):
            return candidate, problems
        problems[candidate] = wrong or "another process found it damaged"
    return -1, problems


def require_verified(
    folder: Place,
    step: int = -1,
    share: tuple[int, int] = (0, 1),
    agree: Callable[[bool], bool] = bool,
) -> int:
    """Like `find_verified`, for readers that cannot go on without one.

    Raises:
      InputError: no checkpoint (or not that one) verifies.
    """
    found, problems = find_verified(folder, step, share, agree)
    if found < 0:
        wrong = "; ".join(f"{s}: {why}" for s, why in problems.items())
        which = "no checkpoint" if step < 0 else f"no checkpoint of step {step}"
        have = f"has steps {sorted(steps_in(folder))}" if steps_in(folder) else "is empty"
        raise InputError(f"{which} in {folder} can be used ({wrong or have})")
    for newer, why in problems.items():
        say(f"checkpoint {newer} in {folder} is skipped: {why}", share[0] == 0)
    return found
