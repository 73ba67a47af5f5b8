"""What a step of a cleaning is: texts in; texts, or reasons to drop them, out.

A step is a dataclass whose fields are its settings, so a config lists steps as it would say them:
`steps=(Repair(), Length(min_chars=10), NearDuplicates(threshold=0.8))`. Steps are sent to other
processes and machines; what they need beyond their settings they open there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from maxlite.errors import InputError

Result = tuple[str, str]  # a text and why it is dropped; "" keeps it


@dataclass
class Step:
    """One entry of a cleaning's `steps`."""

    _open: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """How tables call it: its class in words."""
        words = "".join(f" {c.lower()}" if c.isupper() else c for c in type(self).__name__)
        return words.strip()

    def check(self) -> None:
        """Refuses settings that cannot work, and files that are not there.

        Raises:
          InputError: with the setting's name in it.
        """

    def open(self) -> None:
        """Called once in each process before the first text; what it keeps is never sent on."""

    def opened(self) -> None:
        """Opens it, unless that was done."""
        if not self._open:
            self.open()
            vars(self)["_open"] = True

    def apply(self, texts: Sequence[str]) -> list[Result]:
        """What becomes of each text.

        Args:
          texts: documents; what becomes of one never depends on the others.

        Returns:
          For each its text, changed or not, and why it is dropped ("" if it is not).
        """
        raise NotImplementedError

    def refuse(self, setting: str, why: str) -> InputError:
        """The error that says what is wrong with a setting."""
        value = getattr(self, setting)
        return InputError(f"{type(self).__name__}({setting}={value!r}): {why}")

    def within(self, setting: str, low: float, high: float) -> None:
        """Refuses a number outside a range; its bounds belong to it."""
        if not low <= getattr(self, setting) <= high:
            allowed = f"at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
            raise self.refuse(setting, f"it must be {allowed}")

    def settings(self) -> dict[str, Any]:
        """Its fields, for files that tell what was done."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


class Change(Step):
    """A step that changes texts. What it leaves nothing of is dropped as "empty"."""

    def change(self, text: str) -> str:
        """The text as it is to be."""
        raise NotImplementedError

    def apply(self, texts: Sequence[str]) -> list[Result]:
        changed = [self.change(text) for text in texts]
        return [(text, "" if text and not text.isspace() else "empty") for text in changed]


class Filter(Step):
    """A step that drops texts."""

    def reason(self, text: str) -> str:
        """Why a text is dropped, in a few words that are the same for many; "" keeps it."""
        raise NotImplementedError

    def apply(self, texts: Sequence[str]) -> list[Result]:
        return [(text, self.reason(text)) for text in texts]


class Corpuswide(Step):
    """A step that must know the whole corpus before it can say what becomes of a text.

    It is run in three passes: `sign` with each shard of the corpus, side by side; `match` on what
    all shards signed, in parts side by side; `resolve` once. The verdicts then go with the shards
    to `judge`. Whatever its result, it must not depend on how the corpus is divided into shards,
    only on the order of documents.
    """

    def match_parts(self, rows: int) -> int:
        """In how many parts `match` divides its work for so many rows of signatures."""
        return 1

    def sign(self, texts: Sequence[str]) -> np.ndarray:
        """What is remembered of texts: an array [R, ...]; R need not be the number of texts.

        Its type and its shape apart from R are always the same.
        """
        raise NotImplementedError

    def match(self, part: int, parts: int, signatures: Sequence[np.ndarray]) -> np.ndarray:
        """One part of what has to be compared.

        Args:
          part: from 0.
          parts: how many there are.
          signatures: of each shard, mapped into memory.

        Returns:
          An array of any shape.
        """
        raise NotImplementedError

    def resolve(
        self, signatures: Sequence[np.ndarray], matches: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """The verdict for each shard, from what all parts of `match` gave.

        Returns:
          An array for each shard, in their order.
        """
        raise NotImplementedError

    def judge(self, texts: Sequence[str], verdict: np.ndarray, start: int) -> list[Result]:
        """Like `apply`, for documents from number `start` on of a shard.

        Args:
          texts: the documents.
          verdict: what `resolve` gave for the shard, mapped into memory.
          start: the number of the first of them in the shard.
        """
        raise NotImplementedError
