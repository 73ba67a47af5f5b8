"""A run that is hit once and started again until it is finished, beside an undisturbed one."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maxlite.errors import InputError
from tools.disturbed.attempt import Attempt, metrics, snapshot, status
from tools.disturbed.desk import Desk
from tools.disturbed.hits import DAMAGES, STOPS, Hit

SAME, REFUSED, MISSED, FAILED = "same bytes", "refused", "missed", "FAILED"

_STARTS = 4  # more are not needed after one hit


@dataclass
class Verdict:
    """How a trial ended.

    Attributes:
      outcome: `SAME`: finished, with the same export and metrics as the undisturbed run. `REFUSED`:
        with one sentence, and rightly. `MISSED`: it had ended before the hit. `FAILED`: all else.
      phase, step: where it was hit.
      why: the sentence of a refusal, or what is wrong.
      starts: attempts that it took.
      notes: what else there is to tell.
    """

    outcome: str
    phase: str = ""
    step: int = -1
    why: str = ""
    starts: int = 1
    notes: dict[str, Any] = field(default_factory=dict)


class Wrong(Exception):
    """A run did what it must not do; the text says what."""


def undisturbed(desk: Desk, processes: int) -> Path:
    """Trains the stage to its end and returns the folder of the trial.

    Raises:
      InputError: it failed.
    """
    folder = desk.here / f"undisturbed-{processes}"
    folder.mkdir()
    with Attempt(desk, folder, 0, processes) as attempt:
        statuses = attempt.wait()
        if any(statuses) or status(attempt.run).get("status") != "finished":
            raise InputError(f"the undisturbed run did not finish: {_end(attempt)}")
    return folder


def disturb(desk: Desk, number: int, hit: Hit, reference: Path) -> Verdict:
    """Trains the stage in trial-NUMBER/, hits it once, and starts it again until it is finished.

    Args:
      desk: where.
      number: of the trial.
      hit: what comes.
      reference: the folder of the undisturbed run in the same layout.
    """
    folder = desk.here / f"trial-{number}"
    folder.mkdir()
    verdict = Verdict(FAILED)
    try:
        if _first(desk, folder, hit, verdict):
            _others(desk, folder, hit, verdict)
            if verdict.outcome == FAILED:
                _compare(folder, reference)
                verdict.outcome = SAME
    except (Wrong, TimeoutError) as e:
        verdict.outcome, verdict.why = FAILED, str(e)
    return verdict


def _first(desk: Desk, folder: Path, hit: Hit, verdict: Verdict) -> bool:
    """The attempt that is hit; false if it could not be."""
    with Attempt(desk, folder, 0, hit.processes, hit.cold) as attempt:
        found = hit.strike(attempt)
        statuses = attempt.wait()
        if found is None:
            if any(statuses):
                raise Wrong(f"it failed before it was hit: {_end(attempt)}")
            verdict.outcome = MISSED
            return False
        verdict.phase, verdict.step = found
        if hit.kind in STOPS:
            _check_stopped(attempt, verdict.phase, hit.index)
        elif hit.kind == "full disk":
            if statuses[0] and not attempt.sentence():
                raise Wrong(f"a full disk was not told in one sentence: {_end(attempt)}")
            verdict.notes["said"] = attempt.sentence()
        if hit.kind in DAMAGES:
            verdict.notes |= hit.damage(attempt.run / "checkpoints")
    return True


def _check_stopped(attempt: Attempt, phase: str, index: int) -> None:
    """After SIGTERM: status 0 and a saved state, once the program listens to signals."""
    if attempt.processes[index].returncode == -signal.SIGTERM and phase == "loading":
        return  # it was still being loaded by Python
    stands = status(attempt.run)
    failed = any(process.returncode for process in attempt.processes)
    if failed or (stands and stands["status"] not in ("stopped", "finished")):
        raise Wrong(f"after SIGTERM: {stands or 'no status.json'}; {_end(attempt)}")


def _others(desk: Desk, folder: Path, hit: Hit, verdict: Verdict) -> None:
    """Starts it until it is finished, or rightly refuses."""
    lost = not verdict.notes.get("left", True)
    damaged = snapshot(folder / "run" / "checkpoints") if lost else {}
    while status(folder / "run").get("status") != "finished":
        if verdict.starts > _STARTS:
            raise Wrong(f"not finished after {verdict.starts} starts: {status(folder / 'run')}")
        with Attempt(desk, folder, verdict.starts, hit.processes) as attempt:
            verdict.starts += 1
            statuses = attempt.wait()
            if lost:
                if not attempt.sentence() or snapshot(folder / "run" / "checkpoints") != damaged:
                    raise Wrong(f"no checkpoint was left, and it did not refuse: {_end(attempt)}")
                verdict.outcome, verdict.why = REFUSED, attempt.sentence()
                return
            if any(statuses):
                raise Wrong(f"it did not go on: {_end(attempt)}")
            verdict.notes.setdefault("went_on", _line(attempt, "resumed from step"))
            if damaged_line := _line(attempt, "DAMAGED"):
                verdict.notes["told"] = damaged_line


def _compare(folder: Path, reference: Path) -> None:
    """Refuses a run that is not, but for timings, the undisturbed one."""
    found, expected = (snapshot(each / "better") for each in (folder, reference))
    if differing := sorted(k for k in found | expected if found.get(k) != expected.get(k)):
        raise Wrong(f"the export differs from the undisturbed run's in {', '.join(differing)}")
    if metrics(folder / "run") != metrics(reference / "run"):
        raise Wrong("the metrics differ from the undisturbed run's")
    places = (*folder.glob("*tmp*"), *(folder / "run").rglob("*tmp*"))
    if left := ", ".join(str(path.relative_to(folder)) for path in places):
        raise Wrong(f"it left behind {left}")


def _line(attempt: Attempt, words: str) -> str:
    return next((line for line in attempt.said().splitlines() if words in line), "")


def _end(attempt: Attempt) -> str:
    """How its processes ended, and the last that each said."""
    told = []
    for index, process in enumerate(attempt.processes):
        last = [line for line in attempt.said(index).splitlines() if line.strip()][-3:]
        told.append(f"status {process.returncode}, {' / '.join(last) or 'silent'}")
    return "; ".join(told)
