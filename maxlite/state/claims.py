"""Which rule claims what: from a config's rules to the leaves of a model."""

from __future__ import annotations

import fnmatch
import itertools
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from maxlite.config import Architecture
from maxlite.console import human
from maxlite.errors import InputError, suggestion
from maxlite.model import nf4
from maxlite.model.leaves import divide, leaf
from maxlite.model.memory import moment_bytes
from maxlite.parameters import EMBEDDING, HEAD, LAYERS, shapes
from maxlite.rules import TARGETS, Rule, parsed

FROZEN = Rule("everything", trains=False, name="frozen")


@dataclass(frozen=True)
class Claims:
    """The leaves of a model, in the order of its parameters.

    Attributes:
      rules: leaf names to the rule that claims them, an index into `order`.
      order: the rules, the last one for what no other claims.
      whole: stacked names to shapes of whole parameters.
      notes: rules that lose something to an earlier one.
      begun: leaf names to the updates that their optimizer state has seen in a stage before.
    """

    rules: Mapping[str, int]
    order: tuple[Rule, ...]
    whole: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...] = ()
    begun: Mapping[str, int] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Leaf names to shapes."""
        return {name: leaf(name).shape(self.whole[leaf(name).parameter]) for name in self.rules}

    def rule(self, name: str) -> Rule:
        """The rule that claims a leaf."""
        return self.order[self.rules[name]]

    @property
    def trained(self) -> list[str]:
        """The leaves that train."""
        return [name for name in self.rules if self.rule(name).trains]

    @property
    def frozen(self) -> list[str]:
        """The leaves that do not."""
        return [name for name in self.rules if not self.rule(name).trains]


def claim(
    train: str | Sequence[Rule],
    arch: Architecture,
    inserted: Collection[int] = (),
    begun: Mapping[str, int] | None = None,
) -> Claims:
    """Applies rules to a model.

    Args:
      train: a config's `train`.
      arch: the model's shape; `base_rows` in it says which rows are new.
      inserted: layers that LLaMA-Pro's expansion has inserted.
      begun: leaves of a stage before to the updates that their optimizer state has seen, where it
        is kept; rows that differ in it become different leaves.

    Raises:
      InputError: an unknown name, a rule that selects nothing or nothing any more, rows or layers
        that the model does not have, or a tied model whose input and output rules differ.
    """
    whole = shapes(arch)
    rules = [replace(rule, name=rule.name or _describe(rule)) for rule in parsed(train)]
    tied = arch.tie_word_embeddings
    sizes = {name: shape[0] for name, shape in whole.items()}
    if tied:  # its one table is claimed twice, and both must agree
        sizes[HEAD] = sizes[EMBEDDING]
    owner = {name: np.full(size, -1) for name, size in sizes.items()}
    notes = []
    for number, rule in enumerate(rules):
        selected = _Selection(rule, arch, inserted).masks(sizes)
        if not any(mask.any() for mask in selected.values()):
            raise InputError(f"train: the rule '{rule.name}' selects nothing in this model")
        won, losers = False, set[str]()
        for name, mask in selected.items():
            free = mask & (owner[name] < 0)
            losers |= {rules[i].name for i in np.unique(owner[name][mask & ~free])}
            owner[name][free] = number
            won |= bool(free.any())
        before = ", ".join(f"'{name}'" for name in sorted(losers))
        if not won:
            raise InputError(
                f"train: all that the rule '{rule.name}' selects is claimed by {before} before it;"
                " put it first, or remove it"
            )
        if losers:
            notes.append(f"'{rule.name}' has only what {before} before it leaves")
    frozen = np.array([*(not rule.trains for rule in rules), True])  # -1, unclaimed, is the last
    for rows in owner.values():
        rows[frozen[rows]] = len(rules)
    if tied:
        _check_tied(owner, rules)
        del owner[HEAD]
    order = (*rules, FROZEN)
    seen = _seen(begun or {}, whole)
    levels = np.unique([0, *(n for rows in seen.values() for n in rows)])
    codes = {}
    for name, rows in owner.items():
        level = np.where(rows == len(rules), 0, np.searchsorted(levels, seen[name]))
        codes[name] = _spans(rows * len(levels) + level)
    divided = {name: divmod(code, len(levels)) for name, code in divide(whole, codes).items()}
    found = {name: number for name, (number, _) in divided.items()}
    if not any(order[i].trains for i in found.values()):
        raise InputError("train: nothing trains; name something that does")
    counts = {name: int(levels[level]) for name, (_, level) in divided.items() if level}
    return Claims(found, order, whole, tuple(notes), counts)


def _seen(begun: Mapping[str, int], whole: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """For each row of each parameter the updates that its optimizer state has seen."""
    seen = {name: np.zeros(shape[0], np.int64) for name, shape in whole.items()}
    for name, count in begun.items():
        own = leaf(name)
        if own.parameter in seen:
            seen[own.parameter][list(own.taken(whole[own.parameter]))] = count
    return seen


def _describe(rule: Rule) -> str:
    rows = f"rows {rule.rows}" if rule.rows[:1].isdecimal() else rule.rows
    return " ".join(filter(None, (rule.select, rows, rule.layers)))


@dataclass(frozen=True)
class _Selection:
    """What one rule selects."""

    rule: Rule
    arch: Architecture
    inserted: Collection[int]

    def masks(self, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
        """For each parameter of which it selects something, which rows of axis 0."""
        patterns = [self._pattern(term.strip()) for term in self.rule.select.split(",")]
        named = [n for n in sizes if any(fnmatch.fnmatchcase(n, pattern) for pattern in patterns)]
        return {name: self._mask(name, sizes[name]) for name in named}

    def _pattern(self, term: str) -> str:
        if term in TARGETS:
            return TARGETS[term]
        if "." in term or "*" in term:
            return term
        raise InputError(
            f"train: there is no target '{term}' for the rule '{self.rule.name}'; "
            f"{suggestion(term, TARGETS)}"
        )

    def _mask(self, name: str, size: int) -> np.ndarray:
        rows, layers = self.rule.rows, self.rule.layers
        mask = np.ones(size, bool)
        if rows:
            mask &= self._rows(rows, size) if name in (EMBEDDING, HEAD) else False
        if layers:
            mask &= self._layers(layers, size) if name.startswith(LAYERS) else False
        return mask

    def _rows(self, text: str, size: int) -> np.ndarray:
        if text not in ("old", "new"):
            return self._numbers(text, size, "rows")
        base = self.arch.base_rows
        if not base:
            raise InputError(
                f"train: the rule '{self.rule.name}' needs to know which rows are new, but the"
                " model's maxlite.json tells of no extension; give the rows as numbers, such as"
                f" rows='32000-', or extend the vocabulary first"
            )
        return (np.arange(size) >= base) == (text == "new")

    def _layers(self, text: str, size: int) -> np.ndarray:
        if text == "inserted":
            if not self.inserted and self.arch.inserted_layers:
                return self._numbers(self.arch.inserted_layers, size, "layers")
            if not self.inserted:
                raise InputError(
                    f"train: the rule '{self.rule.name}' is for inserted layers, but the model's"
                    " maxlite.json tells of none; upscale_depth --method=llama_pro inserts them"
                )
            return np.isin(np.arange(size), list(self.inserted))
        match = re.fullmatch(r"(odd|even)(?: from ([01]))?", text)
        if not match:
            return self._numbers(text, size, "layers")
        counted = np.arange(size) + int(match[2] or 0)
        return counted % 2 == (match[1] == "odd")

    def _numbers(self, text: str, size: int, what: str) -> np.ndarray:
        mask = np.zeros(size, bool)
        for part in text.split(","):
            match = re.fullmatch(r"\s*(\d+)\s*(-)?\s*(\d+)?\s*", part)
            if not match or (match[3] and not match[2]):
                raise InputError(
                    f"train: {what} {text!r} of the rule '{self.rule.name}' has"
                    f" {part.strip()!r}; write numbers and ranges such as 0-7,24-"
                )
            first = int(match[1])
            last = int(match[3]) if match[3] else size - 1 if match[2] else first
            if not first <= last < size:
                raise InputError(
                    f"train: {what} {text!r} of the rule '{self.rule.name}' goes to"
                    f" {max(first, last)}, but the model has {what} 0 to {size - 1}"
                )
            mask[first : last + 1] = True
        return mask


def _check_tied(owner: Mapping[str, np.ndarray], rules: Sequence[Rule]) -> None:
    """Refuses rules that would train a tied table as input and not as output, or differently."""
    one, other = owner[EMBEDDING], owner[HEAD]
    names = [*(rule.name for rule in rules), FROZEN.name]
    same = [
        a == b or _settings(rules, a) == _settings(rules, b)
        for a, b in zip(one, other, strict=True)
    ]
    if not all(same):
        at = same.index(False)
        raise InputError(
            f"train: the model is tied, so one rule must hold for its table as input and as output,"
            f" but row {at} is '{names[one[at]]}' and '{names[other[at]]}'; untie the model first"
            " (init=(Untie(),)), or use a set for both"
        )


def _settings(rules: Sequence[Rule], number: int) -> tuple[float, ...] | None:
    """How a rule trains; None if it does not."""
    if number == len(rules):
        return None
    rule = rules[number]
    return (rule.learning_rate, rule.weight_decay, rule.beta1, rule.beta2)


def _spans(rows: np.ndarray) -> list[tuple[int, int, int]]:
    """Runs of equal numbers as (start, stop, number)."""
    edges = [0, *(np.flatnonzero(np.diff(rows)) + 1).tolist(), len(rows)]
    return [(a, b, int(rows[a])) for a, b in itertools.pairwise(edges)]


def dtypes(claims: Claims, stored: Mapping[str, Any], frozen_dtype: str) -> dict[str, np.dtype]:
    """The dtype of every leaf on the devices: float32 for what trains.

    Args:
      claims: of a model.
      stored: leaf names to the dtypes they are stored in, which what is frozen keeps.
      frozen_dtype: another for it; "nf4" is for projections alone.
    """
    kinds = {name: np.dtype(stored[name]) for name in claims.rules}
    for name in claims.frozen:
        if frozen_dtype == nf4.NAME:
            fits = _projection(name) and claims.shapes[name][-1] % 2 == 0
            kinds[name] = nf4.CODES if fits else kinds[name]
        elif frozen_dtype:
            kinds[name] = jnp.dtype(frozen_dtype)
    return kinds | dict.fromkeys(claims.trained, np.dtype(np.float32))


def _projection(name: str) -> bool:
    own = leaf(name).parameter
    return own.startswith(LAYERS) and own.endswith("_proj.weight")


def table(claims: Claims, dtypes: Mapping[str, np.dtype], bfloat16: str = "") -> str:
    """What trains and what does not, for people: parameters, bytes, and optimizer state.

    Args:
      claims: of a model.
      dtypes: leaf names to the dtype on the devices.
      bfloat16: as in the config's `optimizer`.
    """
    sizes = {name: math.prod(shape) for name, shape in claims.shapes.items()}
    total = sum(sizes.values())
    lines = []
    for number, rule in enumerate(claims.order):
        mine = [name for name, at in claims.rules.items() if at == number]
        if not mine:
            continue
        count = sum(sizes[name] for name in mine)
        held = sum(nf4.nbytes(claims.shapes[name], dtypes[name]) for name in mine)
        state = "trains" if rule.trains else "frozen"
        line = f"  {rule.name}: {state}, {human(count)} parameters ({count / total:.2%}),"
        line += f" {held / 2**30:.2f} GiB"
        if rule.trains:
            moments = sum(sizes[name] * moment_bytes(name, bfloat16) for name in mine)
            line += f" and {moments / 2**30:.2f} GiB of optimizer state"
            line += f", learning rate x {rule.learning_rate:g}" if rule.learning_rate != 1 else ""
        lines.append(line)
    return "\n".join([*lines, *(f"  {note}" for note in claims.notes)])
