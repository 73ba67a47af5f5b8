"""What trained in each stage, on what, and at which cost: figures of runs that follow one another.

To those of `maxlite.report.runs` it adds

began           tokens of the stages before
trained         how many parameters trained
groups          [{"group", "part", "parameters", "trained", "shares"}]: the parameters from the
                input to the output, and the share that trained of each part: of each layer, or of
                the group as a whole
optimizer_gib   of AdamW's moments of what trained
mixture         [{"source", "asked", "read", "epochs"}]: shares of the tokens; what was not
                measured is None
seconds         of training alone, by what was logged of the speed
mfu             the median of what was logged, or None
samples         [[step, text], ...] of evaluations
signature       names the training: the same for a run and its repetition elsewhere
version         of maxlite
"""

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from maxlite.config import Architecture
from maxlite.data.orders import read_order
from maxlite.mixture import phases
from maxlite.model.leaves import leaf
from maxlite.parameters import EMBEDDING, HEAD, LAYERS, NORM, halved, shapes
from maxlite.report import runs
from maxlite.state import origin
from maxlite.state.host import run_model
from maxlite.state.run import RunFolder
from maxlite.storage import place

Figures = dict[str, Any]
Group = tuple[str, str]

_INPUT, _TIED, _LAYERS, _NORM, _OUTPUT, _LORA = GROUPS = (
    "input rows", "tied rows", "layers", "norm", "output rows", "adapters",
)  # fmt: skip


def figures(paths: Sequence[str]) -> list[Figures]:
    """The figures of the runs of a model's stages, in their order.

    Raises:
      InputError: one is no run, or has not trained.
    """
    found, began = [], 0
    for told in runs.figures(paths):
        run = RunFolder(place(told["path"]))
        stage = {**told, "began": began, **_trained(run), **_logged(run)}
        stage["mixture"] = _mixture(run, told["step"])
        stage["signature"] = origin.signature(run, told["step"])
        stage["version"] = run.description["version"]
        began += told["tokens"]
        found.append(stage)
    return found


def _trained(run: RunFolder) -> Figures:
    arch = run_model(run).architecture
    whole = shapes(arch)
    trained = [leaf(name) for name in (run.trained if run.base else whole)]
    held = run.description["config"]["optimizer"].get("bfloat16", "")
    taken: dict[str, set[int]] = {}
    for own in trained:
        taken.setdefault(own.parameter, set()).update(own.taken(whole[own.parameter]))
    sizes: dict[Group, list[int]] = {}
    claimed: dict[Group, list[int]] = {}
    moments = 0
    for name, shape in whole.items():
        rows = taken.get(name, set())
        each = math.prod(shape[1:])
        moments += len(rows) * each * (4 if halved(name, "moments", held) else 8)
        for group, part, parts, span in _places(name, shape, arch):
            sizes.setdefault(group, [0] * parts)[part] += len(span) * each
            mine = claimed.setdefault(group, [0] * parts)
            mine[part] += len(rows.intersection(span)) * each
    groups = [
        {
            "group": group[0],
            "part": group[1],
            "parameters": sum(size),
            "trained": sum(claimed[group]),
            "shares": [mine / of for mine, of in zip(claimed[group], size, strict=True)],
        }
        for group, size in sizes.items()
    ]
    return {
        "trained": sum(map(sum, claimed.values())),
        "groups": sorted(groups, key=lambda group: GROUPS.index(str(group["group"]))),
        "optimizer_gib": moments / 2**30,
    }


def _places(
    name: str, shape: tuple[int, ...], arch: Architecture
) -> Iterator[tuple[Group, int, int, range]]:
    """Where parameters belong: group, part, how many parts the group has, and rows of axis 0."""
    everything = range(shape[0])
    if ".lora_" in name:
        yield (_LORA, ""), 0, 1, everything
    elif name in (EMBEDDING, HEAD):
        input_ = _TIED if arch.tie_word_embeddings else _INPUT
        group = input_ if name == EMBEDDING else _OUTPUT
        if 0 < arch.base_rows < shape[0]:
            yield (group, "old"), 0, 1, range(arch.base_rows)
            yield (group, "new"), 0, 1, range(arch.base_rows, shape[0])
        else:
            yield (group, ""), 0, 1, everything
    elif name.startswith(LAYERS):
        for layer in everything:
            yield (_LAYERS, ""), layer, shape[0], range(layer, layer + 1)
    else:
        assert name == NORM
        yield (_NORM, ""), 0, 1, everything


def _logged(run: RunFolder) -> Figures:
    entries = run.measured()
    training = [entry for entry in entries if "loss" in entry]
    config = run.description["config"]
    room = config["batch_size"] * config["seq_len"]
    steps = [0, *(entry["step"] for entry in training)]
    seconds = sum(
        (b - a) * room / entry["tokens_per_second"]
        for (a, b), entry in zip(pairwise(steps), training, strict=True)
    )
    used = [entry["mfu"] for entry in training if "mfu" in entry]
    samples = [[entry["step"], entry["sample"]] for entry in entries if "sample" in entry]
    return {
        "seconds": seconds,
        "mfu": statistics.median(used) if used else None,
        "samples": samples,
    }


def _mixture(run: RunFolder, steps: int) -> list[Figures]:
    """What was asked for, with weights that changed taken over the steps, and what was read."""
    file = run.path / "order"
    if not (file / "order.json").is_file():
        return []
    order = read_order(file)
    listed = [one.source for one in order.sources]
    asked = [0.0] * len(listed)
    weights = phases(listed)
    ends = [*(step for step, _ in weights[1:]), max(steps, weights[-1][0])]
    for (start, each), end in zip(weights, ends, strict=True):
        length = max(0, min(end, steps) - start)
        for i, weight in enumerate(each):
            asked[i] += length * weight / sum(each) / steps
    said: dict[str, Any] = {}
    for entry in run.measured():
        said |= {key: value for key, value in entry.items() if key.startswith("data/")}
    return [
        {
            "source": source.name,
            "asked": None if order.kept else share,  # what was drawn has shares of its own
            "read": said.get(f"data/{source.name}/share"),
            "epochs": said.get(f"data/{source.name}/epochs"),
        }
        for source, share in zip(listed, asked, strict=True)
    ]


_SHAPE = ("depth", "width", "expansion", "heads", "key_value_heads", "rows", "tied")


def settings(stages: Sequence[Figures]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The settings of stages as JSON: those of all, and those that differ, with each one's value.

    With them are the shapes of their models; `architecture` is left out where a model was named,
    for then it said nothing.

    Returns:
      {key: value}, {key: [value of each stage; "" where it had no such key]}.
    """
    told = [
        {key: value for key, value in stage["settings"].items()
         if not (stage["settings"]["model"] and key.startswith("architecture."))}
        | {f"model's {key.replace('_', ' ')}": stage[key] for key in _SHAPE}
        for stage in stages
    ]  # fmt: skip
    values = {
        key: [json.dumps(one[key], ensure_ascii=False) if key in one else "" for one in told]
        for key in dict.fromkeys(key for one in told for key in one)
    }
    same = {key: each[0] for key, each in values.items() if len(set(each)) == 1}
    return same, {key: each for key, each in values.items() if key not in same}
