"""The papers' claims: what is compared in the runs of each recipe of configs/evidence."""

from collections.abc import Callable

from maxlite import flags
from maxlite.plan import plan
from maxlite.report.evidence import Arm, Figures, Table, outcomes, recovery, several, stages

STAGES = tuple(f"stage{number}" for number in range(1, 8))
REDWHALE = ("tables", "odd", "even", "lora")
PUBLISHED = {name: f"--config=redwhale/{name}.py" for name in REDWHALE}


def _optimizer() -> dict[str, str]:
    """GiB of AdamW's moments in each stage of RedWhale at the published size."""
    told = {"": "moments at 10.9B, GiB"}
    for name, file in PUBLISHED.items():
        told[name] = f"{plan(flags.parse([file])[0]).memory_gib['optimizer']:.1f}"
    whole = flags.parse([PUBLISHED["tables"], "--config.train=everything"])[0]
    return told | {"at_once": f"{plan(whole).memory_gib['optimizer']:.1f}"}


def _ways(runs: list[Figures]) -> Table:
    arms = []
    for more, said in (("", ""), ("_mixed", "; mixed")):
        arms += [
            Arm(f"extended, seven stages{said}", tuple(f"{stage}{more}" for stage in STAGES)),
            Arm(f"extended, everything at once{said}", (f"at_once{more}",)),
            Arm(f"as it was, everything at once{said}", (f"as_it_was{more}",)),
        ]
    return outcomes(runs, arms)


def _kosolar(runs: list[Figures]) -> Table:
    return outcomes(
        runs,
        [
            Arm("old input rows frozen, old output rows trained", ("frozen_trained",)),
            Arm("both frozen", ("frozen_frozen",)),
            Arm("both trained", ("trained_trained",)),
            Arm("old input rows trained, old output rows frozen", ("trained_frozen",)),
        ],
    )


def _chinese_llama(runs: list[Figures]) -> Table:
    return outcomes(
        runs,
        [
            Arm("input table, then adapters and tables", ("table", "two_stages")),
            Arm("adapters and tables at once", ("one_stage",)),
            Arm("adapters alone", ("adapters",)),
        ],
    )


def _redwhale(runs: list[Figures]) -> Table:
    arms = [Arm("everything at once", ("at_once",)), Arm("stage", REDWHALE)]
    return stages(runs, arms, _optimizer())


def _solar(runs: list[Figures]) -> Table:
    arms = [
        Arm("as it was", ("as_it_is",)),
        Arm("DUS", ("dus",)),
        Arm("interlocked, groups", ("groups",)),
        Arm("interlocked, single layers", ("single",)),
    ]
    return recovery(runs, arms, (0, 0.25, 0.5, 1))


def _pangu(runs: list[Figures]) -> Table:
    return outcomes(
        runs,
        [
            Arm("random weights, whole tokenizer", ("random",)),
            Arm("+ compact tokenizer", ("compact",)),
            Arm("+ deeper shape", ("deeper",)),
            Arm("+ inherited parameters", ("inherited",)),
            Arm("+ two rounds", ("round1", "round2")),
        ],
    )


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
    "eeve": (_ways, _kosolar),
    "chinese_llama": (_chinese_llama,),
    "redwhale": (_redwhale,),
    "solar": (_solar,),
    "pangu": (_pangu,),
    "hooks": (_hooks,),
}  # of configs/evidence, and the tables that are made of their runs
