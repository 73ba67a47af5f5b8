"""What trains: an ordered table of rules over parameter names, first match wins."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from maxlite.console import human
from maxlite.errors import InputError


@dataclass(frozen=True)
class Rule:
    """Parameters whose stacked name matches `pattern` entirely belong to group `name`."""

    name: str
    pattern: str
    trains: bool


SETS: dict[str, tuple[Rule, ...]] = {
    "everything": (Rule("everything", r".*", trains=True),),
}


def claim(rules: Iterable[Rule], names: Iterable[str]) -> dict[str, Rule]:
    """The rule that claims each parameter.

    Raises:
      InputError: a parameter that no rule claims, or a rule that claims none.
    """
    rules = tuple(rules)
    claimed = {}
    for name in names:
        rule = next((r for r in rules if re.fullmatch(r.pattern, name)), None)
        if rule is None:
            raise InputError(f"no rule says whether the parameter '{name}' trains")
        claimed[name] = rule
    for rule in rules:
        if rule not in claimed.values():
            raise InputError(f"the rule '{rule.name}' ({rule.pattern}) matches no parameter")
    return claimed


def split(claimed: Mapping[str, Rule]) -> tuple[list[str], list[str]]:
    """The names that train and the names that are frozen, in their order."""
    trains = [name for name, rule in claimed.items() if rule.trains]
    frozen = [name for name, rule in claimed.items() if not rule.trains]
    return trains, frozen


def table(claimed: Mapping[str, Rule], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What trains and what does not, with parameter counts, for people."""
    lines = []
    for rule in dict.fromkeys(claimed.values()):
        names = [name for name, r in claimed.items() if r == rule]
        count = sum(math.prod(shapes[name]) for name in names)
        state = "trains" if rule.trains else "frozen"
        lines.append(f"  {rule.name}: {state}, {human(count)} parameters in {len(names)} arrays")
    return "\n".join(lines)
