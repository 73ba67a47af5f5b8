"""Runs the steps of a recipe one after the other, and goes on where it was stopped."""

import codecs
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from maxlite import flags
from maxlite.console import say, sentence
from maxlite.errors import InputError
from maxlite.recipe.state import CHANGED, DONE, STALE, Stand, State
from maxlite.recipe.steps import PYTHON, TRAIN, Step
from maxlite.state.run import is_run

_POLL = 0.1  # seconds between looks at a step's output


def check(steps: Sequence[Step]) -> None:
    """Refuses, before the first step runs, what would stop a later one.

    Raises:
      InputError: there is no such program, or a stage's config cannot be read.
    """
    for step in steps:
        try:
            if step.module and importlib.util.find_spec(step.module) is None:
                raise ModuleNotFoundError
        except ModuleNotFoundError:
            raise InputError(
                f"step '{step.name}': there is no program {step.module} here; start a recipe from"
                " the root of the repository"
            ) from None
        if step.module == TRAIN:
            try:
                flags.parse(step.arguments)
            except InputError as e:
                raise InputError(f"step '{step.name}': {e}") from e


def check_same(stands: Sequence[Stand], overwrite: bool) -> None:
    """Refuses to go on with steps that were begun with other commands, unless it is asked for.

    Raises:
      InputError: it says which they are, and what is different.
    """
    changed = [stand for stand in stands if stand.stands == CHANGED]
    stale = [stand.step.name for stand in stands if stand.stands == STALE]
    if overwrite or not (changed or stale):
        return
    told = [f"step '{s.step.name}' began with other settings: {s.difference}" for s in changed]
    told += [f"what {', '.join(stale)} read is made anew"] if stale else []
    raise InputError(
        f"{'; '.join(told)}; give the old settings or another out, or --overwrite to remove what"
        " these steps have made and begin them anew"
    )


def run(
    steps: Sequence[Step],
    out: str,
    overwrite: bool = False,
    inputs: Mapping[str, str] | None = None,
) -> int:
    """Runs what is not done.

    Args:
      steps: all of them, in order.
      out: the recipe's folder.
      overwrite: begin changed steps, and those that read what they make, anew.
      inputs: what they read and do not make, to its fingerprints.

    Returns:
      The exit status: 0 if all is done, a failing step's, or 128 and the number of the signal that
      stopped it.

    Raises:
      InputError: nothing could be started.
    """
    state = State(out, inputs)
    check_same(state.stands(steps), overwrite)
    lock = state.open()
    try:
        return _run(steps, state, overwrite, lock)
    finally:
        os.close(lock)


def _run(steps: Sequence[Step], state: State, overwrite: bool, lock: int) -> int:
    stands = state.stands(steps)
    check_same(stands, overwrite)
    with _Signals() as signals:
        for number, (step, stand) in enumerate(zip(steps, stands, strict=True), 1):
            if stand.stands == DONE:
                say(f"[{number}/{len(steps)}] {step.name}: done")
                continue
            if signals.number:
                return _ended(step, state, 0, signals.number)
            say(f"[{number}/{len(steps)}] {step.name}\n$ {step.line}")
            try:
                state.begin(steps, stand)
                began = time.monotonic()
                status = _call(step, state.log(step), signals, lock)
            except (InputError, OSError) as e:
                state.write("failed", step.name, sentence(e))
                raise
            state.end(step, status, time.monotonic() - began)
            if not state.records[step.name]["done"]:
                return _ended(step, state, status, signals.number)
        state.write("finished")
    say(f"all {len(steps)} steps are done: {state.out}")
    return 0


def _ended(step: Step, state: State, status: int, number: int) -> int:
    """Tells why a recipe ends before its end, and with which exit status."""
    if number:
        name = signal.Signals(number).name
        state.write("stopped", step.name, f"stopped by {name}")
        say(f"stopped by {name} at step '{step.name}'; start again to go on")
        return 128 + number
    log = state.log(step)
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"failed ({status})"
    if not status:
        stopped = any(is_run(Path(path).expanduser()) for path in step.makes)
        how = "was stopped" if stopped else f"ended without having made {', '.join(step.makes)}"
    state.write("failed", step.name, how)
    say(f"step '{step.name}' {how}; what it said is in {log}; start again to go on")
    return 128 - status if status < 0 else status or 1


def _call(step: Step, log: Path, signals: "_Signals", lock: int) -> int:
    """Runs a command, shows what it says, and returns its exit status.

    It writes into its log and not into a pipe, so that it ends well also without this process.
    """
    words = [sys.executable if step.command[0] == PYTHON else step.command[0], *step.command[1:]]
    with log.open("ab") as written, log.open("rb") as read:
        read.seek(0, os.SEEK_END)
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C reaches it once, from here
                pass_fds=(lock,),
            )
        except OSError as e:
            raise InputError(f"step '{step.name}' cannot be started: {sentence(e)}") from e
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        with signals.passed_to(process):
            ended = False
            while not ended:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL)
                ended = process.returncode is not None  # and what it said last is still to come
                sys.stderr.write(decode(read.read(), final=ended))
                sys.stderr.flush()
    return process.returncode


class _Signals:
    """Takes SIGTERM and SIGINT while it is entered, and passes them on.

    Attributes:
      number: of the first that came; 0: none.
    """

    def __init__(self) -> None:
        self.number = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Signals":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        if self._process:
            self._process.send_signal(number)

    @contextlib.contextmanager
    def passed_to(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Passes on to a process what comes, and what has come while it started."""
        self._process = process
        try:
            if self.number:
                process.send_signal(self.number)
            yield
        finally:
            self._process = None
