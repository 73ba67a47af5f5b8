"""Losses of an order's sequences under one frozen model: what a later round is drawn by.

A folder, in which N sequences are in the order's order:

losses.json   of which order, model and settings
nll.npy       summed negative log-likelihood of each sequence in nats, float32 [N]
weights.npy   how many of its targets count, float32 [N]

Sums and not means, so that the mean of a batch is that of its tokens.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maxlite.data.orders import OrderFile
from maxlite.errors import InputError

FORMAT = 1
FILE = "losses.json"
ARRAYS = ("nll", "weights")


@dataclass(frozen=True)
class Scored:
    """What losses are of, so that none of another kind come among them.

    Attributes:
      order: fingerprint of the order's file.
      model: signature of its weights.
      dtype: of the computation.
      steps, batch_size: of the order; the first steps times batch size sequences are scored.
    """

    order: str
    model: str
    dtype: str
    steps: int
    batch_size: int

    @property
    def sequences(self) -> int:
        """How many are scored."""
        return self.steps * self.batch_size

    def other(self, said: dict[str, Any]) -> str:
        """In what another one differs, for people; "" if in nothing."""
        mine = dataclasses.asdict(self)
        return ", ".join(key for key in mine if said.get(key) != mine[key])


@dataclass(frozen=True)
class Losses:
    """Losses of sequences.

    Attributes:
      of: which.
      model: where the model was, for people.
      nll, weights: as described at the top of this module.
    """

    of: Scored
    model: str
    nll: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)

    def means(self, size: int = 1) -> np.ndarray:
        """The loss a token of each `size` sequences that follow each other.

        Args:
          size: sequences; 1 for the loss of each.

        Returns:
          float64 [N / size], in nats; 0 where no target counts.

        Raises:
          InputError: the sequences do not divide into so many.
        """
        if len(self.nll) % size:
            raise InputError(
                f"{len(self.nll):,} sequences do not divide into batches of {size}; they were "
                f"scored with a batch_size of {self.of.batch_size}"
            )
        nll, weights = (
            x.astype(np.float64).reshape(-1, size).sum(axis=1) for x in (self.nll, self.weights)
        )
        return nll / np.maximum(weights, 1)

    def check(self, order: OrderFile, where: str, model: str = "") -> None:
        """Refuses losses of another order or model.

        Args:
          order: what they shall be used for.
          where: their folder, for messages.
          model: signature of the model that they should be of; "" for any.

        Raises:
          InputError: they are of something else.
        """
        if self.of.order != order.fingerprint:
            raise InputError(
                f"the scores in {where} are of another order (fingerprint {self.of.order[:12]}, "
                f"not {order.fingerprint[:12]}); name the order that was scored, or score this one"
            )
        if model and self.of.model != model:
            raise InputError(
                f"the scores in {where} are of another model ({self.model}, signature "
                f"{self.of.model[:12]}, not {model[:12]}); score the order with this one"
            )


def read_losses(path: str | Path) -> Losses:
    """Reads a folder of losses.

    Raises:
      InputError: there is none, it is not complete yet, or it is damaged.
    """
    path = Path(path).expanduser()
    if not (path / FILE).is_file():
        if (work := path.with_name(f"{path.name}.work")).is_dir():
            raise InputError(
                f"the scores in {path} are not complete, what there is of them is in {work}; run "
                "score_batches for all parts"
            )
        raise InputError(f"{path} holds no scores: there is no {FILE} in it")
    damaged = f"the scores in {path} are damaged; restore them from a copy, or score again"
    try:
        said = json.loads((path / FILE).read_bytes())
        if said["format"] != FORMAT:
            raise InputError(
                f"the scores in {path} are of format {said['format']}, where this maxlite has "
                f"{FORMAT}; use the one that made them"
            )
        of = Scored(**said["of"])
        arrays = [np.load(path / f"{name}.npy") for name in ARRAYS]
        whole_ = content(arrays) == said["content"] and len(arrays[0]) == of.sequences
        model = str(said["model"])
    except (OSError, KeyError, TypeError, ValueError, EOFError) as e:
        raise InputError(f"{damaged} ({e!r})") from None
    if not whole_:
        raise InputError(damaged)
    return Losses(of, model, *arrays)


def content(arrays: Iterable[np.ndarray]) -> str:
    """A hash (hex) of the two arrays, float32 [sequences] each."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, "<f4").data)
    return digest.hexdigest()
