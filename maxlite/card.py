"""The model card of an export: README.md with a front matter that the hub reads.

Every figure is from run.json, metrics.jsonl or maxlite.json; the same run gives the same bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import maxlite
from maxlite.console import human
from maxlite.hf import hub
from maxlite.lineage import Stage, stages
from maxlite.sizes import count
from maxlite.state.run import RunFolder
from maxlite.state.source import ModelSource
from maxlite.transforms import Lora

PAGE = "https://huggingface.co/{model}"
LICENCES = ("LICENSE", "NOTICE", "USE_POLICY")  # how the names of such files begin
_STEPS = {  # what tools and transforms of these names do to a model
    "add_lora": "Adapters were put beside its weights",
    "compact_vocab": "Rows of its vocabulary were left out",
    "extend_vocab": "Its vocabulary was extended",
    "inherit": "It was made smaller, from layers and units of the model before",
    "merge_lora": "Adapters were merged into its weights",
    "untie": "Its output table was separated from its input table",
    "upscale_depth": "Its layers were arranged anew",
}


def carded(
    source: ModelSource, notes: Mapping[str, Any], run: RunFolder, name: str, dtype: str = ""
) -> ModelSource:
    """The same with a model card among the files that travel with it.

    Args:
      source: of the run.
      notes: maxlite.json of the export.
      run: the run.
      name: of the folder that is written.
      dtype: of every tensor; empty: the type each had in the source.
    """
    text = card(source, notes, run, name, dtype)
    return dataclasses.replace(source, files={**source.files, hub.CARD: text.encode()})


def card(
    source: ModelSource, notes: Mapping[str, Any], run: RunFolder, name: str, dtype: str = ""
) -> str:
    """The text of README.md; the arguments are those of `carded`."""
    history = notes.get("history", [])
    trained = stages(history, run)
    base = notes.get("base", {})
    licences = sorted(file for file in source.files if file.startswith(LICENCES))
    matter = _front_matter(base, licences)
    parts = [
        f"---\n{matter}\n---\n",
        f"# {name}\n",
        _lead(base, trained, history),
        "## How to load it\n",
        _LOADING,
        "## What it is\n",
        _shape(source, notes, dtype),
        "## How it was made\n",
        _making(history, trained, source.architecture.lora),
        "## What it came to\n",
        _scores(trained),
        "## Licence\n",
        _licence(base, licences),
    ]
    return "\n".join(parts)


def _front_matter(base: Mapping[str, str], licences: Sequence[str]) -> str:
    from huggingface_hub import ModelCardData

    known = ("license", "license_name", "license_link")
    licence: dict[str, Any] = {key: base[key] for key in known if key in base}
    if not licence.get("license"):
        file = next((file for file in licences if file.startswith("LICENSE")), "")
        licence = {"license": "other", "license_link": file} if file else {"license": "unknown"}
    link = licence.get("license_link", "")
    if link and "://" not in link and link not in licences:
        licence["license_link"] = _link(base, link)
    data = ModelCardData(
        base_model=base["model"] if _on_hub(base) else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["maxlite"],
        **{key: value for key, value in licence.items() if value},
    )
    return str(data.to_yaml())


def _on_hub(base: Mapping[str, str]) -> bool:
    return "commit" in base


def _link(base: Mapping[str, str], file: str) -> str:
    """Where a file of the base is; "" if that is not known."""
    return f"{PAGE.format(**base)}/blob/{base['commit']}/{file}" if _on_hub(base) else ""


def _lead(
    base: Mapping[str, str], trained: Sequence[Stage], history: Sequence[Mapping[str, Any]]
) -> str:
    with_ = f"with maxlite {maxlite.__version__}"
    if _on_hub(base):
        page = PAGE.format(**base)
        return (
            f"Built on [{base['model']}]({page}), at commit"
            f" [`{base['commit'][:12]}`]({page}/tree/{base['commit']}), {with_}.\n"
        )
    if base:
        return (
            f"Built on the model of a local folder named `{base['model']}`, {with_}. Which model"
            " on the hub that was, if any, is not known here.\n"
        )
    if trained and not trained[0].arguments["model"] and history[0]["tool"] == "train":
        return f"Trained from random weights {with_}.\n"
    return f"Made {with_}. What it was built on is not known here.\n"


_LOADING = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "..."  # this folder, or its name on the hub
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)

inputs = tokenizer("...", return_tensors="pt", return_token_type_ids=False)
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=40)[0]))
```
"""


def _shape(source: ModelSource, notes: Mapping[str, Any], dtype: str) -> str:
    arch = dataclasses.replace(source.architecture, lora=Lora())
    kinds = [dtype] if dtype else sorted(set(source.dtypes.values()))
    rows = {
        "family": arch.model_type,
        "parameters": f"{count(arch):,} ({human(count(arch))})",
        "layers": f"{arch.num_hidden_layers}",
        "width, FFN channels": f"{arch.hidden_size:,}, {arch.intermediate_size:,}",
        "heads, key-value heads": f"{arch.num_attention_heads}, {arch.num_key_value_heads}",
        "vocabulary": f"{arch.vocab_size:,} rows{_vocabulary(notes)}",
        "input and output table": "one, shared" if arch.tie_word_embeddings else "one each",
        "context": f"{arch.max_position_embeddings:,} tokens",
        "stored as": ", ".join(kinds),
    }
    layers = notes.get("layers", {})
    if layers.get("sources"):
        listed = ", ".join(map(_layer, layers["sources"]))
        rows["its layers were once"] = f"layers {listed} (counted from 0) of what it was made from"
    if layers.get("inserted"):
        rows["inserted layers"] = ", ".join(map(str, layers["inserted"]))
    return _table(["", ""], [[key, value] for key, value in rows.items()])


