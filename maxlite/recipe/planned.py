"""What a recipe will do and cost, before anything of it runs."""

from collections.abc import Sequence
from typing import Any

from maxlite import flags
from maxlite.console import human, sentence
from maxlite.errors import InputError
from maxlite.plan import Plan, plan, total
from maxlite.recipe.state import DONE, Stand
from maxlite.recipe.steps import TRAIN


def show(stands: Sequence[Stand]) -> list[dict[str, Any]]:
    """Prints each step, how it stands, and for a stage of training what it will cost.

    Nothing is written and no device is used.

    Returns:
      For JSON: of each step its name, command, what it makes, how it stands and its plan, if any.
    """
    plans: list[Plan] = []
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
        if step.module == TRAIN:
            try:
                found = plan(flags.parse(step.arguments)[0])
            except (InputError, OSError) as e:  # its model may be what an earlier step will make
                print(f"   what it costs is not known yet: {sentence(e)}")
            else:
                plans.append(found)
                told["plan"] = found.figures()
                print(f"   {_line(found)}")
        figures.append(told)
    done = sum(stand.stands == DONE for stand in stands)
    print(f"{len(stands)} steps, {done} of them done")
    if len(plans) > 1:
        print(f"training: {total(plans)}")
    return figures


def _line(found: Plan) -> str:
    return (
        f"{found.parameters:,} parameters, {found.trainable / found.parameters:.2%} of them train;"
        f" about {found.memory_gib['total']:.2f} GiB; {human(found.flops_per_token)} FLOPs a token,"
        f" {human(found.tokens)} tokens, {found.flops_per_token * found.tokens:.3g} FLOPs"
    )
