"""What each step of a cleaning let through, from what its tasks counted."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maxlite.corpus.cleaning import Cleaning
from maxlite.corpus.described import named, settings
from maxlite.corpus.passes import Pass


def funnel(config: Cleaning, several: Sequence[Pass], logs: Sequence[Path]) -> list[dict[str, Any]]:
    """Documents and bytes in and out of reading and of each step.

    Args:
      config: the cleaning.
      several: its passes, all of them done.
      logs: where the executor of each keeps its figures.

    Returns:
      For reading, then for each step: `name`, `settings`, `documents_in`, `documents_out`,
      `bytes_in`, `bytes_out` (UTF-8), `changed` documents, `seconds` of work over all processes and
      `reasons`, {why documents were dropped: {"documents", "bytes"}}, the most frequent first.
    """
    counted: dict[int, Counter[str]] = defaultdict(Counter)
    for one, folder in zip(several, logs, strict=True):
        for file in sorted((folder / "stats").glob("*.json")):
            said = json.loads(file.read_text())
            for place, block in zip(one.steps, said, strict=False):  # what writes comes after
                for label, value in block["stats"].items():
                    total = value["total"] if isinstance(value, dict) else value
                    counted[place][label] += total
    rows = [_row("read", {"text": config.text, **vars(config.read)}, counted[-1])]
    for i, step in enumerate(config.steps):
        rows.append(_row(named(step).replace("-", " "), settings(step), counted[i]))
    rows[0]["documents_in"] += rows[0]["documents_out"]
    rows[0]["bytes_in"] = rows[0]["bytes_out"]
    return rows


def _row(name: str, said: dict[str, Any], counted: Counter[str]) -> dict[str, Any]:
    reasons = {
        label.partition("/")[2]: {
            "documents": int(counted[label]),
            "bytes": int(counted[label.replace("dropped/", "dropped_bytes/", 1)]),
        }
        for label in counted
        if label.startswith("dropped/")
    }
    keys = ("documents_in", "documents_out", "bytes_in", "bytes_out", "changed")
    return {
        "name": name,
        "settings": said,
        **{key: int(counted[key]) for key in keys},
        "seconds": float(counted["seconds"]),
        "reasons": dict(sorted(reasons.items(), key=lambda item: -item[1]["documents"])),
    }
