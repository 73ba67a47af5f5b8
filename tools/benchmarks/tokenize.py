"""`benchmark tokenize`: counting the tokens of a file beside the bare encoder of the same library.

Ours is all of `counting.count`: starting processes, reading and decoding the file, encoding it,
counting ids, words, characters and bytes. The bare encoder finds the lines in memory already, and
nobody reads what it returns. Both have loaded their tokenizer, and may use the same cores.

  python -m tools.benchmarks.tokenize ours|bare FILE TOKENIZER     one run, told as JSON
  python -m tools.benchmarks.tokenize unreachable TOKENIZER        one run of that
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from maxlite.config import Source
from maxlite.console import say
from maxlite.data.parts import text_parts
from maxlite.data.sources import documents, expand, kind
from maxlite.errors import InputError
from maxlite.tokenizer import counting, load_tokenizer
from tools.benchmarks import worker
from tools.benchmarks.load import MIB

_CHARS = 1 << 20  # that the bare encoder gets at a time: the fastest of 2**18 to all at once
_REACHABILITY = "maxlite.tokenizer.reachability"


def measure(settings: Any) -> list[dict[str, Any]] | None:
    """Measures counting with each form of a tokenizer; prints a table.

    Args:
      settings: `text` (a .txt file), `tokenizer`, `runs`, `dry_run` as attributes.

    Returns:
      One row a form, with `ours` and `peer` in 10^6 bytes a second (medians), and one for the
      pieces a second whose reachability is checked, which has no peer: name, ours, peer, ratio,
      unit, runs, peak_mib (of the largest process) and seconds; for a form cpu_seconds, too, which
      other work on the machine disturbs less.

    Raises:
      InputError: a flag is missing, or a file cannot be read or encoded.
    """
    if not settings.text or not settings.tokenizer:
        raise InputError("--text and --tokenizer must be given; --help says what they mean")
    files = expand(Source(glob=settings.text))
    if len(files) > 1 or kind(files[0]) != "txt":
        raise InputError(f"--text={settings.text} must name one .txt file")
    forms = _forms(Path(settings.tokenizer).expanduser())
    if settings.dry_run:
        say(f"would count {files[0]} with {', '.join(map(str, forms))}")
        return None
    size = files[0].stat().st_size
    rows = []
    checked = importlib.util.find_spec(_REACHABILITY) is not None
    with tqdm(total=settings.runs * len(forms) * (3 if checked else 2), desc="counting") as bar:
        for form in forms:
            told: dict[str, list[dict[str, Any]]] = {}
            for _ in range(settings.runs):  # in turn, so that a slow minute hits all alike
                for what in ("ours", "bare"):
                    told.setdefault(what, []).append(_run(what, str(files[0]), str(form)))
                    bar.update()
                if checked:
                    told.setdefault("unreachable", []).append(_run("unreachable", str(form)))
                    bar.update()
            rows += _rows(form, files[0].name, size, told)
    _print(rows)
    return rows


def _forms(given: Path) -> list[Path]:
    """The model files of a tokenizer; a folder can have two."""
    load_tokenizer(given)  # refused here, not in a process of ours
    if given.is_file():
        return [given]
    both = [given / name for name in ("tokenizer.json", "tokenizer.model")]
    return [path for path in both if path.is_file()] or [load_tokenizer(given).path]


def _rows(
    form: Path, text: str, size: int, told: dict[str, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    def row(name: str, what: str, amount: float, unit: str) -> dict[str, Any]:
        seconds = statistics.median(run["seconds"] for run in told[what])
        return {
            "name": name,
            "ours": amount / seconds,
            "peer": None,
            "ratio": None,
            "unit": unit,
            "runs": len(told[what]),
            "peak_mib": max(run["peak_mib"] for run in told[what]),
            "seconds": seconds,
        }

    counted = row(f"{text} by {form.name}", "ours", size / 1e6, "MB/s")
    theirs = statistics.median(run["seconds"] for run in told["bare"])
    peer = size / 1e6 / theirs
    counted |= {
        "peer": peer,
        "ratio": counted["ours"] / peer,
        "peer_seconds": theirs,
        "peer_peak_mib": max(run["peak_mib"] for run in told["bare"]),
        "cpu_seconds": statistics.median(run["cpu_seconds"] for run in told["ours"]),
        "peer_cpu_seconds": statistics.median(run["cpu_seconds"] for run in told["bare"]),
        "tokens": told["ours"][0]["tokens"],
        "peer_tokens": told["bare"][0]["tokens"],
    }
    if "unreachable" not in told:
        return [counted]
    found = told["unreachable"][0]
    name = f"{found['unreachable']} of {found['pieces']} unreachable in {form.name}"
    return [counted, row(name, "unreachable", found["pieces"], "pieces/s")]


def _run(*arguments: str) -> dict[str, Any]:
    # Ours decides itself about threads; for the bare encoder this is the library's own default.
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "true"}
    module = "tools.benchmarks.tokenize"
    return worker.figures(" ".join(arguments), module, *arguments, env=environment)


def _print(rows: list[dict[str, Any]]) -> None:
    print(f"{'':<48}{'ours':>9}{'bare':>9}{'ratio':>7} {'unit':<9}{'seconds':>8}{'peak MiB':>10}")
    for row in rows:
        peer, ratio = (f"{row[k]:.2f}" if row[k] else "-" for k in ("peer", "ratio"))
        print(
            f"{row['name']:<48}{row['ours']:>9.2f}{peer:>9}{ratio:>7} {row['unit']:<9}"
            f"{row['seconds']:>8.2f}{row['peak_mib']:>10.0f}"
        )
    for row in rows:
        if row["peer"]:
            print(
                f"{row['name']}: {row['cpu_seconds']:.2f} s of all cores together, "
                f"{row['peer_cpu_seconds']:.2f} s for the bare encoder"
            )


def ours(file: str, tokenizer: str) -> dict[str, Any]:
    """Counts with as many processes as there are cores."""
    loaded = load_tokenizer(tokenizer)
    tokens, figures = _timed(lambda: counting.count(loaded, text_parts([Path(file)])).total.tokens)
    return {"tokens": tokens, **figures}


def bare(file: str, tokenizer: str) -> dict[str, Any]:
    """Encodes all lines with the library itself, many at a time."""
    encode = _bare_json(tokenizer) if tokenizer.endswith(".json") else _bare_model(tokenizer)
    batches: list[list[str]] = [[]]
    size = 0
    for line in documents(Path(file)):
        if size >= _CHARS:
            batches.append([])
            size = 0
        batches[-1].append(line)
        size += len(line)
    tokens, figures = _timed(lambda: sum(encode(batch) for batch in batches))
    return {"tokens": tokens, **figures}


def _bare_json(tokenizer: str) -> Callable[[list[str]], int]:
    import tokenizers

    loaded = tokenizers.Tokenizer.from_file(tokenizer)
    return lambda batch: sum(map(len, loaded.encode_batch_fast(batch, add_special_tokens=False)))


def _bare_model(tokenizer: str) -> Callable[[list[str]], int]:
    import sentencepiece

    loaded = sentencepiece.SentencePieceProcessor(model_file=tokenizer)
    return lambda batch: sum(map(len, loaded.encode_as_numpy(batch, num_threads=-1)))


def unreachable(tokenizer: str) -> dict[str, Any]:
    """Looks for the pieces that no text produces."""
    loaded = load_tokenizer(tokenizer)
    look = importlib.import_module(_REACHABILITY).unreachable
    found, figures = _timed(lambda: len(look(loaded)))
    return {"pieces": loaded.rows, "unreachable": found, **figures}


def _timed(work: Callable[[], int]) -> tuple[int, dict[str, float]]:
    """What a function gives, its seconds, and those of all cores, also for processes it starts."""
    began, before = time.monotonic(), os.times()
    result = work()
    seconds, after = time.monotonic() - began, os.times()
    return result, {"seconds": seconds, "cpu_seconds": sum(after[:4]) - sum(before[:4])}


def largest() -> float:
    """MiB of the largest of this process and those it has started, at its peak."""
    import resource

    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in both) * 1024 / MIB


if __name__ == "__main__":
    _, _what, *_arguments = sys.argv
    _told = {"ours": ours, "bare": bare, "unreachable": unreachable}[_what](*_arguments)
    print(json.dumps(_told | {"peak_mib": largest()}))
