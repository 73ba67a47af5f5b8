"""What a long refinement leaves in a folder, so that it can go on after an interruption."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maxlite import outputs
from maxlite.errors import InputError
from maxlite.tokenizer.refining import State

_KIND, _FORMAT, _FILE = "refinement of a vocabulary", 1, "state.json"


class Work:
    """A folder of work that is under way, made when there is something to save.

    Attributes:
      folder: its place.
      settings: all that the outcome depends on, by the flags that say it; as JSON can write it.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]):
        self.folder = folder
        self.settings = json.loads(json.dumps(settings))

    def load(self, anew: bool = False) -> State | None:
        """The state saved last, None if there is none.

        Args:
          anew: other settings are no reason to refuse; there is no state then.

        Raises:
          InputError: the folder is something else, or of other settings.
        """
        if not os.path.lexists(self.folder):
            return None
        advice = "remove it, or choose another --out"
        try:
            value = json.loads((self.folder / _FILE).read_bytes())
            known = value["kind"] == _KIND and value["format"] == _FORMAT
            settings = dict(value["settings"])
            state = State.of(value["state"]) if known else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            state = None
        if state is None:
            raise InputError(f"{self.folder} holds no work that can be gone on with: {advice}")
        both = settings.keys() | self.settings.keys()
        other = [key for key in sorted(both) if settings.get(key) != self.settings.get(key)]
        if other and not anew:
            raise InputError(
                f"{self.folder} holds work that was begun with another "
                f"{', '.join(f'--{key}' for key in other)}: go on with the same, {advice}, or begin"
                " anew with --overwrite"
            )
        return None if other else state

    def save(self, state: State) -> None:
        """Writes the state, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        value = {"kind": _KIND, "format": _FORMAT, "settings": self.settings}
        text = json.dumps(value | {"state": asdict(state)}, ensure_ascii=False)
        outputs.write_text(self.folder / _FILE, text)

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
