"""A change that leaves nothing to change: applied to what it made, it makes the same."""

import importlib
from types import ModuleType

from maxlite.corpus.step import Change
from maxlite.errors import InputError


class Settled(Change):
    """A change made until it has nothing more to do, as in `&amp;lt;b&amp;gt;`.

    What one part of it leaves may be what another part looks for. A text without work for it costs
    one look, any other at least two.
    """

    def once(self, text: str) -> str:
        """The text after each part of the change was made once.

        It must not go around in a circle; what only ever shortens a text cannot.
        """
        raise NotImplementedError

    def change(self, text: str) -> str:
        while (changed := self.once(text)) != text:
            text = changed
        return text


def needed(module: str, package: str, what: str) -> ModuleType:
    """A module that maxlite itself can do without.

    Args:
      module: its name.
      package: what pip installs it as.
      what: of the user's needs it.

    Raises:
      InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        why = str(error).partition("\n")[0]
        raise InputError(f"{what} needs {package}: pip install {package} ({why})") from None
