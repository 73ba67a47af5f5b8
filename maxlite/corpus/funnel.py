"""What each step of a cleaning let through, from what its tasks counted."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from maxlite.corpus.cleaning import Cleaning
from maxlite.corpus.described import named, settings
from maxlite.corpus.passes import Pass, dropped_by
from maxlite.data import sources

_EXAMPLES = 5  # of a reason
_LOOKED_AT = 1000  # dropped documents of the first shard, in which rare reasons may be


def funnel(
    config: Cleaning, several: Sequence[Pass], logs: Sequence[Path], work: Path
) -> list[dict[str, Any]]:
    """Documents and bytes in and out of reading and of each step.

    Args:
      config: the cleaning.
      several: its passes, all of them done.
      logs: where the executor of each keeps its figures.
      work: the folder of its files.

    Returns:
      For reading, then for each step: `name`, `settings`, `documents_in`, `documents_out`,
      `bytes_in`, `bytes_out` (UTF-8), `changed` documents, `seconds` of work over all processes and
      `reasons`, {why documents were dropped: {"documents", "bytes"}}, the most frequent first. If
      dropped documents are kept, `examples` of them.
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
        if config.keep_dropped:
            rows[-1]["examples"] = examples(dropped_by(config, i, work))
    rows[0]["documents_in"] += rows[0]["documents_out"]
    rows[0]["bytes_in"] = rows[0]["bytes_out"]
    return rows


def examples(folder: Path) -> list[dict[str, str]]:
    """Some of what a step dropped, a few for each reason: `reason` and `text`.

    Args:
      folder: where it was kept; it may not be there.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(folder.glob("*"))[:1]:
        with sources.Lines(path, lambda size: None) as lines:
            for line in islice(lines, _LOOKED_AT):
                dropped = json.loads(line)
                found[dropped["reason"]].append(dropped["text"])
    return [
        {"reason": reason, "text": text} for reason in found for text in found[reason][:_EXAMPLES]
    ]


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
