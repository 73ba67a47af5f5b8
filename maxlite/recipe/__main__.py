"""Does the steps of a recipe: python -m maxlite.recipe --config=pangu/sweep.py --config.out=FOLDER

  --config=FILE        a recipe, found as maxlite.train finds a config
  --config.key=VALUE   sets a key of it
  --plan               shows the steps, what is done, and what training will cost; starts nothing
  --topology=NAME      with --plan: what each stage costs on a machine that need not be here, such
                       as v5e:8x8 or h100:8; several with commas (see maxlite.plan)
  --overwrite          begins steps anew whose settings have changed, and what reads their results
  --json=FILE          writes the steps and how they stand
  --help               this text, and with --config=FILE the recipe's keys

Each step is a command that can be typed by hand; it is printed before it runs, and what it says is
kept in OUT/logs. Start the same command again to go on: a step that is done is skipped, one that
was stopped goes on by itself. SIGTERM and Ctrl-C are passed on to the step that runs, and then end
the recipe with 143 or 130. OUT/recipe.json says how it stands: running, stopped, failed, finished.
"""

import sys
from collections.abc import Sequence
from typing import Any

from maxlite import console, flags, outputs
from maxlite.errors import InputError
from maxlite.recipe import fingerprints, runner, state
from maxlite.recipe.steps import Recipe, check_given, resolve, steps


def main(argv: Sequence[str]) -> int:
    if "--help" in argv or "-h" in argv:
        print(__doc__)
        if any(argument.startswith("--config") for argument in argv):
            print(f"Keys:\n{flags.describe(flags.class_of(argv, Recipe))}")
        return 0
    recipe, rest = flags.parse_as(argv, flags.class_of(argv, Recipe), resolve)
    given = _settings(rest)
    if "plan" not in given:
        check_given(recipe)
    listed = steps(recipe)
    runner.check(listed)
    inputs = fingerprints.of(recipe.inputs(), missing="plan" in given)
    status, told = 0, []
    from maxlite.plan import topology  # which brings jax
    from maxlite.recipe import disk, planned

    stands = state.State(recipe.out, inputs).stands(listed)
    if "plan" in given:
        names = [name for name in given.get("topology", "").split(",") if name]
        told = planned.show(stands, recipe.expects(), [topology.parse(name) for name in names])
    else:
        known, _ = planned.plans(stands, recipe.expects())
        disk.check(recipe.out, disk.needed(planned.ahead(stands, known)))
        status = runner.run(listed, recipe.out, "overwrite" in given, inputs)
    if "json" in given:
        told = told or _told(state.State(recipe.out).stands(listed), recipe.out)
        outputs.write_text(given["json"], outputs.json_text(told))
    return status


def _settings(rest: Sequence[str]) -> dict[str, Any]:
    """What the command line says beside the config, after what can be refused about it."""
    given: dict[str, Any] = {}
    for argument in rest:
        key, _, value = argument.removeprefix("--").partition("=")
        flag = key in ("plan", "overwrite") and not value
        if not argument.startswith("--") or not (flag or (key in ("json", "topology") and value)):
            raise InputError(f"unknown argument {argument!r}; --help lists what there is")
        given[key] = value
    if "topology" in given and "plan" not in given:
        raise InputError("--topology is for --plan; leave it out, or give --plan")
    if "json" in given:
        given["json"] = outputs.new_path("json", given["json"], "overwrite" in given)
    return given


def _told(stands: Sequence[state.Stand], out: str) -> list[dict[str, Any]]:
    """How the steps stand, and how long they took."""
    records = state.State(out).records
    return [
        {
            "name": stand.step.name,
            "command": list(stand.step.command),
            "makes": list(stand.step.makes),
            "stands": stand.stands,
            "seconds": records.get(stand.step.name, {}).get("seconds", 0.0),
        }
        for stand in stands
    ]


if __name__ == "__main__":
    console.run(main)
    sys.exit()
