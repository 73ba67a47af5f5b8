"""A run at step 0 from a model folder: it stands alone, and everything takes it as a model."""

from __future__ import annotations

import math
from typing import Any

import jax

from maxlite import outputs
from maxlite.state import checkpoint, run
from maxlite.state import mesh as mesh_lib
from maxlite.state.ready import widest_mesh
from maxlite.state.source import ModelSource
from maxlite.storage import Place


def import_model(source: ModelSource, out: Place, overwrite: bool = False) -> dict[str, Any]:
    """Writes a finished run that holds the model as it is stored, bit for bit.

    Args:
      source: an opened model folder.
      out: the run folder; must not exist unless `overwrite`.
      overwrite: replace a run that is there.

    Returns:
      {"parameters", "bytes"}.

    Raises:
      InputError: the folder is taken, the weights hold NaN or infinity, or the disk is full.
    """
    if not (overwrite and run.is_run(out)):
        run.check_free(out)
    mesh = widest_mesh(source)
    dtypes = source.stored_dtypes()
    params = source.load(mesh_lib.shardings(mesh, source.shapes), dtypes)
    with outputs.new_folder(out, overwrite, run.RUN) as folder:
        description = {"kind": "import", "config": {}, "source": dict(source.told)}
        made = run.furnish(folder, description, source.carried, source.dtypes)
        with jax.set_mesh(mesh):
            saver = checkpoint.Checkpoints(made.checkpoints, keep=1, keep_every=0)
            try:
                saver.save(0, params, {}, {"step": 0})
            finally:
                saver.close()
        made.set_status(status="finished", step=0, steps=0, checkpoint=0, message="")
    return {
        "parameters": sum(math.prod(x.shape) for x in params.values()),
        "bytes": sum(x.nbytes for x in params.values()),
    }
