"""What a later round of training keeps, by how hard it was: a table for the terminal, and a page.

Both are functions of the figures that resample writes:

    parts   from the easiest tenth to the hardest, each with "units", "kept", "share", "expected",
            the share that the settings give with many units, and "low" and "high", the losses
            between which it lies
    sources  name, share of the sequences scored, share of those kept
    level   what a unit is: "batch" or "sequence"
    units, kept, sequences   how many there were, how many are kept, and their sequences
    loss, loss_kept, deviation   mean loss of all and of what is kept, standard deviation of all

and the settings, which the page lists.
"""

from typing import Any

from maxlite.page import (
    Series,
    bars,
    code,
    document,
    facts,
    figure,
    note,
    paragraph,
    section,
    table,
    tag,
)

_SETTINGS = ("scores", "order", "model", "fraction", "temperature", "level", "batch_size", "seed")
_EVEN = 0.1  # less between the hardest and the easiest tenth is hardly a choice

Figures = dict[str, Any]


def kept_table(figures: Figures) -> str:
    """The share kept of each tenth, from the easiest to the hardest, as lines of text."""
    units = _units(figures)
    lines = [f"{'losses':<20}{units:>12}{'kept':>10}{'share':>9}{'expected':>10}"]
    for part in figures["parts"]:
        between = f"{part['low']:.4f} - {part['high']:.4f}"
        amounts = f"{part['units']:>12,}{part['kept']:>10,}"
        lines.append(f"{between:<20}{amounts}{part['share']:>9.2%}{part['expected']:>10.2%}")
    lines.append(
        f"kept {figures['kept']:,} of {figures['units']:,} {units} ({figures['sequences']:,} "
        f"sequences); mean loss {figures['loss']:.4f}, of what is kept {figures['loss_kept']:.4f}"
    )
    if len(figures["sources"]) > 1:
        told = ", ".join(
            f"{one['name']} {one['scored']:.2%} -> {one['kept']:.2%}" for one in figures["sources"]
        )
        lines.append(f"shares of the sources: {told}")
    return "\n".join(lines)


def evenness(figures: Figures) -> str:
    """What to say where losses hardly made a difference; "" where they did."""
    easy, hard = (figures["parts"][i]["expected"] for i in (0, -1))
    asked_for = figures["fraction"] == 1 or figures["temperature"] in (0, "inf")
    if hard - easy >= _EVEN or asked_for or len(figures["parts"]) == 1:
        return ""
    return (
        f"this is nearly an even draw: it keeps {hard:.1%} of the hardest tenth and {easy:.1%} of "
        f"the easiest, as losses deviate by {figures['deviation']:.3g} nats only; a lower "
        f"temperature{', or single sequences,' * (figures['level'] == 'batch')} would tell them "
        "apart"
    )


def page(figures: Figures) -> str:
    """The same as one self-contained page of HTML, with a chart and the settings."""
    units = _units(figures)
    parts = {"What was kept": _kept(figures, units), "Settings": _settings(figures)}
    shown = [(name, section(name, *body)) for name, body in parts.items()]
    lead = paragraph(
        f"Which {units} a later round of training reads, drawn by the loss of a frozen model."
    )
    foot = paragraph("Made by resample. The figures are those that --json writes.")
    return document("A second look", lead, shown, foot)


def _kept(figures: Figures, units: str) -> tuple[Any, ...]:
    parts = figures["parts"]
    names = [f"{part['low']:.3f} to {part['high']:.3f}" for part in parts]
    series = [
        Series(name, [(i, part[key]) for i, part in enumerate(parts)], colour)
        for name, key, colour in (("kept", "share", 1), ("expected", "expected", 0))
    ]
    chart = bars("Share kept by loss", names, series, "{:.1%}".format)
    rows = [
        [name, f"{part['units']:,}", f"{part['kept']:,}"]
        + [f"{part['share']:.2%}", f"{part['expected']:.2%}"]
        for name, part in zip(names, parts, strict=True)
    ]
    sources = [
        [one["name"], f"{one['scored']:.2%}", f"{one['kept']:.2%}"] for one in figures["sources"]
    ]
    share = figures["kept"] / figures["units"]
    entries = [
        (f"{units} kept", f"{figures['kept']:,}", f"of {figures['units']:,}: {share:.1%}"),
        ("loss of all", f"{figures['loss']:.4f}", "nats a token, mean over what was scored"),
        ("loss of what is kept", f"{figures['loss_kept']:.4f}", "under the same model"),
        ("deviation", f"{figures['deviation']:.4f}", f"nats, between {units}"),
    ]
    remark = evenness(figures)
    return (
        f"The {units} in ten equal parts, from the easiest to the hardest.",
        facts("The draw", entries),
        *([note(f"{remark[0].upper()}{remark[1:]}.", kind="bad")] if remark else []),
        tag("div", figure(chart, "Losses in nats a token."), class_="charts"),
        table(["Losses", units.capitalize(), "Kept", "Share", "Expected"], rows, "Share kept"),
        paragraph("Sources whose text is harder for the model get a larger share of the round."),
        table(["Source", "Of all", "Of what is kept"], sources, "Shares of the sources"),
    )


def _settings(figures: Figures) -> tuple[Any, ...]:
    said = [[name, code(str(figures[name]))] for name in (*_SETTINGS, "fingerprint")]
    return "What it takes to do the same again.", table(["Setting", "Value"], said, "Settings")


def _units(figures: Figures) -> str:
    return "batches" if figures["level"] == "batch" else "sequences"
