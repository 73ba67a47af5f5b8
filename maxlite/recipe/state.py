"""How far a recipe has come: OUT/recipe.json, which says what was begun, with which command.

A step is done if it ended well with the same command as now (a stage of training: with the same
config, as far as it matters), from what the steps that it reads make now. It is begun anew only
when asked, together with those that read what it makes.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import maxlite
from maxlite import flags, outputs
from maxlite.config import as_dict
from maxlite.errors import InputError
from maxlite.recipe.steps import TRAIN, Step
from maxlite.state.run import RunFolder, essence, is_run
from maxlite.storage import is_url

DONE, AHEAD, BEGUN, LOST, CHANGED, STALE = (
    "done",
    "to do",
    "begun",
    "to do again, its result is gone",
    "changed",
    "to do again, what it reads has changed",
)


@dataclass(frozen=True)
class Stand:
    """How a step stands.

    Attributes:
      step: the step.
      stands: one of the names above.
      difference: between what it was begun with and what it is now.
    """

    step: Step
    stands: str
    difference: str = ""


class State:
    """What recipe.json holds; one process at a time may change it."""

    def __init__(self, out: str | os.PathLike[str], inputs: Mapping[str, str] | None = None):
        """Reads it, if it is there; nothing is written.

        Args:
          out: the recipe's folder.
          inputs: what its steps read and do not make, as commands name it, to fingerprints.

        Raises:
          InputError: the folder is something else, or the file is damaged.
        """
        if is_url(str(out)):
            raise InputError(f"a recipe cannot be at the address {out}: name a folder on a disk")
        self.out, self.inputs = Path(out).expanduser(), dict(inputs or {})
        self.path = self.out / "recipe.json"
        self.records = self._read() if out else {}  # a plan needs no folder

    def _read(self) -> dict[str, dict[str, Any]]:
        if self.path.is_file():
            try:
                return json.loads(self.path.read_bytes())["steps"]
            except (ValueError, KeyError, TypeError) as e:
                raise InputError(f"{self.path} is damaged: {e!r}; restore it from a copy") from e
        mine = {"lock", "logs"}  # what is made first
        if self.out.exists() and not (
            self.out.is_dir() and {path.name for path in self.out.iterdir()} <= mine
        ):
            raise InputError(f"{self.out} exists and is not a recipe's folder; choose another out")
        return {}

    def open(self) -> int:
        """Makes the folder and keeps other processes from working in it.

        Returns:
          The descriptor that holds the lock, for the commands that run: as long as one of them is
          alive, even alone, the folder stays locked.

        Raises:
          InputError: another process works in it.
        """
        (self.out / "logs").mkdir(parents=True, exist_ok=True)
        lock = os.open(self.out / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            os.close(lock)
            raise InputError(
                f"another process is working on the recipe in {self.out}; wait, or stop it"
            ) from e
        self.records = self._read()  # again: it may have changed before the lock
        return lock

    def log(self, step: Step) -> Path:
        """The file with all that a step has said."""
        return self.out / "logs" / f"{step.name}.log"

    def stands(self, steps: Sequence[Step]) -> list[Stand]:
        """How each step stands, in order."""
        found: dict[str, Stand] = {}
        for i, step in enumerate(steps):
            read = [found[s.name].stands for s in steps[:i] if step.reads(s)]
            found[step.name] = self._stand(step, self._sources(steps[:i], step), read)
        for i, step in reversed(list(enumerate(steps))):  # what is gone is missed by what reads it
            if found[step.name].stands == DONE and not whole(step):
                readers = [found[s.name].stands for s in steps[i + 1 :] if s.reads(step)]
                if not readers or set(readers) != {DONE}:
                    found[step.name] = Stand(step, LOST)
        return list(found.values())

    def _stand(self, step: Step, sources: dict[str, str], read: Sequence[str]) -> Stand:
        record = self.records.get(step.name)
        if not record:
            return Stand(step, AHEAD)
        difference = _difference(step, record["settings"])
        if difference:
            return Stand(step, CHANGED, difference)
        for text, fingerprint in record.get("inputs", {}).items():
            if self.inputs.get(text, fingerprint) != fingerprint:
                return Stand(step, CHANGED, f"{text} has other content now")
        if {CHANGED, STALE} & set(read) or sources != record["sources"]:
            return Stand(step, STALE)
        return Stand(step, DONE if record["done"] or whole(step) else BEGUN)

    def _sources(self, before: Sequence[Step], step: Step) -> dict[str, str]:
        """Steps that a step reads, to when they were begun for the first time."""
        read = [s.name for s in before if step.reads(s)]
        return {name: self.records.get(name, {}).get("made", "") for name in read}

    def begin(self, steps: Sequence[Step], stand: Stand) -> None:
        """Notes that a step begins, and removes what lies in its way.

        That is what another command of it has made, or a part of its results. What goes on by
        itself, a run, stays.

        Args:
          steps: all, in order.
          stand: the step.

        Raises:
          InputError: what lies in its way was not made by the recipe, or not in its folder.
        """
        step = stand.step
        anew = stand.stands in (CHANGED, STALE)
        record = self.records.get(step.name, {})
        for path in [] if record else _paths(step):
            if os.path.lexists(path) and not is_run(path):
                raise InputError(
                    f"{path} exists and was not made by this recipe's step '{step.name}'; move it"
                    " away, or choose another out"
                )
        old = Step(step.name, tuple(record.get("command", ())), tuple(record.get("makes", ())))
        if anew or (record and not whole(old) and not any(map(is_run, _paths(old)))):
            for path in _paths(old):
                self._remove(path)
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z") + f".{time.time_ns() % 10**9:09}"
        self.records[step.name] = {
            "command": list(step.command),
            "settings": meaning(step),
            "makes": list(step.makes),
            "sources": self._sources(steps[: steps.index(step)], step),
            "inputs": {t: f for t, f in self.inputs.items() if any(t in w for w in step.command)},
            "made": record.get("made", now) if not anew else now,
            "done": False,
            "seconds": 0.0 if anew else record.get("seconds", 0.0),
        }
        self.write("running", step.name)

    def end(self, step: Step, status: int, seconds: float) -> None:
        """Notes that a step has ended with an exit status, after so many seconds."""
        record = self.records[step.name]
        record["seconds"] = round(record["seconds"] + seconds, 3)
        record["done"] = status == 0 and whole(step)

    def write(self, status: str, step: str = "", message: str = "") -> None:
        """Writes recipe.json: status is "running", "stopped", "failed" or "finished"."""
        told = {"status": status, "step": step, "message": message}
        content = {"format": 1, "version": maxlite.__version__, **told, "steps": self.records}
        outputs.write_text(self.path, outputs.json_text(content))

    def _remove(self, path: Path) -> None:
        if not os.path.lexists(path):
            return
        if not path.resolve().is_relative_to(self.out.resolve()):
            raise InputError(
                f"{path} is in the way and does not lie in {self.out}; look at it, and remove it"
            )
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def whole(step: Step) -> bool:
    """Whether all that a step makes is there; a run also has to be finished."""
    return all(
        path.exists() and (not is_run(path) or RunFolder(path).status()["status"] == "finished")
        for path in _paths(step)
    )


def _paths(step: Step) -> list[Path]:
    for path in step.makes:
        if is_url(path):
            raise InputError(
                f"step '{step.name}' makes {path}, but what a recipe makes cannot be at an address:"
                " name folders on a disk, or run the stage by itself"
            )
    return [Path(path).expanduser() for path in step.makes]


def meaning(step: Step) -> dict[str, Any]:
    """What a step does, by key: of a stage its config as far as it matters, else the command."""
    if step.module == TRAIN:
        config, _ = flags.parse(step.arguments)
        return json.loads(json.dumps(essence(as_dict(config)) | {"out": config.out}))
    found: dict[str, Any] = {}
    for i, word in enumerate(step.command):
        key, given, value = word.partition("=")
        flag = word.startswith("--")
        found[key if flag else f"word {i}"] = value if flag and given else word
    return found


def _difference(step: Step, began: dict[str, Any]) -> str:
    """What is different about a step that began otherwise; empty if it does the same."""
    now = meaning(step)
    keys = dict.fromkeys((*began, *now))
    if step.module == TRAIN:  # another version may have other keys
        keys = dict.fromkeys(key for key in began if key in now)
    return "; ".join(
        f"{key} was {_told(began, key)} and is now {_told(now, key)}"
        for key in keys
        if _told(began, key) != _told(now, key)
    )


def _told(settings: dict[str, Any], key: str) -> str:
    return json.dumps(settings[key], ensure_ascii=False) if key in settings else "not there"
