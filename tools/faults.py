"""Hits runs of the training program at random moments and shows what becomes of them.

Example: python -m tools.faults --runs=60 --seed=0

A tiny model is trained to its end undisturbed, and then as many times as you ask. Each of these
runs is hit once: killed (at any moment, or while it saves), asked to stop, killed and a checkpoint
damaged (a file truncated, deleted, or one bit of it flipped), given a full disk, or one of its two
processes is killed or asked to stop. What hits it, when and where is drawn by the seed. It is then
started again until it is finished, and must have the bytes and figures of the undisturbed run; it
may refuse, in one sentence, only where no whole checkpoint is left. Ends with status 1 if a run did
anything else, and keeps their folder. Ctrl-C ends it with the table of the runs so far.
"""

import shutil
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from absl import flags
from tqdm import tqdm

from maxlite import outputs
from maxlite.console import say
from maxlite.errors import InputError
from tools import cli
from tools.disturbed import desk as desk_lib
from tools.disturbed.attempt import PHASES
from tools.disturbed.hits import KINDS, Hit, draw
from tools.disturbed.trial import FAILED, MISSED, REFUSED, SAME, Verdict, disturb, undisturbed

FLAGS = flags.FLAGS

flags.DEFINE_integer("runs", 60, "Runs to hit; the kinds of hits take turns.", 1)
flags.DEFINE_integer("seed", 0, "Of all that is drawn.", 0)
flags.DEFINE_integer("only", -1, "Repeat one run, by its number.", -1)
flags.DEFINE_list("kinds", list(KINDS), "Hits to choose from, with commas.")
flags.DEFINE_integer("jobs", 1, "Runs at a time.", 1)
flags.DEFINE_string("out", "", "Folder to work in; empty: a temporary one, kept if a run failed.")


def main() -> dict[str, Any] | None:
    if unknown := [kind for kind in FLAGS.kinds if kind not in KINDS]:
        raise InputError(f"--kinds: there is no {unknown[0]!r}; there are {', '.join(KINDS)}")
    if FLAGS.only >= FLAGS.runs:
        raise InputError(f"--only={FLAGS.only} is not below --runs={FLAGS.runs}")
    numbers = range(FLAGS.runs) if FLAGS.only < 0 else [FLAGS.only]
    hits = {n: draw(FLAGS.seed, n, FLAGS.kinds[n % len(FLAGS.kinds)]) for n in numbers}
    if FLAGS.dry_run:
        for number, hit in hits.items():
            print(f"{number:>4}  {hit}")
        return None
    if FLAGS.out:
        cli.check_out(Path(FLAGS.out).expanduser())
        with outputs.new_folder(FLAGS.out, FLAGS.overwrite):
            pass
    here = Path(FLAGS.out or tempfile.mkdtemp(prefix="faults-")).expanduser().resolve()
    began = time.monotonic()
    verdicts: dict[int, Verdict] = {}
    cut = False
    try:
        _judge(here, hits, verdicts)
    except BaseException as e:
        cut = bool(verdicts) and isinstance(e, KeyboardInterrupt | cli.Terminated)
        if not FLAGS.out:
            shutil.rmtree(here, ignore_errors=True)
        if not cut:
            raise
    verdicts = dict(sorted(verdicts.items()))
    figures = _figures(hits, verdicts, time.monotonic() - began)
    print(_table(hits, verdicts))
    if cut:
        raise cli.Unsuccessful(f"ended after {len(verdicts)} of {len(hits)} runs", figures)
    failed = {n: verdict for n, verdict in verdicts.items() if verdict.outcome == FAILED}
    for number, verdict in failed.items():
        say(f"run {number} ({hits[number].kind}, {verdict.phase}): {verdict.why}")
    if failed:
        raise cli.Unsuccessful(
            f"{len(failed)} of {len(hits)} runs did what they must not do; their folders are in "
            f"{here}, and --only=NUMBER repeats one",
            figures,
        )
    if not FLAGS.out:
        shutil.rmtree(here)
    return figures


def _judge(here: Path, hits: dict[int, Hit], found: dict[int, Verdict]) -> None:
    """Makes all runs, in the order of their numbers as far as several at a time allow.

    Args:
      here: to work in.
      hits: by number.
      found: takes what becomes of each, as soon as it is known.
    """
    desk = desk_lib.lay(here)
    layouts = sorted({hit.processes for hit in hits.values()})
    with tqdm(total=len(hits) + len(layouts), desc="runs") as bar:
        references = {}
        for processes in layouts:
            references[processes] = undisturbed(desk, processes)
            bar.update()
        with ThreadPoolExecutor(FLAGS.jobs) as pool:
            waiting = {
                pool.submit(disturb, desk, number, hit, references[hit.processes]): number
                for number, hit in hits.items()
            }
            try:
                for done in as_completed(waiting):
                    found[waiting[done]] = done.result()
                    bar.update()
            except BaseException:  # a signal waits for those at work, and begins no others
                pool.shutdown(cancel_futures=True)
                raise


def _figures(hits: dict[int, Hit], verdicts: dict[int, Verdict], seconds: float) -> dict[str, Any]:
    counts = Counter(verdict.outcome for verdict in verdicts.values())
    return {
        "runs": len(verdicts),
        "seed": FLAGS.seed,
        "seconds": seconds,
        "outcomes": {outcome: counts[outcome] for outcome in (SAME, REFUSED, MISSED, FAILED)},
        "hits": [
            {"number": n, **asdict(hits[n]), "hit": asdict(verdict)}
            for n, verdict in verdicts.items()
        ],
    }


def _table(hits: dict[int, Hit], verdicts: dict[int, Verdict]) -> str:
    """What hit, how often, in which phase, and what became of it; then what went wrong."""
    outcomes = (SAME, REFUSED, MISSED, FAILED)
    phases = (*PHASES, "ending")
    lines = [
        f"{'hit':<18}{'runs':>5}  {'steps':<8}"
        + "".join(f"{name:>{len(name) + 2}}" for name in (*phases, *outcomes))
    ]
    for kind in [kind for kind in KINDS if kind in {hit.kind for hit in hits.values()}]:
        of = [verdict for n, verdict in verdicts.items() if hits[n].kind == kind]
        steps = [verdict.step for verdict in of if verdict.outcome != MISSED]
        span = f"{min(steps)}-{max(steps)}" if steps else ""
        cells = [(name, sum(v.phase == name for v in of)) for name in phases]
        cells += [(name, sum(v.outcome == name for v in of)) for name in outcomes]
        counts = "".join(f"{count or '·':>{len(name) + 2}}" for name, count in cells)
        lines.append(f"{kind:<18}{len(of):>5}  {span:<8}{counts}")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main)
