"""The part of `benchmark data` that cleans: how fast each step of configs/corpus/korean.py is.

python -m tools.benchmarks.cleaning TEXT FOLDER    one run in one process, told as JSON
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from maxlite import flags
from maxlite.console import say
from maxlite.corpus.cleaning import Cleaning, resolve
from maxlite.corpus.filters import Script
from tools.benchmarks import worker
from tools.benchmarks.tokenize import largest


def measure(text: str, runs: int, done: Callable[[], object]) -> list[dict[str, Any]]:
    """Measures each step on one core; prints a table.

    Args:
      text: globs with commas.
      runs: of the whole cleaning; the median counts.
      done: called after each.

    Returns:
      A row for each step, in 10^6 bytes of its input a second, none of which has a peer, and
      `documents_per_second` beside that. No row where what cleaning needs is not installed.
    """
    if importlib.util.find_spec("datatrove") is None:
        say("cleaning is not measured: it needs pip install -e '.[corpus]'")
        return []
    told = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as here:
            told.append(_run(text, here))
        done()
    peak = max(run["peak_mib"] for run in told)
    several = list(zip(*(run["steps"] for run in told), strict=True))[1:]  # the first reads
    rows = [_row(steps) | {"peak_mib": peak} for steps in several]
    print(f"{'cleaning, one process':<28}{'MB/s':>12}{'documents/s':>15}{'seconds':>10}")
    for row in rows:
        said = row["name"].removeprefix("cleaning: ")
        each = f"{row['ours']:>12.2f}{row['documents_per_second']:>15,.0f}{row['seconds']:>10.2f}"
        print(f"  {said:<26}{each}")
    return rows


def _row(steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    seconds = max(statistics.median(step["seconds"] for step in steps), 1e-9)
    return {
        "name": f"cleaning: {steps[0]['name']}",
        "ours": steps[0]["bytes_in"] / 1e6 / seconds,
        "peer": None,
        "ratio": None,
        "unit": "MB/s",
        "runs": len(steps),
        "seconds": seconds,
        "documents_per_second": steps[0]["documents_in"] / seconds,
    }


def _run(text: str, folder: str) -> dict[str, Any]:
    return worker.figures("cleaning", "tools.benchmarks.cleaning", text, folder)


def clean_once(text: str, folder: str) -> list[dict[str, Any]]:
    """Cleans text as the config says, whatever script it is in; the funnel's rows."""
    from maxlite.corpus.clean import clean

    where = ["--config=corpus/korean.py", f"--config.text={text}", f"--config.out={folder}/out"]
    config, _ = flags.parse_as([*where, "--config.workers=1"], Cleaning, resolve)
    config.steps = tuple(
        Script(min_share=0.0, max_foreign=1.0) if isinstance(step, Script) else step
        for step in config.steps
    )
    figures = clean(config)
    assert figures
    return figures["steps"]


if __name__ == "__main__":
    print(json.dumps({"steps": clean_once(*sys.argv[1:]), "peak_mib": largest()}))
