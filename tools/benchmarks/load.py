"""Loads a model folder once and prints what it took as JSON; started by `benchmark import`.

  python -m tools.benchmarks.load ours|widened|imported|transformers FOLDER

ours places it in the types it is stored in, widened in float32 as for training, imported writes a
run of it as well. What the imports cost is in neither the time nor the memory.
"""

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIB = 2**20
Load = Callable[[], Any]
About = Callable[[Any], dict[str, float]]


def anonymous(pid: int | str = "self") -> int:
    """The anonymous memory of a process in bytes; 0 if it has just ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


class Peak(threading.Thread):
    """Watches anonymous memory every few milliseconds while it is entered."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.base = self.most = anonymous()
        self._done = threading.Event()

    def run(self) -> None:
        """The thread: looks until it is left."""
        while not self._done.wait(0.003):
            self.most = max(self.most, anonymous())

    def __enter__(self) -> "Peak":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.most = max(self.most, anonymous())
        self._done.set()
        self.join()


def ours(folder: str, dtype: str = "") -> tuple[Load, About]:
    """The load, and what its result says about memory."""
    import jax
    import jax.numpy as jnp

    from maxlite import distributed
    from maxlite.state import mesh as mesh_lib
    from maxlite.state.ready import widest_mesh
    from maxlite.state.source import open_model

    distributed.initialize()  # where it is one of several
    jnp.zeros(()).block_until_ready()  # the backend belongs to the program, not to the load

    def load() -> dict[str, jax.Array]:
        source = open_model(folder)
        shardings = mesh_lib.shardings(widest_mesh(source), source.shapes)
        dtypes = source.stored_dtypes()
        if dtype:
            dtypes = dict.fromkeys(dtypes, jnp.dtype(dtype))
        return jax.block_until_ready(source.load(shardings, dtypes))

    def about(params: dict[str, jax.Array]) -> dict[str, float]:
        parts = [shard.data.nbytes for x in params.values() for shard in x.addressable_shards]
        devices = len(next(iter(params.values())).sharding.device_set)
        return {
            "devices": devices,
            "device_mib": sum(parts) / MIB,
            "largest_mib": max(parts) / MIB,
        }

    return load, about


def widened(folder: str) -> tuple[Load, About]:
    """As training begins."""
    return ours(folder, "float32")


def imported(folder: str) -> tuple[Load, About]:
    """`tools.import_hf`, whose run is deleted again."""
    place, about = ours(folder)
    from maxlite.state import imported as imported_lib
    from maxlite.state.source import open_model

    def load() -> None:
        with tempfile.TemporaryDirectory(dir=Path(folder).parent) as scratch:
            imported_lib.import_model(open_model(folder), Path(scratch) / "run")

    return load, lambda _: about(place())  # what it had placed, and has let go of since


def transformers(folder: str) -> tuple[Load, About]:
    """The peer, with its weights onto the same kind of device.

    On a CPU `from_pretrained` only maps the files, and reads them when the weights are used; so
    that the same is compared, each is copied into memory then, as training would have to.
    """
    import torch
    from transformers import AutoModelForCausalLM, LlamaForCausalLM, MistralForCausalLM

    assert LlamaForCausalLM and MistralForCausalLM  # asking for them is what imports them
    where = "cuda" if torch.cuda.is_available() else "cpu"
    torch.zeros(1, device=where)
    mapped = 0.0

    def load() -> Any:
        nonlocal mapped
        began = time.monotonic()
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
        mapped = time.monotonic() - began
        with torch.no_grad():
            for weight in model.parameters():
                weight.data = weight.data.to(where, copy=True)
        return model

    def about(model: Any) -> dict[str, float]:
        sizes = [weight.nbytes for weight in model.parameters()]
        return {
            "mapped_seconds": mapped,
            "device_mib": sum(sizes) / MIB,
            "largest_mib": max(sizes) / MIB,
        }

    return load, about


def main(what: str, folder: str) -> None:
    kinds = {"ours": ours, "widened": widened, "imported": imported, "transformers": transformers}
    load, about = kinds[what](folder)
    with Peak() as peak:
        began = time.monotonic()
        loaded = load()
        seconds = time.monotonic() - began
    figures = about(loaded)
    on_host = figures["device_mib"] if _cpu(what) else 0.0
    used = (peak.most - peak.base) / MIB
    print(
        json.dumps({"seconds": seconds, "peak_mib": used, "excess_mib": used - on_host, **figures})
    )


def _cpu(what: str) -> bool:
    if what == "transformers":
        import torch

        return not torch.cuda.is_available()
    import jax

    return jax.default_backend() == "cpu"


if __name__ == "__main__":
    main(*sys.argv[1:])
