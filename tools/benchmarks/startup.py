"""`benchmark startup`: how long a person waits for the first step of training, and for `--help`.

Each start is a fresh process, timed from before the interpreter. "first start" finds an empty
cache: the text is tokenised and every program compiled. "again" finds what another start has left
there. The peer is a plain script on torch and transformers, which compiles and keeps nothing.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from maxlite import outputs
from maxlite.config import Architecture
from maxlite.console import say
from maxlite.tokenizer.definition import open_definition
from tools.benchmarks import model, worker

Told = dict[str, Any]
ROWS, TOKENS, LINES = 8, 128, 4000  # rows divide over as many devices
SHAPE = Architecture(
    model_type="llama",
    vocab_size=32000,
    hidden_size=288,
    intermediate_size=768,
    num_hidden_layers=6,
    num_attention_heads=6,
    max_position_embeddings=1024,
    bos_token_id=1,
    eos_token_id=2,
)
PARTS = ("import", "tokenizer", "text", "model", "compile", "step", "rest")
HELP = {"train --help": "maxlite.train", "generate --help": "tools.generate"}
_STAGE = """from maxlite.config import Config, Data, Eval


def get_config():
    return Config(
        model={model!r}, steps=2, batch_size={rows}, seq_len={tokens},
        data=Data(train=({text!r},)), eval=Eval(every=0),
    )
"""


def measure(settings: Any) -> list[dict[str, Any]] | None:
    """Measures both starts beside the peer, and two programs' `--help`; prints a table.

    Args:
      settings: `runs`, `dry_run` as attributes.

    Returns:
      One row a start, and one a `--help`, which has no peer: name, ours and peer (seconds,
      medians), ratio, unit, runs, peak_mib and peer_peak_mib (of the process), and parts and
      peer_parts, the seconds of each part (medians).

    Raises:
      InputError: a start failed.
    """
    peer = importlib.util.find_spec("torch") is not None
    if not peer:
        say("torch is not installed, so there is no peer: pip install -e '.[test]'")
    if settings.dry_run:
        say("would start training, and --help, in fresh processes")
        return None
    told: dict[str, list[Told]] = {}
    kinds = ["again", "first start", *["transformers"] * peer, *HELP]
    with (
        tempfile.TemporaryDirectory(prefix="maxlite-benchmark-") as scratch,
        tqdm(total=settings.runs * len(kinds) + 1, desc="starting") as bar,
    ):
        here = Path(scratch)
        _write(here)
        _start("again", here, "before")  # leaves its cache
        bar.update()
        for run in range(settings.runs):  # in turn, so that a slow minute hits all alike
            for kind in kinds:
                told.setdefault(kind, []).append(_start(kind, here, str(run)))
                bar.update()
    rows = [_row(name, told[name], told.get("transformers")) for name in ("first start", "again")]
    rows += [_row(name, told[name], None) for name in HELP]
    _print(rows)
    return rows


def _write(here: Path) -> None:
    """A model with its tokenizer, text and a config, in a folder."""
    folder, text = here / "model", here / "text.txt"
    model.write(folder, SHAPE)
    model.write_tokenizers(folder)
    made = open_definition(folder).files
    outputs.fill(folder, {name: made[name] for name in made if name != "tokenizer.model"})
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, rng.integers(1, 8))) for _ in range(5000)]
    lines = (" ".join(rng.choice(words, rng.integers(10, 150))) for _ in range(LINES))
    text.write_text("\n".join(lines) + "\n")
    stage = _STAGE.format(model=str(folder), text=str(text), rows=ROWS, tokens=TOKENS)
    (here / "stage.py").write_text(stage)


def _start(kind: str, here: Path, run: str) -> Told:
    """The figures of one process."""
    cache = here / ("cache" if kind == "again" else f"cache-{run}")
    environment = os.environ | {"MAXLITE_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    began = time.monotonic()
    if kind in HELP:
        worker.output(kind, HELP[kind], "--help", env=environment)
        return {"seconds": time.monotonic() - began, "peak_mib": None, "parts": {}}
    if kind == "transformers":
        mode, given = kind, [here / "model", here / "text.txt", ROWS, TOKENS]
    else:
        mode, given = "ours", [here / "stage.py", here / f"{kind}-{run}".replace(" ", "-")]
    arguments = (mode, str(began), *map(str, given))
    return worker.figures(kind, "tools.benchmarks.first_step", *arguments, env=environment)


def _row(name: str, ours: list[Told], peer: list[Told] | None) -> dict[str, Any]:
    row = {"name": name, "ours": _middle(ours), "peer": None, "ratio": None, "unit": "seconds"}
    row |= {"runs": len(ours), "peak_mib": _peak(ours), "parts": _parts(ours)}
    if peer:
        row |= {"peer": _middle(peer), "ratio": _middle(ours) / _middle(peer)}
        row |= {"peer_peak_mib": _peak(peer), "peer_parts": _parts(peer)}
    return row


def _middle(told: list[Told]) -> float:
    return statistics.median(run["seconds"] for run in told)


def _peak(told: list[Told]) -> float | None:
    return max((run["peak_mib"] for run in told if run["peak_mib"]), default=None)


def _parts(told: list[Told]) -> dict[str, float]:
    names = told[0]["parts"]
    return {name: statistics.median(run["parts"].get(name, 0.0) for run in told) for name in names}


def _print(rows: list[dict[str, Any]]) -> None:
    print(f"{'seconds':<18}{'ours':>8}{'peer':>8}{'ratio':>8}" + "".join(f"{p:>11}" for p in PARTS))
    for row in rows:
        peer, ratio = (f"{row[k]:.2f}" if row[k] else "-" for k in ("peer", "ratio"))
        parts = "".join(f"{row['parts'][p]:>11.2f}" for p in PARTS if p in row["parts"])
        print(f"{row['name']:<18}{row['ours']:>8.2f}{peer:>8}{ratio:>8}{parts}")
    if rows[0]["peer"]:
        theirs = rows[0]["peer_parts"]
        parts = "".join(f"{theirs[p]:>11.2f}" if p in theirs else f"{'-':>11}" for p in PARTS)
        print(f"{'transformers':<18}{rows[0]['peer']:>8.2f}{'':>16}{parts}")
