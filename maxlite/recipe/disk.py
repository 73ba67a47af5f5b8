"""How much disk a recipe will need, at least, and whether there is so much."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from maxlite.errors import InputError
from maxlite.plan import GIB, Plan

_STATE = 12  # bytes of a parameter that trains, in a checkpoint: its value and two moments
_STORED = 2  # of a parameter in a model folder


def needed(plans: Mapping[str, Plan], folders: int = 2) -> int:
    """Bytes that stages leave behind, and need while they save.

    Text and its tokens are not counted, nor a base that runs refer to.

    Args:
      plans: the stages that are still to run.
      folders: model folders that are made beside their runs, as large as the largest stage's model.
    """
    if not plans:
        return 0
    kept = sum(
        (plan.config.checkpoint.keep + 1) * _STATE * plan.trainable for plan in plans.values()
    )
    return kept + folders * _STORED * max(plan.parameters for plan in plans.values())


def check(out: str, bytes_: int) -> None:
    """Refuses to begin what the disk has no room for.

    Raises:
      InputError: less is free where `out` is, or will be.
    """
    folder = Path(out).expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < bytes_:
        raise InputError(
            f"{out} needs at least {bytes_ / GIB:.1f} GiB for what is still to do, and {folder} has"
            f" {free / GIB:.1f} GiB left; make room, or choose another out"
        )
