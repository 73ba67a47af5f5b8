"""What a recipe will do and cost, before anything of it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from maxlite import flags
from maxlite.config import Architecture
from maxlite.console import human, sentence
from maxlite.errors import InputError
from maxlite.plan import GIB, Plan, estimates, plan, table, total
from maxlite.plan.estimate import Estimate
from maxlite.plan.topology import Topology
from maxlite.recipe import disk
from maxlite.recipe.state import DONE, Stand
from maxlite.recipe.steps import EXPORT, TRAIN, Step
from maxlite.transforms import Lora


def plans(
    stands: Sequence[Stand], expected: Mapping[str, Architecture] | None = None
) -> tuple[dict[str, Plan], dict[str, str]]:
    """Plans the stages of training.

    Args:
      stands: the steps of the recipe.
      expected: shapes of models that are not made yet, by folder.

    Returns:
      By the names of steps their plans, and of those that cannot be planned yet why not.
    """
    shapes = dict(expected or {})
    found: dict[str, Plan] = {}
    unknown: dict[str, str] = {}
    for step in (stand.step for stand in stands):
        if step.module == EXPORT:
            given = flags.taken(step.arguments, ("run", "out"))[0]
            if given.keys() >= {"run", "out"} and given["run"] in shapes:
                shapes[given["out"]] = shapes[given["run"]]
        if step.module != TRAIN:
            continue
        try:
            found[step.name] = _planned(step, shapes)
        except (InputError, OSError) as e:  # its model may be what an earlier step will make
            unknown[step.name] = sentence(e)
    return found, unknown


def show(
    stands: Sequence[Stand],
    expected: Mapping[str, Architecture] | None = None,
    machines: Sequence[Topology] = (),
) -> list[dict[str, Any]]:
    """Prints each step, how it stands, and for a stage of training what it will cost.

    Nothing is written and no device is used.

    Args:
      stands: the steps.
      expected: shapes of models that are not made yet, by folder.
      machines: on which to estimate the stages, too.

    Returns:
      For JSON: of each step its name, command, what it makes, how it stands and its plan, if any.
    """
    known, unknown = plans(stands, expected)
    figures = []
    for number, stand in enumerate(stands, 1):
        step = stand.step
        print(f"{number}. {step.name}: {stand.stands}\n   $ {step.line}")
        if stand.difference:
            print(f"   {stand.difference}")
        told: dict[str, Any] = {
            "name": step.name,
            "command": list(step.command),
            "makes": list(step.makes),
            "stands": stand.stands,
        }
        if step.name in known:
            told["plan"] = known[step.name].figures()
            print(f"   {_line(known[step.name])}")
        elif step.name in unknown:
            print(f"   what it costs is not known yet: {unknown[step.name]}")
        figures.append(told)
    done = sum(stand.stands == DONE for stand in stands)
    print(f"{len(stands)} steps, {done} of them done")
    if len(known) > 1:
        print(f"training: {total(list(known.values()))}")
    if room := disk.needed(ahead(stands, known)):
        print(f"disk: at least {room / GIB:.1f} GiB for what is still to do")
    estimates.check(known.values(), machines)
    costs: dict[str, list[Estimate]] = {}
    for name, estimate in estimates.made(known, machines):
        costs.setdefault(name, []).append(estimate)
    for told in figures:
        if told["name"] in costs:
            told["plan"]["topology"] = [one.figures() for one in costs[told["name"]]]
    if costs:
        print(table.text(costs))
    return figures


def ahead(stands: Sequence[Stand], known: Mapping[str, Plan]) -> dict[str, Plan]:
    """The plans of stages that are not done."""
    names = [stand.step.name for stand in stands if stand.stands != DONE]
    return {name: known[name] for name in names if name in known}


def _planned(step: Step, shapes: dict[str, Architecture]) -> Plan:
    """The plan of a stage, whose run's shape is then known to those that go on from it."""
    config = flags.parse(step.arguments)[0]
    if config.model in shapes:
        config.architecture = shapes[config.model]
    found = plan(config)
    shapes[config.out] = replace(found.architecture, lora=Lora())
    return found


def _line(found: Plan) -> str:
    return (
        f"{found.parameters:,} parameters, {found.trainable / found.parameters:.2%} of them train;"
        f" about {found.memory_gib['total']:.2f} GiB; {human(found.flops_per_token)} FLOPs a token,"
        f" {human(found.tokens)} tokens, {found.flops_per_token * found.tokens:.3g} FLOPs"
    )
