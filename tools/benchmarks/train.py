"""`benchmark train`: tokens a second of training, beside torch and transformers (and PEFT).

Ours and the peer begin with the same weights, train on the same batches with the same AdamW, and
have to agree on the loss of the first of them, or nothing is compared. Each runs in fresh processes
of its own, in turn. The peer does what its users do: new rows by a hook that empties the gradient
of the old ones, adapters by PEFT with both tables in `modules_to_save`, and of its kinds (eager and
compiled; where documents are packed, packed and compiled with flex attention, and not packed with
SDPA) the faster counts.

On an accelerator both compute in bfloat16. What trains is float32 here; the peer's weights and
moments are all bfloat16, its fastest way. On a CPU all is float32.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from maxlite import parameters
from maxlite.config import Architecture
from maxlite.console import human, say
from maxlite.errors import InputError
from tools.benchmarks import model
from tools.benchmarks.batches import Batch, random_batch

TRAINS = {"full": "everything", "new_rows": "new_rows", "lora": "lora, vocabulary"}  # rules
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-3}  # of the first loss, relative


@dataclass(frozen=True)
class Size:
    """A shape of Llama, with tables of its own for input and output, and a batch.

    Attributes:
      steps: that count in each run.
      documents: in a row.
      bfloat16: what of the optimizer ours holds so on an accelerator; the peer holds all so.
    """

    width: int
    ffn: int
    layers: int
    heads: int
    kv: int
    vocabulary: int
    rows: int
    length: int
    steps: int
    documents: int = 1
    bfloat16: str = ""

    def architecture(self) -> Architecture:
        """The shape, as a config has it."""
        return Architecture(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=self.ffn,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv,
            max_position_embeddings=max(2048, self.length),
            rope_theta=500_000.0,
            bos_token_id=1,
            eos_token_id=2,
        )


SIZES = {
    "tiny": Size(64, 128, 2, 4, 2, 400, 2, 32, 2),
    "tiny_packed": Size(64, 128, 2, 4, 2, 400, 2, 64, 2, documents=4),
    "24M": Size(288, 768, 6, 6, 6, 32_000, 4, 256, 10),  # the shape of llama2.c's smallest
    "110M": Size(768, 2048, 12, 12, 12, 32_000, 4, 256, 4),  # and of its largest
    "1B": Size(2048, 8192, 16, 32, 8, 128_256, 4, 4096, 10, documents=8),  # Llama 3.2 1B
    # Llama 3 8B, whose moments and gradients in float32 alone are 96 GB.
    "8B": Size(4096, 14336, 32, 32, 8, 128_256, 2, 4096, 6, 8, "moments,gradients"),
}


@dataclass(frozen=True)
class Task:
    """What a process of ours or of the peer trains; it travels as JSON.

    Attributes:
      folder: of the weights.
      mode: one of TRAINS.
      remat: as in the config; the peer's layers are all kept, or for any other all computed again.
      bfloat16: as in the config's `optimizer`.
      kind: of the peer: eager, compiled or unpacked.
      different: batches, which come again in turn.
      compile_limit: seconds that the peer's compiler has.
    """

    folder: str
    mode: str
    rows: int
    length: int
    documents: int
    vocabulary: int
    steps: int
    remat: str = "none"
    bfloat16: str = ""
    kind: str = ""
    compile_limit: int = 300
    different: int = 4
    rank: int = 16
    alpha: float = 32.0
    learning_rate: float = 1e-4

    @property
    def base_rows(self) -> int:
        """The old rows of both tables: four of five."""
        return self.vocabulary * 4 // 5

    @property
    def weight_decay(self) -> float:
        """None on tables of which a part is to stay: a mask on gradients does not stop it."""
        return 0.1 if self.mode == "full" else 0.0

    def batch(self, number: int) -> Batch:
        """A batch, [1, B, S]."""
        shape = (1, self.rows, self.length)
        return random_batch(shape, range(3, self.vocabulary), self.documents, number)


def measure(settings: Any) -> list[dict[str, Any]] | None:
    """Measures each mode and prints a table.

    Args:
      settings: `size`, `modes`, `runs`, `remat`, `against`, `compile_limit`, `dir`, `dry_run` as
        attributes.

    Returns:
      One row a mode: name, ours and peer (tokens a second, medians), ratio, unit, runs, peak_mib
      and peer_peak_mib (of the device, on a CPU of the process), tflops and mfu (of ours, by
      `maxlite.model.flops`; None where the peak is not known) and peer_tflops, first_s (of the
      first step, with its compiling), loss and peer_loss (after the last step), trained (numbers),
      batch, peers (tokens a second of every kind that ran).

    Raises:
      InputError: a mode that there is not, a peer that cannot run, or one that computes something
        else.
    """
    size, modes = SIZES[settings.size], settings.modes
    if wrong := [mode for mode in modes if mode not in TRAINS]:
        raise InputError(f"--modes={wrong[0]} does not exist; choose of {', '.join(TRAINS)}")
    kinds = _kinds(settings.against, modes, size)
    arch = size.architecture()
    count = sum(math.prod(shape) for shape in parameters.shapes(arch).values())
    if settings.dir and not Path(settings.dir).expanduser().is_dir():
        raise InputError(f"--dir={settings.dir} is not a folder; make it, or leave --dir out")
    plan = f"{human(count)} parameters on {size.rows} x {size.length} tokens: {', '.join(modes)}"
    if settings.dry_run:
        say(f"would train {plan}")
        return None
    place = Path(settings.dir).expanduser() if settings.dir else None
    rows = []
    with tempfile.TemporaryDirectory(prefix="maxlite-benchmark-", dir=place) as scratch:
        folder = Path(scratch) / "model"
        say(f"writing random weights to {folder}")
        model.write(folder, arch)
        task = Task(
            str(folder),
            "",
            size.rows,
            size.length,
            size.documents,
            size.vocabulary,
            size.steps,
            remat=settings.remat,
            bfloat16=size.bfloat16,
            compile_limit=settings.compile_limit,
        )
        with tqdm(total=len(modes) * (1 + len(kinds)) * settings.runs, desc="training") as bar:
            for mode in modes:
                tasks = dataclasses.replace(task, mode=mode)
                told = _measured(tasks, kinds, settings.runs, bar)
                rows.append(_row(f"{mode} {settings.size}", tasks, told))
    print(plan)
    _print(rows)
    return rows


def _kinds(against: str, modes: list[str], size: Size) -> tuple[str, ...]:
    """Kinds of the peer to run; none if none is wanted.

    Raises:
      InputError: it is wanted, and not installed.
    """
    if against == "none":
        return ()
    wanted = ["torch", "transformers", *(["peft"] if "lora" in modes else [])]
    if missing := [name for name in wanted if not importlib.util.find_spec(name)]:
        raise InputError(
            f"{' and '.join(missing)} cannot be compared with, being not installed: "
            f"pip install {' '.join(missing)}, or give --against=none"
        )
    return ("compiled", "unpacked") if size.documents > 1 else ("eager", "compiled")


Told = dict[str, list[dict[str, Any]]]


def _measured(task: Task, kinds: tuple[str, ...], runs: int, bar: tqdm) -> Told:
    """The figures of every run, ours under "" and a peer's under its kind.

    Raises:
      InputError: ours failed, every peer failed, or a peer computes another loss.
    """
    told: Told = {}
    failed: dict[str, str] = {}
    for _ in range(runs):  # in turn, so that a slow minute of the machine hits all alike
        for kind in ("", *kinds):
            bar.update()
            if kind in failed:
                continue
            try:
                found = _run(dataclasses.replace(task, kind=kind))
            except InputError as e:
                if not kind:
                    raise
                failed[kind] = str(e)
                say(f"{task.mode}: {e}")
                continue
            told.setdefault(kind, []).append(found)
            if kind:
                _check_same(task.mode, kind, told[""][0], found)
    told = {kind: several for kind, several in told.items() if kind not in failed}
    if kinds and len(told) == 1:
        raise InputError(f"{task.mode}: no peer ran: {'; '.join(failed.values())}")
    return told


def _run(task: Task) -> dict[str, Any]:
    who = "train_peer" if task.kind else "train_ours"
    scratch = Path(task.folder).parent
    environment = {
        "HF_HUB_OFFLINE": "1",
        "JAX_COMPILATION_CACHE_DIR": str(scratch / "jax"),
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92",  # of the device; its default leaves a quarter
        "TOKENIZERS_PARALLELISM": "false",
    }
    told = json.dumps(dataclasses.asdict(task))
    done = subprocess.run(
        [sys.executable, "-m", f"tools.benchmarks.{who}", told],
        capture_output=True,
        text=True,
        check=False,
        env=environment | os.environ,
    )
    name = f"torch, {task.kind}," if task.kind else "maxlite"
    if task.kind and done.returncode == -signal.SIGALRM:
        raise InputError(f"{name} did not compile within {task.compile_limit} s")
    if done.returncode:
        said = [line for line in done.stderr.strip().splitlines() if "Error" in line]
        last = (said or done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"{name} failed with status {done.returncode}: {last[:300]}")
    return json.loads(done.stdout.splitlines()[-1])


def _check_same(mode: str, kind: str, ours: dict[str, Any], peer: dict[str, Any]) -> None:
    a, b = ours["first_loss"], peer["first_loss"]
    if not abs(a - b) <= TOLERANCE[peer["dtype"]] * abs(b):
        raise InputError(
            f"{mode}: on the first batch the loss is {a:.6f} here and {b:.6f} with torch, {kind}: "
            "they do not compute the same, so their speeds are not compared"
        )


def _row(name: str, task: Task, told: Told) -> dict[str, Any]:
    """The figures of one mode; of the peer's kinds the fastest counts."""

    def middle(kind: str, key: str) -> float:
        return statistics.median(run[key] for run in told[kind])

    tokens = task.rows * task.length
    rates = {kind: tokens / middle(kind, "seconds") for kind in told}
    best = max((kind for kind in told if kind), key=lambda kind: rates[kind], default=None)
    first = told[""][0]
    work = first["flops_per_token"]
    peak = first["peak_flops"]
    row = {
        "name": name,
        "ours": rates[""],
        "peer": rates[best] if best else None,
        "ratio": rates[""] / rates[best] if best else None,
        "unit": "tokens/s",
        "runs": len(told[""]),
        "peak_mib": max(run["peak_mib"] for run in told[""]),
        "peer_peak_mib": max(run["peak_mib"] for run in told[best]) if best else None,
        "tflops": rates[""] * work / 1e12,
        "peer_tflops": rates[best] * work / 1e12 if best else None,
        "mfu": rates[""] * work / peak if peak else None,
        "first_s": max(run["first_s"] for run in told[""]),
        "loss": first["loss"],
        "peer_loss": told[best][0]["loss"] if best else None,
        "trained": first["trained"],
        "batch": f"{task.rows} x {task.length}",
        "remat": task.remat,
        "bfloat16": task.bfloat16,
    }
    row["peers"] = {
        kind: {
            "tokens_per_second": rates[kind],
            "peak_mib": max(run["peak_mib"] for run in told[kind]),
            "first_s": max(run["first_s"] for run in told[kind]),
        }
        for kind in told
        if kind
    }
    return row


def _print(rows: list[dict[str, Any]]) -> None:
    """Every kind of the peer has a line; * is the one that counts."""
    print(f"{'':<24}{'tokens/s':>10}{'ratio':>8}{'TFLOP/s':>9}{'MFU':>7}{'MiB':>9}{'first s':>9}")
    for row in rows:
        each = {"maxlite": (row["ours"], row["peak_mib"], row["first_s"])}
        for kind, of in row["peers"].items():
            chosen = "*" if of["tokens_per_second"] == row["peer"] else ""
            each[f"torch {kind}{chosen}"] = tuple(of.values())
        print(row["name"])
        for name, (rate, peak, first) in each.items():
            work = row["tflops"] * rate / row["ours"]
            mfu = f"{row['mfu'] * rate / row['ours']:.1%}" if row["mfu"] else "-"
            print(
                f"  {name:<22}{rate:>10.0f}{row['ours'] / rate:>8.2f}{work:>9.3f}{mfu:>7}"
                f"{peak:>9.0f}{first:>9.1f}"
            )
