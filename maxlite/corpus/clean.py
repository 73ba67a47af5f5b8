"""Cleans a corpus: runs the passes of a cleaning, goes on where it was stopped, and puts the result
in its place when it is whole.

Beside the folder OUT that is to be made stands OUT.work, with shards, figures and what is done.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from maxlite import outputs
from maxlite.console import say
from maxlite.corpus import cleaning, executors
from maxlite.corpus.cleaning import Cleaning, files, stamp
from maxlite.corpus.described import named, own_code, plain, settings
from maxlite.corpus.funnel import funnel
from maxlite.corpus.passes import Pass, passes
from maxlite.corpus.perplexity import Predicted, Scorer
from maxlite.errors import InputError
from maxlite.storage import is_url
from maxlite.tokenizer.counting import Part

FORMAT = 1
Page = Callable[[dict[str, Any]], str]


def clean(
    config: Cleaning,
    load_scorer: Callable[[str], Scorer] | None = None,
    page: Page | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    command: Sequence[str] = (),
) -> dict[str, Any] | None:
    """Runs a cleaning, or what is left of it.

    Args:
      config: resolved.
      load_scorer: opens a model for the steps that ask one; a function of a module.
      page: makes report.html from the figures.
      overwrite: replace `out`, and begin anew where a cleaning with other settings was begun.
      dry_run: check everything, say what would be done, and write nothing.
      command: what runs this on one machine; a cluster ends with it, when only the result is left
        to be put in its place.

    Returns:
      The figures in out/funnel.json; None after a dry run, and where a cluster goes on.

    Raises:
      InputError: the input or the config is wrong, or a process was killed; what is done is kept.
    """
    if is_url(config.out):
        raise InputError(f"config key 'out' is the address {config.out}: name a folder on a disk")
    out = Path(config.out).expanduser().absolute()  # for tasks on other machines
    _refuse(out, overwrite)
    if not out.parent.is_dir():
        raise InputError(f"--config.out={config.out} lies in a folder that does not exist")
    work = out.with_name(f"{out.name}.work")
    for step in config.steps:
        if isinstance(step, Predicted):
            vars(step)["load_scorer"] = load_scorer
    shards = cleaning.shards(config)
    stamps = [list(map(stamp, parts)) for parts in shards]
    several = passes(config, shards, stamps, work)
    say(_summary(config, shards, several))
    if dry_run:
        say("dry run: nothing was written")
        return None
    with _locked(work):
        _refuse(out, overwrite)  # another cleaning may have ended meanwhile
        _begin(work, _plan(config, shards, stamps), overwrite)
        if config.executor == "slurm":
            _submit(config, several, work, out, command)
            return None
        try:
            _run(config, several, work)
        except BaseException as error:
            if any(work.glob("passes/*/completions/*")):
                say(f"what is done is kept in {work}; start again to go on")
            else:
                shutil.rmtree(work)
            if isinstance(error, OSError) and error.errno in outputs.FULL:
                raise InputError(
                    f"there is no room in {out.parent} to clean {config.text} (the disk or a quota "
                    "is full); free some space and run again"
                ) from error
            raise
        return _finish(config, several, work, out, page)


def _refuse(out: Path, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; choose another --config.out, or give --overwrite")


def _logs(work: Path, i: int) -> Path:
    return work / "passes" / f"{i:02d}"


def _run(config: Cleaning, several: Sequence[Pass], work: Path) -> None:
    run = executors.run_on_ray if config.executor == "ray" else executors.run_here
    source = ""  # of the shards that the pass reads
    for i, one in enumerate(several):
        size = one.size or _size(work / source)
        in_bytes = bool(one.folder)
        with tqdm(
            total=size if in_bytes else one.tasks,
            desc=f"{i + 1}/{len(several)} {one.name}",
            unit="B" if in_bytes else " tasks",
            unit_scale=in_bytes,
            delay=2,
            leave=False,
        ) as bar:
            run(one, _logs(work, i), config.workers, bar.update)
        if one.folder:
            if source:  # its successors are all there
                shutil.rmtree(work / source, ignore_errors=True)
            source = one.folder


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*"))


def _finish(
    config: Cleaning, several: Sequence[Pass], work: Path, out: Path, page: Page | None
) -> dict[str, Any]:
    """Puts the result of passes that are all done in its place, with figures and a page.

    Raises:
      InputError: no document is left.
    """
    rows = funnel(config, several, [_logs(work, i) for i in range(len(several))], work)
    plan = json.loads((work / "plan.json").read_text())
    figures = {"steps": rows, "files": plan["files"], "out": str(out), "format": FORMAT}
    figures = json.loads(json.dumps(figures, default=plain))
    if not rows[0]["documents_in"]:
        shutil.rmtree(work)
        raise cleaning.no_text(config)
    if not rows[-1]["documents_out"]:
        worst = max(rows, key=lambda row: row["documents_in"] - row["documents_out"])
        dropped = worst["documents_in"] - worst["documents_out"]
        raise InputError(
            f"no document is left: the step '{worst['name']}' dropped {dropped:,} of them; loosen "
            f"its settings (begun work is kept in {work})"
        )
    with outputs.new_folder(out, replace=True) as folder:
        _link(work / "out", folder)
        if (work / "dropped").exists():
            _link(work / "dropped", folder / "dropped")
        figures_text = json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
        outputs.write_text(folder / "funnel.json", figures_text)
        if page:
            outputs.write_text(folder / "report.html", page(figures))
    shutil.rmtree(work)
    return figures


def _link(source: Path, target: Path) -> None:
    """Gives files a second name, so that nothing is lost if the folder cannot be finished."""
    with contextlib.suppress(OSError):  # some file systems have no hard links
        shutil.copytree(source, target, copy_function=os.link, dirs_exist_ok=True)
        return
    shutil.copytree(source, target, dirs_exist_ok=True)


def _submit(
    config: Cleaning, several: list[Pass], work: Path, out: Path, command: Sequence[str]
) -> None:
    submitted = work / "submitted"
    if submitted.exists() and executors.queued(job := submitted.read_text()):
        raise InputError(f"this cleaning is in Slurm's queue already: its last job is {job}")
    job = executors.submit(config, several, lambda i: _logs(work, i), command)
    outputs.write_text(submitted, job)
    say(f"submitted; {out} is there once job {job} is done, and logs are in {work}/passes")


def _plan(
    config: Cleaning, shards: Sequence[Sequence[Part]], stamps: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """All that the result depends on: what must be the same to go on with begun work."""
    plan = {
        "format": FORMAT,
        "read": [type(config.read).__name__, vars(config.read)],
        "steps": [[named(step), settings(step), own_code(step)] for step in config.steps],
        "shards": [
            [[part.name, getattr(part, "start", 0), said] for part, said in zip(*each, strict=True)]
            for each in zip(shards, stamps, strict=True)
        ],
        "files": _files(shards),
        "keep_dropped": config.keep_dropped,
    }
    return json.loads(json.dumps(plan, default=plain))


def _files(shards: Sequence[Sequence[Part]]) -> list[str]:
    return list(dict.fromkeys(str(f) for parts in shards for part in parts for f in files(part)))


def _begin(work: Path, plan: dict[str, Any], overwrite: bool) -> None:
    """Goes on with begun work if it is the same work."""
    path = work / "plan.json"
    if path.exists():
        before = json.loads(path.read_text())
        if before == plan:
            say(f"going on with {work}")
            return
        if not overwrite:
            differ = ", ".join(key for key in plan if before.get(key) != plan[key])
            raise InputError(
                f"{work} holds a cleaning begun with other settings, code or files ({differ}); go "
                "back to them, choose another --config.out, or give --overwrite to begin anew"
            )
    for child in work.iterdir():
        if child.name != "lock":
            shutil.rmtree(child) if child.is_dir() else child.unlink()
    outputs.write_text(path, json.dumps(plan, indent=1, ensure_ascii=False))


@contextlib.contextmanager
def _locked(work: Path) -> Iterator[None]:
    work.mkdir(exist_ok=True)
    with (work / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process is working in {work}; wait for it") from None
        try:
            yield
        finally:
            if work.exists() and [path.name for path in work.iterdir()] == ["lock"]:
                shutil.rmtree(work)


def _summary(config: Cleaning, shards: Sequence[Sequence[Part]], several: Sequence[Pass]) -> str:
    size = sum(part.size for parts in shards for part in parts)
    steps = ", ".join(named(step).replace("-", " ") for step in config.steps) or "nothing"
    return (
        f"{len(_files(shards))} files, {size / 1e6:,.1f} MB, in {len(shards)} shards; "
        f"{len(several)} passes\nsteps: {steps}"
    )
