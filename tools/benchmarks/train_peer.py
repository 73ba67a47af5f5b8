"""The peer of `benchmark train`: torch and transformers, as their users train with them.

  python -m tools.benchmarks.train_peer TASK    (JSON, see `tools.benchmarks.train.Task`)

Packed rows are told to transformers by the positions, from which it makes the mask: a block mask
for flex attention on a GPU. The kind "unpacked" takes the same documents in rows of their own,
padded to the longest of as many as fill what the packed batch has.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM
from transformers.masking_utils import create_causal_mask

from maxlite.surgery.adapters import PROJECTIONS
from tools.benchmarks.batches import Batch
from tools.benchmarks.paced import MIB, paced, resident_peak
from tools.benchmarks.train import Task

NOT_A_TARGET = -100
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float32
Inputs = dict[str, torch.Tensor]


def main(task: Task) -> dict[str, Any]:
    torch.manual_seed(0)
    packed = task.documents > 1 and task.kind != "unpacked"
    attention = "flex_attention" if packed and DEVICE == "cuda" else "sdpa"
    model = LlamaForCausalLM.from_pretrained(
        task.folder, dtype=DTYPE, attn_implementation=attention
    )
    model.config.use_cache = False
    if task.remat != "none":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model = _claimed(model, task).to(DEVICE).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": task.weight_decay},
            {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=task.learning_rate,
        betas=(0.9, 0.95),
        eps=1e-8,
        fused=True,
    )
    compute: Callable[..., torch.Tensor] = _summed(model)
    if task.kind == "compiled":
        compute = torch.compile(compute)
    inputs = [list(_inputs(task, task.batch(i))) for i in range(task.different)]

    def step(number: int) -> torch.Tensor:
        parts = inputs[number % len(inputs)]
        weight = sum(int((part["targets"] != NOT_A_TARGET).sum()) for part in parts)
        total = torch.zeros((), device=DEVICE)
        for part in parts:
            if packed:
                part = part | {"attention_mask": _mask(model, part)}
            loss = compute(**part) / weight
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(trained, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if number == 0:
            signal.alarm(0)
        return total

    if task.kind == "compiled":
        signal.alarm(task.compile_limit)  # which ends this process
    told = paced(step, float, task.steps)
    on_device = torch.cuda.max_memory_allocated() / MIB if DEVICE == "cuda" else 0.0
    return told | {
        "peak_mib": on_device or resident_peak(),
        "dtype": str(DTYPE).removeprefix("torch."),
    }


def _claimed(model: Any, task: Task) -> Any:
    """The model with just what the mode trains, as far as torch can say so."""
    if task.mode == "full":
        return model
    if task.mode == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=task.rank,
            lora_alpha=task.alpha,
            target_modules=list(PROJECTIONS),
            modules_to_save=["embed_tokens", "lm_head"],
            task_type="CAUSAL_LM",
        )
        return get_peft_model(model, config, autocast_adapter_dtype=False)
    model.requires_grad_(False)
    for table in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        table.requires_grad_(True)
        table.register_post_accumulate_grad_hook(_only_new(task.base_rows))
    return model


def _only_new(base_rows: int) -> Callable[[torch.Tensor], None]:
    def empty(table: torch.Tensor) -> None:
        assert table.grad is not None
        table.grad[:base_rows] = 0

    return empty


def _summed(model: Any) -> Callable[..., torch.Tensor]:
    def compute(targets: torch.Tensor, **inputs: Any) -> torch.Tensor:
        logits = model(**inputs).logits
        return cross_entropy(
            logits.flatten(0, -2).float(),
            targets.flatten(),
            ignore_index=NOT_A_TARGET,
            reduction="sum",
        )

    return compute


def _mask(model: Any, part: Inputs) -> Any:
    """From the positions, which begin again with every document."""
    like = torch.empty((*part["input_ids"].shape, 1), dtype=DTYPE, device=DEVICE)
    return create_causal_mask(
        model.config, like, None, past_key_values=None, position_ids=part["position_ids"]
    )


def _inputs(task: Task, batch: Batch) -> Iterator[Inputs]:
    """What the model is given of a batch, in parts whose gradients are summed."""
    tensors = {key: torch.from_numpy(x[0]).long() for key, x in batch.items()}
    targets = tensors["targets"].masked_fill(tensors["weights"] == 0, NOT_A_TARGET)
    if task.kind != "unpacked":
        inputs = {"input_ids": tensors["tokens"], "targets": targets}
        if task.documents > 1:
            inputs["position_ids"] = tensors["positions"]
        yield {key: x.to(DEVICE) for key, x in inputs.items()}
        return
    each = [
        (tensors["tokens"][row][at], targets[row][at])
        for row in range(task.rows)
        for number in range(1, task.documents + 1)
        for at in [tensors["segments"][row] == number]
    ]
    several: list[tuple[torch.Tensor, torch.Tensor]] = []
    for document in each:
        longest = max(len(tokens) for tokens, _ in [*several, document])
        if several and longest * (len(several) + 1) > task.rows * task.length:
            yield _padded(several)
            several = []
        several.append(document)
    yield _padded(several)


def _padded(documents: list[tuple[torch.Tensor, torch.Tensor]]) -> Inputs:
    pad = torch.nn.utils.rnn.pad_sequence
    tokens, targets = zip(*documents, strict=True)
    there = [torch.ones_like(x) for x in tokens]
    inputs = {
        "input_ids": pad(tokens, batch_first=True),
        "targets": pad(targets, batch_first=True, padding_value=NOT_A_TARGET),
        "attention_mask": pad(there, batch_first=True),
    }
    return {key: x.to(DEVICE) for key, x in inputs.items()}


if __name__ == "__main__":
    print(json.dumps(main(Task(**json.loads(sys.argv[1])))))
