"""Run folders as training leaves them, without training."""

import json
from pathlib import Path
from typing import Any

from maxlite import config as config_lib
from maxlite.config import Architecture, Config, Data, Optimizer
from maxlite.hf import config_json
from maxlite.state.run import furnish


def past_run(
    folder: Path,
    depth: int = 2,
    width: int = 16,
    *,
    bits: float | None = 2.0,
    steps: int = 20,
    status: str = "finished",
    order: str = "same",
    rate: float = 1e-3,
    **more: Any,
) -> Path:
    """Makes a run with an evaluation of "korean" every ten steps, which ends with so many bits."""
    arch = Architecture(
        vocab_size=50,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=depth,
        num_attention_heads=2,
        base_rows=40,
    )
    settings = {"architecture": arch, "data": Data(train=("a.txt",)), "out": str(folder)}
    optimizer = Optimizer(learning_rate=rate)
    config = config_lib.resolve(Config(**settings, steps=20, seq_len=8, optimizer=optimizer))
    written = json.dumps(config_json.config_for(arch, "float32"))
    folder.mkdir(parents=True)
    description = {"config": config_lib.as_dict(config), "order": order, **more}
    furnish(folder, description, {"config.json": written.encode()}, {})
    stands = {"status": status, "step": steps, "steps": 20}
    (folder / "status.json").write_text(json.dumps(stands))
    with (folder / "metrics.jsonl").open("w") as f:
        for step in range(5, steps + 1, 5):
            line = {"loss": 6 - step / 10, "tokens_per_second": 100.0 * step, "memory_gib": 1.5}
            f.write(json.dumps({"step": step, **line}) + "\n")
            if step % 10 == 0 and bits is not None:
                scored = {"bits_per_byte": bits + (20 - step) / 10, "loss": 2 * bits}
                entry = {f"eval/korean/{key}": value for key, value in scored.items()}
                f.write(json.dumps({"step": step, **entry, "sample": "x"}) + "\n")
        f.write('{"step": 25, "lo')  # a line that is being written
    return folder
