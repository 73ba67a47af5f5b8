"""The page of tools.report: a function of the figures that --json writes."""

import shlex
from collections.abc import Sequence
from typing import Any

from maxlite.console import human
from maxlite.page import (
    Html,
    code,
    document,
    facts,
    fold,
    listing,
    note,
    paragraph,
    section,
    table,
    tag,
)
from maxlite.report.corpus import duration, share
from maxlite.report.corpus import funnel as cleaning
from maxlite.report.stages import settings
from maxlite.report.story_model import costs, rows, samples, scores
from maxlite.report.story_training import cost, curves, mixture, several, trained

Figures = dict[str, Any]


def page(figures: Figures) -> str:
    """HTML of what `maxlite.report.story` gives, and perhaps "price", of an hour."""
    parts = {
        "Summary": _summary,
        "What trained when": trained,
        "Loss and bits per byte": curves,
        "Before and after": scores,
        "New rows beside old ones": rows,
        "What it writes": samples,
        "The corpus": _corpus,
        "The mixture": mixture,
        "Speed, memory and cost": cost,
        "Settings": _settings,
        "To do it again": _again,
    }
    shown = [(name, section(name, *body)) for name, of in parts.items() if (body := of(figures))]
    stages = figures["stages"]
    lead = paragraph(
        f"A model in {several(stages)} of training, read from the {figures['kind']} in ",
        code(figures["path"]),
        f"; {figures['status']}; made with maxlite {figures['version']}.",
    )
    foot = paragraph("Made by tools.report. The figures are those that --json writes.")
    return document(f"Report: {figures['name']}", lead, shown, foot)


def _summary(figures: Figures) -> Sequence[Any]:
    stages = figures["stages"]
    entries: list[tuple[Any, Any, Any]] = []
    for name, (first, last) in _ends(figures).items():
        change = f": {last / first - 1:+.1%}" if first else ""
        entries.append((f"bits per byte, {name}", f"{last:.3f}", f"from {first:.3f}{change}"))
    known = costs(figures)
    if known:
        name, before, after = max(known, key=lambda one: abs(1 - one[2] / one[1]))
        said = f"from {before:.3f}: ×{after / before:.2f}"
        entries.append((f"tokens a character, {name}", f"{after:.3f}", said))
    tokens = sum(stage["tokens"] for stage in stages)
    entries.append(("tokens trained on", human(tokens), f"in {several(stages)}"))
    most = max(stage["trained"] / stage["parameters"] for stage in stages)
    beside = sum(g["parameters"] for g in stages[-1]["groups"] if g["group"] == "adapters")
    said = f"at most {share(most)} trained in one stage" if stages[1:] else f"{share(most)} trained"
    said += f"; {human(beside)} more in adapters" if beside else ""
    entries.append(("parameters", human(stages[-1]["parameters"] - beside), said))
    seconds = sum(stage["seconds"] for stage in stages)
    price = figures.get("price", 0)
    said = "of training alone"
    if price:
        said += f"; {seconds / 3600 * price:,.2f} at {price:g} an hour"
    entries.append(("time", duration(seconds), said))
    lead = "What changed, and at which cost. Of bits and of tokens less is better."
    return lead, facts(figures["name"], entries), *_remarks(figures)


def _remarks(figures: Figures) -> list[Html]:
    """What a reader must know before trusting the rest."""
    told = []
    if figures["status"] != "finished":
        told.append(f"The {figures['kind']} is {figures['status']}: this is how it stands.")
    told += [
        f"{stage['name']} is {stage['status']} at step {stage['step']:,} of {stage['steps']:,}."
        for stage in figures["stages"]
        if stage["status"] != "finished"
    ]
    others = figures["others"]
    if isinstance(others, int) and others > 0:
        told.append(f"The model was trained {others} times before, in runs that are not here.")
    elif others:
        told.append(f"Stages beside these, which do not lead to the model: {', '.join(others)}.")
    return [note(said, kind="bad") for said in told]


def _ends(figures: Figures) -> dict[str, tuple[float, float]]:
    """Bits per byte of each text before all training and after it."""
    found = figures["evaluations"]
    if len(found) > 1:
        first, last = ({t["name"]: t["bits_per_byte"] for t in e["texts"]}
                       for e in (found[0], found[-1]))  # fmt: skip
        return {name: (first[name], last[name]) for name in first if name in last}
    logged: dict[str, list[float]] = {}
    for stage in figures["stages"]:
        for name in stage["evaluation"]:
            logged.setdefault(name, []).extend(bits for _, bits in stage["curves"][name])
    return {name: (bits[0], bits[-1]) for name, bits in logged.items() if len(bits) > 1}


def _corpus(figures: Figures) -> Sequence[Any]:
    found = [(one["name"], cleaning(one["figures"])) for one in figures["funnels"]]
    shown = [(name, parts) for name, parts in found if parts]
    if not shown:
        return ()
    lead, *_ = shown[0][1]
    parts: list[Any] = []
    for name, (_, *more) in shown:
        parts += [tag("h3", name)] if len(shown) > 1 else []
        parts += more
    return lead, *parts


def _settings(figures: Figures) -> Sequence[Any]:
    stages = figures["stages"]
    same, different = settings(stages)
    parts = []
    if different:
        rows = [[key, *map(code, values)] for key, values in different.items()]
        told = table(["Setting", *(s["name"] for s in stages)], rows, "Settings that differ")
        parts.append(fold(f"{len(different)} that differ between stages", told))
    rows = [[key, code(value)] for key, value in same.items()]
    told = table(["Setting", "Value"], rows, "Settings of all stages")
    parts.append(fold(f"{len(same)} {'that all stages share' if different else 'in all'}", told))
    return "Every setting that says what was computed.", *parts


def _again(figures: Figures) -> Sequence[Any]:
    parts: list[Html] = []
    if figures["steps"]:
        listed = "\n".join(_typed(step["command"]) for step in figures["steps"])
        parts.append(fold("The commands, in order", listing(listed)))
    if figures["config"]:
        told = "The last stage: python -m maxlite.train --config=FILE, where FILE is"
        parts.append(fold(told, listing(figures["config"])))
    rows = [
        [what, code(fingerprint)]
        for stage in figures["stages"]
        for what, fingerprint in (
            (f"{stage['name']}: what it read, in which order", stage["order"]),
            (f"{stage['name']}: the training", stage["signature"]),
        )
    ]
    rows += [[f"input {name}", code(of)] for name, of in figures["inputs"].items()]
    rows += [
        [key.removesuffix("_sha256").replace("_", " "), code(of)]
        for key, of in figures["vocabulary"].items()
        if key.endswith("_sha256")
    ]
    told = table(["Of", "Fingerprint"], rows, "Fingerprints")
    parts.append(fold(f"{len(rows)} fingerprints", told))
    return "The same commands on the same input give the same fingerprints.", *parts


def _typed(command: str) -> str:
    """A command with a line for each flag."""
    words = list(map(shlex.quote, shlex.split(command)))
    first = next((i for i, word in enumerate(words) if word.startswith(("--", "'--"))), len(words))
    return " \\\n  ".join([" ".join(words[:first]), *words[first:]])
