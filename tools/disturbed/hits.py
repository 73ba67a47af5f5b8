"""What a run is hit by, drawn by a seed: a signal, a damaged checkpoint, a full disk."""

from __future__ import annotations

import contextlib
import random
import resource
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxlite.state import manifest
from tools.disturbed.attempt import PHASES, Attempt
from tools.disturbed.desk import SAVED, STEPS

DAMAGES = ("file truncated", "file deleted", "bit flipped")
OF_TWO = ("one of two killed", "one of two stopped")
STOPS = ("SIGTERM", "one of two stopped")
KINDS = ("SIGKILL", "SIGKILL in a save", "SIGTERM", *DAMAGES, "full disk", *OF_TWO)

_QUOTA = 20_000  # bytes of a file, less than the weights take in a checkpoint or an export
_COLD = ("loading", "compile")  # these would be over too soon with what other runs have left


@dataclass(frozen=True)
class Hit:
    """One hit of one run.

    Attributes:
      kind: one of `KINDS`.
      phase: in which it comes, one of `PHASES`.
      step: the first at which it may come.
      delay: seconds from then.
      index: of the process it comes to.
      which: of the checkpoints that are damaged: "newest", "older" or "all".
      where: the byte in its files that is damaged, as a share: the file first, then the place.
    """

    kind: str
    phase: str
    step: int
    delay: float
    index: int
    which: str
    where: float

    @property
    def processes(self) -> int:
        """Of the job that it needs."""
        return 2 if self.kind in OF_TWO else 1

    @property
    def cold(self) -> bool:
        """Whether nothing may be compiled and tokenized before."""
        return self.phase in _COLD

    def strike(self, attempt: Attempt) -> tuple[str, int] | None:
        """Waits for its moment and hits a job.

        Damage is done to checkpoints that the job has made by then, when it has been killed.

        Returns:
          The phase and the step where it came; None if the job had ended before.
        """
        if not attempt.wait_for(lambda: self._has_come(attempt)):
            return None
        attempt.wait_for(lambda: False, self.delay)
        found = attempt.phase(), attempt.step()
        if not attempt.alive:
            return None
        if self.kind == "full disk":
            _limit_files(attempt)
        else:
            number = signal.SIGTERM if self.kind in STOPS else signal.SIGKILL
            attempt.send(number, self.index)
        return found

    def _has_come(self, attempt: Attempt) -> bool:
        return attempt.phase() == self.phase and attempt.step() >= self.step

    def damage(self, checkpoints: Path) -> dict[str, Any]:
        """Damages one file of one checkpoint, or of each.

        Args:
          checkpoints: of a run that has been killed.

        Returns:
          What it did: `damaged` as paths within, and whether a whole checkpoint is `left`.
        """
        good = [
            s for s in manifest.steps_in(checkpoints) if not manifest.problem(checkpoints / str(s))
        ]
        chosen = {"newest": good[:1], "older": good[1:2] or good[:1], "all": good}[self.which]
        damaged = [self._damage(checkpoints / str(step)) for step in chosen]
        left = set(good) != set(chosen)
        return {"damaged": [str(file.relative_to(checkpoints)) for file in damaged], "left": left}

    def _damage(self, checkpoint: Path) -> Path:
        """Damages the file of a checkpoint in which the drawn byte lies."""
        files = [p for p in sorted(checkpoint.rglob("*")) if p.is_file() and p.stat().st_size]
        number, share = divmod(self.where * len(files), 1)
        file = files[int(number)]
        content = bytearray(file.read_bytes())
        place = int(share * len(content))
        if self.kind == "file deleted":
            file.unlink()
        elif self.kind == "file truncated":
            file.write_bytes(content[:place])
        else:
            content[place] ^= 1 << (place % 8)
            file.write_bytes(content)
        return file


def draw(seed: int, number: int, kind: str) -> Hit:
    """The hit of a run: the same for the same arguments.

    Args:
      seed: of all runs.
      number: of the run.
      kind: one of `KINDS`.
    """
    rng = random.Random(f"{seed}/{number}/{kind}")
    phase, step = rng.choice(PHASES), rng.randrange(STEPS - SAVED)
    which = rng.choices(("newest", "older", "all"), (3, 2, 1))[0]
    if kind == "SIGKILL in a save":
        phase = "save"
    if kind in DAMAGES:  # there must be something to damage
        phase, step = rng.choice(("step", "save")), rng.randrange(2 * SAVED + 1, STEPS)
    if phase in _COLD:
        step = 0
    elif phase == "export":
        step = STEPS
    elif phase == "save":
        step = min(step, STEPS - 1)
    longest = {"loading": 3.0, "compile": 5.0}.get(phase, 0.02)
    delay = rng.random() * longest
    return Hit(
        kind, phase, step, delay, rng.randrange(2) if "two" in kind else 0, which, rng.random()
    )


def _limit_files(attempt: Attempt) -> None:
    """Fails every write beyond so many bytes of a file, as a quota does."""
    for process in attempt.processes:
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (_QUOTA, hard))