def _layer(source: Any) -> str:
    return str(source) if isinstance(source, int) else f"{_short(source[0])}:{source[1]}"


def _vocabulary(notes: Mapping[str, Any]) -> str:
    known = notes.get("vocabulary", {})
    if "base_rows" not in known:
        return ""
    begun = {"input": known.get("input_init"), "output": known.get("output_init")}
    said = [f"{table} by `{rule}`" for table, rule in begun.items() if rule]
    new = f" (new rows began: {', '.join(said)})" if said else ""
    return f"; {known['base_rows']:,} before its last extension{new}"


def _making(history: Sequence[Mapping[str, Any]], trained: Sequence[Stage], lora: Lora) -> str:
    left, lines = list(trained), []
    for number, entry in enumerate(history, 1):
        if entry["tool"] == "train":
            lines += [f"{number}. {line}" for line in [_stage(left.pop(0))]]
            continue
        what = _STEPS.get(entry["tool"], "It was changed")
        given = [f"{key} `{_short(value)}`" for key, value in entry["arguments"].items()]
        lines.append(f"{number}. {what} (`{entry['tool']}`{': ' * bool(given)}{', '.join(given)}).")
    total = sum(stage.tokens for stage in trained)
    told = [
        f"In all {total:,} tokens ({human(total)}) in {_several(len(trained), 'stage')} of"
        " training: steps x sequences x tokens a sequence."
    ]
    if lora.rank:
        told.append(
            f"Adapters of rank {lora.rank}, which trained beside the weights, are merged into them."
        )
    gone = sum(not stage.name for stage in trained)
    if gone:
        told.append(
            f"Of {_several(gone, 'stage')} the run was not here when this was written: which share"
            " trained, on what text, and what it came to, is not known."
        )
    return "\n".join([*lines, "", *told, ""])


def _stage(stage: Stage) -> str:
    given, config = stage.arguments, stage.config
    rule = given["train"] if isinstance(given["train"], str) else "rules of its own"
    what = [f"of {stage.parameters:,} parameters {stage.trained:,} trained"]
    what[0] += f" ({stage.trained / stage.parameters:.2%})" if stage.parameters else ""
    told = [f"trained: `{rule}`" + (f"; {what[0]}" if stage.name else "")]
    size = f"{given['batch_size']} x {given['seq_len']:,} tokens"
    part = "" if given["step"] == given["steps"] else f" of {given['steps']:,}"
    told.append(f"{given['step']:,}{part} steps of {size}: {stage.tokens:,} tokens")
    rate = f"learning rate {given['learning_rate']:g}"
    if config:
        o = config["optimizer"]
        rate += f" ({o['schedule']}, warm-up {o['warmup']:g}), weight decay {o['weight_decay']:g}"
    told.append(rate)
    if config:
        frozen = config["frozen_dtype"]
        frozen = f", what is frozen in {frozen}" if frozen else ""
        told += [f"computed in {config['dtype']}{frozen}", _text(stage)]
    name = f"Stage `{stage.name}`" if stage.name else "A stage of training"
    return "\n".join([f"{name}:", *(f"   - {line}" for line in told)])


def _text(stage: Stage) -> str:
    if stage.read:
        shares = (f"{name} {share:.1%}" for name, share in stage.read.items())
        return f"text, by tokens read: {', '.join(shares)}"
    data = stage.config["data"]
    asked = [
        f"{one['name'] or PurePosixPath(one['glob']).name} {one['weight']:g}"
        for one in data["train"]
    ]
    if not asked:
        return f"text: that of the order `{_short(data['order'])}`; shares read were not measured"
    return f"text, by weight: {', '.join(asked)}; shares read were not measured"


def _scores(trained: Sequence[Stage]) -> str:
    rows = [
        [
            f"`{stage.name}`",
            name,
            "not measured" if score.before is None else f"{score.before:.4f}",
            f"{score.after:.4f}" if score.step else "not measured",
            f"{score.step:,}" if score.step else "",
        ]
        for stage in trained
        for name, score in stage.scores.items()
    ]
    silent = [stage.name for stage in trained if stage.name and not stage.scores]
    told = []
    if rows:
        told.append(
            "Bits per byte of held-out text, less being better. Before is at step 0 of the stage,"
            " after what was done to the model just before it.\n"
        )
        told.append(_table(["stage", "text", "before", "after", "at step"], rows))
    if silent:
        told.append(f"Not measured in {', '.join(f'`{name}`' for name in silent)}.\n")
    return "\n".join(told) if told else "Not measured.\n"


def _licence(base: Mapping[str, str], licences: Sequence[str]) -> str:
    beside = ", ".join(f"[{file}]({file})" for file in licences)
    told = []
    if "license" in base:
        named = base.get("license_name")
        licence = f"`{base['license']}`" + (f" ({named})" if named else "")
        told.append(f"The model card of the base names the licence {licence}.")
        link = base.get("license_link", "")
        if link and link not in licences:
            link = link if "://" in link else _link(base, link)
            told += [f"Its text: {link}"] if link else []
    elif base and licences:
        told.append("The base came without a model card that names its licence.")
    elif base:
        told.append(
            "The licence of the base is unknown: it came without a model card that names one, and"
            " without a licence file. Find it out before you pass this model on."
        )
    else:
        told.append("No licence is known.")
    if beside:
        told.append(f"Files of the base that hold for this model too: {beside}.")
    return " ".join(told) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([c.replace("|", "\\|") for c in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _short(value: Any) -> str:
    """A setting without the folders in a path, which mean nothing elsewhere."""
    return Path(value).name if isinstance(value, str) and "/" in value else str(value)


def _several(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
