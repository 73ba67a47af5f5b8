"""Inheritance: a smaller model that begins as the part of a larger one that matters most.

The idea is RethinkTinyLM's (arXiv 2402.02791, 3.3), which released no code for it: some layers, in
each of them groups of heads and FFN channels of its own, and one set of residual channels for all.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf.folder import LazyModel
from maxlite.surgery import layers as lists
from maxlite.surgery import magnitude, scores, sizes, width
from maxlite.surgery.scores import KINDS, Importance
from maxlite.surgery.units import counts
from maxlite.surgery.width import Kept

DEFAULT = "l2"
CHOICES = ("ends", "importance")


@dataclass(eq=False)
class Inheritance:
    """What a smaller model takes from a larger one; weights are read only for scores of them.

    Attributes:
        model: The larger one.
        after: The shape of the smaller one.
        given: Scores that are there, for different kinds of units.
        criterion: For the other kinds, of `magnitude.CRITERIA`.
        seed: Of `random`.
        choice: Of layers: one of `CHOICES`, or a list.
        progress: Called as weights are read.
    """

    model: LazyModel
    after: Architecture
    given: Sequence[Importance]
    criterion: str
    seed: int
    choice: str | list[int]
    progress: magnitude.Progress | None = None

    @property
    def scored(self) -> dict[str, str]:
        """The kinds of units of which the best stay, and by which criterion."""
        has, wanted = counts(self.model.architecture), counts(self.after)
        by = {kind: one.criterion for one in self.given for kind in one.arrays}
        kinds = [kind for kind in KINDS if has[kind] != wanted[kind]]
        if self.choice != "importance":
            kinds = [kind for kind in kinds if kind != "layers"]
        return {kind: by.get(kind, self.criterion) for kind in kinds}

    @cached_property
    def measured(self) -> Importance:
        """The scores by `criterion`."""
        return magnitude.measure(self.model, self.criterion, self.seed, self.progress)

    def scores(self, kind: str) -> np.ndarray:
        """Those of one kind, in the shape that `Importance` tells."""
        found = [one.arrays[kind] for one in self.given if kind in one.arrays]
        return found[0] if found else self.measured.arrays[kind]

    @cached_property
    def layers(self) -> list[int]:
        """The layers that stay."""
        depth, wanted = self.model.architecture.num_hidden_layers, self.after.num_hidden_layers
        if isinstance(self.choice, list):
            return self.choice
        if "layers" in self.scored:
            return width.top(self.scores("layers"), wanted).tolist()
        return lists.ends(depth, wanted)

    @cached_property
    def kept(self) -> Kept:
        """What stays in them."""
        found = {kind: self.scores(kind) for kind in self.scored if kind != "layers"}
        return width.chosen(found, self.after, self.layers)

    def shares(self) -> dict[str, float | None]:
        """Of each scored kind, what part of the sum of scores stays; None where some are negative.

        Of what lies in layers, those of the layers that stay are summed.
        """
        found: dict[str, float | None] = {}
        for kind in self.scored:
            own, ids = self.scores(kind), getattr(self.kept, kind, np.array(self.layers))
            own = own[self.layers] if kind in ("groups", "channels") else own
            stay, total = np.take_along_axis(own, ids, -1), own.sum(dtype=np.float64)
            known = total > 0 and own.min() >= 0
            found[kind] = float(stay.sum(dtype=np.float64) / total) if known else None
        return found

    def result(self, shares: Mapping[str, float | None] | None = None) -> LazyModel:
        """The smaller model; its notes say what stays, with `shares` where they are given."""
        after = width.narrowed(self.model, self.after, self.layers, lambda: self.kept)
        record = {
            **{key: getattr(self.after, key) for key in sizes.SIZES},
            "criteria": self.scored,
            "scores_sha256": [_digest(one) for one in self.given],
        }
        return dataclasses.replace(
            after,
            metadata={
                **after.metadata,
                "inherited": [*after.metadata.get("inherited", []), record],
            },
            notes=(*after.notes, *self._told(shares or {})),
        )

    def _told(self, shares: Mapping[str, float | None]) -> list[str]:
        before, after = self.model.architecture, self.after
        runs = lists.picture([("", layer) for layer in self.layers], before.num_hidden_layers)[-1]
        texts = {
            "layers": f"{{}} of {{}} layers ({runs})",
            "groups": "{} of {} groups of heads in each layer",
            "channels": "{:,} of {:,} FFN channels in each layer",
            "residual": "{:,} of {:,} residual channels",
        }
        has, wanted, lines = counts(before), counts(after), []
        for kind, text in texts.items():
            line = text.format(wanted[kind], has[kind])
            if kind in self.scored:
                line += f" by {self.scored[kind]}"
            share = shares.get(kind)
            lines.append(line if share is None else f"{line}, {share:.1%} of their scores' sum")
        return lines


def planned(
    model: LazyModel,
    *,
    target: str = "",
    layers: str = "",
    criterion: str = "",
    scores: str = "",
    seed: int = 0,
    given: Sequence[Importance] = (),
    progress: magnitude.Progress | None = None,
    **numbers: int,
) -> Inheritance:
    """What `maxlite.transforms.Inherit` describes with the same settings.

    Args:
        model: The larger model.
        target, layers, criterion, scores, seed: As there.
        given: Scores for what files lack; of different kinds of units.
        progress: Called as weights are read.
        numbers: The sizes, `sizes.SIZES`.

    Raises:
        InputError: settings that contradict each other or do not fit the model.
    """
    arch, where = model.architecture, str(model.path)
    set_ = [key for key, size in numbers.items() if size]
    if target and set_:
        raise InputError(f"the target gives all sizes, so {', '.join(set_)} must be left out")
    if not (target or set_ or layers):
        raise InputError(
            f"there is nothing to leave out: give a target, {', '.join(sizes.SIZES)} or layers"
        )
    wanted = sizes.of_target(target, arch, where) if target else dict(numbers)
    choice = _choice(layers, arch, where)
    if isinstance(choice, list):
        depth = wanted.get("num_hidden_layers") or len(choice)
        if depth != len(choice):
            raise InputError(f"layers {layers!r} are {len(choice)}, but num_hidden_layers {depth}")
        wanted["num_hidden_layers"] = depth
    found: list[Importance] = []
    for file in [part.strip() for part in scores.split(",") if part.strip()]:
        found.append(_read(file, model, found))
    found += [one.without({kind for file in found for kind in file.arrays}) for one in given]
    if criterion not in ("", *magnitude.CRITERIA):
        raise InputError(
            f"criterion {criterion!r} is none of {', '.join(magnitude.CRITERIA)}: for another,"
            " measure importance first and give its file as scores"
        )
    if seed < 0:
        raise InputError(f"seed {seed} is negative: give 0 or more")
    after = sizes.smaller(arch, where, **wanted)
    by = criterion or ("" if found else DEFAULT)
    made = Inheritance(model, after, found, by, seed, choice, progress)
    missing = [kind for kind, by in made.scored.items() if not by]
    if missing:
        raise InputError(
            f"the scores say nothing of {' and '.join(missing)}, of which fewer shall stay: give"
            " more scores, or a criterion for these"
        )
    return made


def _choice(text: str, arch: Architecture, where: str) -> str | list[int]:
    """How layers are chosen, or which they are."""
    if not text or text in CHOICES:
        return text or CHOICES[0]
    if text.isalpha():
        raise InputError(f"layers {text!r} is neither {' nor '.join(CHOICES)}, nor a list of them")
    found = lists.parse(text, arch.num_hidden_layers)
    if found != sorted({*found}):
        raise InputError(
            f"layers {text!r} are not in ascending order, each once: to put layers of {where} in"
            " another order, use upscale_depth"
        )
    return found


def _read(file: str, model: LazyModel, before: Sequence[Importance]) -> Importance:
    found = scores.read(file)
    found.check_fits(model, file)
    twice = [kind for kind in found.arrays if any(kind in one.arrays for one in before)]
    if twice:
        raise InputError(f"{file} has scores of {twice[0]}, and so has a file before it")
    return found


def _digest(importance: Importance) -> str:
    digest = hashlib.sha256(importance.signature.encode())
    for kind, array in importance.arrays.items():
        digest.update(json.dumps([kind, array.shape]).encode() + array.tobytes())
    return digest.hexdigest()
