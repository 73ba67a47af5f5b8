"""The papers' claims: what is compared in the runs of each recipe of configs/evidence."""

from collections.abc import Callable
from functools import partial

from maxlite import flags
from maxlite.plan import plan
from maxlite.report.evidence import Arm, Figures, Table, outcomes, recovery, several, stages

WAYS = [
    Arm(f"{label}{said}", tuple(f"{name}{more}" for name in names))
    for more, said in (("", ""), ("_mixed", "; mixed"))
    for label, names in (
        ("extended, seven stages", [f"stage{number}" for number in range(1, 8)]),
        ("extended, everything at once", ["at_once"]),
        ("as it was, everything at once", ["as_it_was"]),
    )
]
KOSOLAR = [
    Arm("old input rows frozen, old output rows trained", ("frozen_trained",)),
    Arm("both frozen", ("frozen_frozen",)),
    Arm("both trained", ("trained_trained",)),
    Arm("old input rows trained, old output rows frozen", ("trained_frozen",)),
]
CHINESE_LLAMA = [
    Arm("input table, then adapters and tables", ("table", "two_stages")),
    Arm("adapters and tables at once", ("one_stage",)),
    Arm("adapters alone", ("adapters",)),
]
REDWHALE = ("tables", "odd", "even", "lora")
SOLAR = [
    Arm("as it was", ("as_it_is",)),
    Arm("DUS", ("dus",)),
    Arm("interlocked, groups", ("groups",)),
    Arm("interlocked, single layers", ("single",)),
]
PANGU = [
    Arm("random weights, whole tokenizer", ("random",)),
    Arm("+ compact tokenizer", ("compact",)),
    Arm("+ deeper shape", ("deeper",)),
    Arm("+ inherited parameters", ("inherited",)),
    Arm("+ two rounds", ("round1", "round2")),
]


def _redwhale(runs: list[Figures]) -> Table:
    """With GiB of AdamW's moments in each stage at the published size."""
    file = "--config=redwhale/{}.py"
    sizes = {name: [file.format(name)] for name in REDWHALE}
    sizes["at_once"] = [file.format("tables"), "--config.train=everything"]
    told = {"": "moments at 10.9B, GiB"}
    for name, given in sizes.items():
        told[name] = f"{plan(flags.parse(given)[0]).memory_gib['optimizer']:.1f}"
    return stages(runs, [Arm("everything at once", ("at_once",)), Arm("stage", REDWHALE)], told)


def _hooks(rows: list[Figures]) -> Table:
    head = ["weight decay", "frozen, %", "hook, %", "by arithmetic, %", "new rows meanwhile, %"]
    table = [head]
    for decay in dict.fromkeys(row["decay"] for row in rows):
        mine = [row for row in rows if row["decay"] == decay]
        cells = [several([row[key] for row in mine], 4) for key in ("ours", "peer")]
        sure = f"{mine[0]['arithmetic']:.4f}"
        moved = several([row["moved"] for row in mine], 1)
        table.append([f"{decay:g}", *cells, sure, moved])
    return table


CLAIMS: dict[str, tuple[Callable[[list[Figures]], Table], ...]] = {
    "eeve": (partial(outcomes, arms=WAYS), partial(outcomes, arms=KOSOLAR)),
    "chinese_llama": (partial(outcomes, arms=CHINESE_LLAMA),),
    "redwhale": (_redwhale,),
    "solar": (partial(recovery, arms=SOLAR, shares=(0, 0.25, 0.5, 1)),),
    "pangu": (partial(outcomes, arms=PANGU),),
    "hooks": (_hooks,),
}  # of configs/evidence, and the tables that are made of their runs
