"""The loss of every sequence of an order under one frozen model.

Compiled once; the devices are never waited for but at the end of a chunk. A sequence shares a batch
with others but its loss depends on itself alone, so it is the same whoever computes which chunks.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from maxlite.data.corpus import Corpus
from maxlite.data.loader import Groups, ahead
from maxlite.data.losses_work import Work
from maxlite.model.loss import row_losses
from maxlite.state import batch as batch_lib
from maxlite.state import mesh as mesh_lib
from maxlite.state.ready import Ready

_WAITING = 3  # batches on the devices at a time: enough to keep them busy


def score(
    ready: Ready,
    corpus: Corpus,
    work: Work,
    rows: int = 8,
    part: int = -1,
    parts: int = 1,
    overwrite: bool = False,
) -> bool:
    """Computes what is missing of the losses, and makes their folder if nothing is then.

    All processes of the job call it; the first writes. A progress bar with an ETA is on stderr.

    Args:
      ready: the model, over all devices of the job.
      corpus: the order and its views.
      work: what to compute.
      rows: sequences at a time, for each device.
      part, parts: compute one of so many equal parts; -1: all of them.
      overwrite: remove work on other losses, and replace what is at the place of the folder.

    Returns:
      Whether the losses are complete.

    Raises:
      InputError: something else is in the way.
    """
    first = jax.process_index() == 0
    if not overwrite:  # by all processes, or the others would wait for the one that refuses
        work.check()
    if first:
        work.begin(overwrite)
    todo = _agreed(work, part, parts)
    if len(todo):
        spans = [work.span(chunk) for chunk in todo.tolist()]
        total = sum(stop - start for start, stop in spans)
        done = work.of.sequences - total if part < 0 else 0
        bar = tqdm(
            total=total + done, initial=done, desc="scoring", unit=" sequences", unit_scale=True,
            delay=1, disable=not first,
        )  # fmt: skip
        computed = _losses(ready, corpus, work, todo, rows)
        with bar, ready.on_mesh(), contextlib.closing(computed):
            held = np.zeros((2, 0), np.float32)
            for values in computed:
                bar.update(values.shape[1])
                held = np.concatenate([held, values], axis=1)
                while spans and held.shape[1] >= (size := spans[0][1] - spans[0][0]):
                    if first:
                        work.write(spans[0][0] // work.size, held[:, :size])
                    held = held[:, size:]
                    spans.pop(0)
    complete = work.join(overwrite) if first else False
    return bool(multihost_utils.broadcast_one_to_all(np.asarray([complete]))[0])


def _agreed(work: Work, part: int, parts: int) -> np.ndarray:
    """The chunks to compute, as the first process finds them; int64, ascending."""
    missing = np.zeros(work.count, bool)
    if jax.process_index() == 0:
        missing[work.todo(part, parts)] = True
    return np.flatnonzero(multihost_utils.broadcast_one_to_all(missing))


def _losses(
    ready: Ready, corpus: Corpus, work: Work, todo: np.ndarray, rows: int
) -> Generator[np.ndarray]:
    """Yields sums and weights of the sequences of some chunks, in order; float32 [2, some]."""
    shape = (1, rows * ready.mesh.size, corpus.order.seq_len)
    sharding = mesh_lib.batch_sharding(ready.mesh)
    needed = batch_lib.rows_needed(sharding, shape)
    start, stop = work.span(int(todo[-1]))  # the last alone may be shorter
    total = (len(todo) - 1) * work.size + stop - start

    def numbers(group: int) -> np.ndarray:
        place = np.minimum(group * shape[1] + needed, total - 1)
        return todo[place // work.size] * work.size + place % work.size

    def sums(params: dict[str, jax.Array], batch: dict[str, jax.Array]) -> jax.Array:
        one = jax.tree.map(lambda x: x[0], batch)
        return jnp.stack(row_losses(ready.bind(params, {}), one))

    run = jax.jit(sums, out_shardings=mesh_lib.replicated(ready.mesh))
    waiting: deque[jax.Array] = deque()
    left = total
    for local in ahead(Groups(corpus, -(-total // shape[1]), numbers)):
        batch = batch_lib.to_devices(local, needed, sharding, shape)
        waiting.append(run(ready.params, batch))
        if len(waiting) > _WAITING:
            yield np.asarray(waiting.popleft())[:, :left]
            left -= shape[1]
    for values in waiting:
        yield np.asarray(values)[:, :left]
        left -= shape[1]
